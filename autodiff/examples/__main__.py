"""The command: `python -m autodiff.examples NAME [--out FOLDER]`."""

from __future__ import annotations

import argparse
import importlib
from difflib import get_close_matches
from pathlib import Path

from autodiff.examples import EXAMPLES


def listing() -> str:
    """The examples, a line each."""
    width = max(map(len, EXAMPLES))
    return "\n".join(f"{name:{width}}  {line}" for name, line in EXAMPLES.items())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m autodiff.examples", description=__doc__)
    parser.add_argument("name", nargs="?", help="which example; without it they are listed")
    parser.add_argument("--list", action="store_true", help="list the examples")
    parser.add_argument("--out", type=Path, default=Path("examples-out"), help="folder for plots")
    given = parser.parse_args(arguments)
    if given.name is None or given.list:
        print(listing())
        return
    if given.name not in EXAMPLES:
        near = get_close_matches(given.name, EXAMPLES, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "--list shows those there are"
        parser.error(f"no example is called {given.name!r}; {hint}")
    importlib.import_module(f"autodiff.examples.{given.name}").main(given.out)


if __name__ == "__main__":
    main()
