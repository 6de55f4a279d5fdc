"""python -m bench: train on real digits and time training steps on every device.

Without arguments: everything, in less than two minutes on two cores; one table, and
report.json, report.md and report.png in bench/out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

import backends
from backends import Backend, BackendUnavailable
from bench import digits, machine, overhead, peers, report, steps
from bench.workloads import WORKLOADS

DEVICES = ("numpy", "cupy")
ALL = ("digits", *WORKLOADS, "chain")
DTYPES = ("float32", "float64")
STEPS, QUICK_STEPS = 25, 3


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--device",
        nargs="+",
        choices=DEVICES,
        default=DEVICES,
        metavar="NAME",
        help=f"where to run: {', '.join(DEVICES)} (default: wherever it can)",
    )
    parser.add_argument(
        "--workload",
        nargs="+",
        choices=ALL,
        default=ALL,
        metavar="NAME",
        help=f"what to run: {', '.join(ALL)} (default: all)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help=f"measurements of every contender (default {STEPS}); a step shorter "
        "than 20 ms is measured in bursts",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_STEPS} measurements: to see that it runs, not how fast",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help=f"also time {', '.join(peers.PEERS)}, those that are installed",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "out",
        metavar="DIR",
        help="where the report goes (default: bench/out)",
    )
    options = parser.parse_args(arguments)
    if options.steps is None:
        options.steps = QUICK_STEPS if options.quick else STEPS
    return options


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, 1 or more")
    return int(text)


def find_devices(names: tuple[str, ...]) -> tuple[list[Backend], dict[str, str]]:
    """The backends that work here, and why the others do not."""
    found, unavailable = [], {}
    for name in names:
        try:
            found.append(backends.get(name))
        except BackendUnavailable as error:
            unavailable[name] = str(error)
    return found, unavailable


def measure(options: argparse.Namespace, devices: list[Backend]) -> dict[str, Any]:
    """Run what was asked for, behind a progress bar."""
    lengths = {name: digits.EPOCHS if name == "digits" else options.steps for name in ALL}
    chosen = [name for name in ALL if name in options.workload]
    results: dict[str, Any] = {"digits": [], "steps": [], "overhead": []}
    total = len(devices) * sum(lengths[name] for name in chosen)
    with tqdm(total=total, leave=False, file=sys.stderr) as bar:
        for name in chosen:
            for device in devices:
                bar.set_description(f"{name} on {device.name}")
                if name == "digits":
                    results["digits"].append(digits.train(device, options.dtype, bar.update))
                elif name == "chain":
                    results["overhead"] += overhead.measure(
                        device, options.dtype, options.steps, bar.update
                    )
                else:
                    results["steps"] += steps.measure(
                        WORKLOADS[name],
                        device,
                        options.dtype,
                        options.steps,
                        bar.update,
                        options.peers,
                    )
    return results | {"disagreement": digits.disagreement(results["digits"])}


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    devices, unavailable = find_devices(tuple(dict.fromkeys(options.device)))
    if not devices:
        print(*(f"{name}: {reason}" for name, reason in unavailable.items()), sep="\n")
        return 1
    found = {
        "machine": machine.facts(),
        "options": {"dtype": options.dtype, "steps": options.steps},
        "unavailable": unavailable,
        **measure(options, devices),
    }
    print(report.summary(found))
    files = report.write(found, options.out)
    print(f"\nwritten: {', '.join(map(os.path.relpath, files))}")
    if report.Figure is None:
        print("no plot: matplotlib is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
