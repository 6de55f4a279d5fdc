"""python -m bench: train on real digits and time training steps on every device.

Without arguments: everything, in about two minutes on two cores; one table, and
report.json, report.md and report.png in bench/out.

`python -m bench jit`: compiled steps next to eager ones, to steps written by hand, to their
matrix products alone and to other libraries, each contender in a process of its own; in less
than four minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

import backends
from backends import Backend, BackendUnavailable
from bench import digits, kernels, machine, overhead, report, steps, training
from bench.peers import COMPILING, PEERS
from bench.workloads import TRANSFORMER, WORKLOADS

DEVICES = ("numpy", "cupy")
TRAINING = {"learner": training.measure_learner, "adamw": training.measure_adamw}
ALL = ("digits", *WORKLOADS, *TRAINING, "chain")
USUAL = tuple(name for name in ALL if name != TRANSFORMER.name)
JIT = (*WORKLOADS, *TRAINING, "call")
DTYPES = ("float32", "float64")
STEPS, JIT_STEPS, QUICK_STEPS = 25, 11, 3


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number, 1 or more")
    return int(text)


OPTIONS: dict[str, dict[str, Any]] = {
    "command": {
        "nargs": "?",
        "choices": ("jit",),
        "help": f"jit: time compiled steps, {', '.join(JIT)}, {', '.join(COMPILING)} among the "
        "contenders where installed",
    },
    "--device": {
        "nargs": "+",
        "choices": DEVICES,
        "default": DEVICES,
        "metavar": "NAME",
        "help": f"where to run: {', '.join(DEVICES)} (default: wherever it can)",
    },
    "--workload": {
        "nargs": "+",
        "choices": (*ALL, "call"),
        "metavar": "NAME",
        "help": f"what to run: {', '.join(ALL)} (default: all but {TRANSFORMER.name}); "
        f"with jit: {', '.join(JIT)} (default: all)",
    },
    "--steps": {
        "type": positive,
        "metavar": "N",
        "help": f"measurements of every contender (default {STEPS}, {JIT_STEPS} with jit); a "
        "step shorter than 20 ms is measured in bursts",
    },
    "--dtype": {"choices": DTYPES, "default": "float32"},
    "--quick": {
        "action": "store_true",
        "help": f"{QUICK_STEPS} measurements, with jit no peers: to see that it runs, not how fast",
    },
    "--peers": {
        "action": "store_true",
        "help": f"also time {', '.join(PEERS)}, those that are installed",
    },
    "--out": {
        "type": Path,
        "default": Path(__file__).parent / "out",
        "metavar": "DIR",
        "help": "where the report goes (default: bench/out)",
    },
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n\n")[0])
    for name, settings in OPTIONS.items():
        parser.add_argument(name, **settings)
    options = parser.parse_args(arguments)
    known = JIT if options.command else ALL
    if unknown := [name for name in options.workload or () if name not in known]:
        parser.error(f"argument --workload: not here: {unknown[0]!r} (choose from {known})")
    usual = JIT if options.command else USUAL
    options.workload = [name for name in known if name in (options.workload or usual)]
    if options.steps is None:
        usual_steps = JIT_STEPS if options.command else STEPS
        options.steps = QUICK_STEPS if options.quick else usual_steps
    return options


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
    kinds = ("digits", "steps", "training", "overhead", "calls")
    results: dict[str, Any] = {kind: [] for kind in kinds}
    total = len(devices) * sum(
        digits.EPOCHS if name == "digits" else options.steps for name in options.workload
    )
    with tqdm(total=total, leave=False, file=sys.stderr) as bar:
        for name in options.workload:
            for device in devices:
                bar.set_description(f"{name} on {device.name}")
                kind, found = run(name, device, options, bar.update)
                results[kind] += found
    return results | {"disagreement": digits.disagreement(results["digits"])}


def run(
    name: str, device: Backend, options: argparse.Namespace, tick: Callable[[], Any]
) -> tuple[str, list[dict[str, Any]]]:
    """The part of the report that a workload belongs to, and its rows there."""
    timing = device, options.dtype, options.steps, tick
    if name == "digits":
        return "digits", [digits.train(device, options.dtype, tick)]
    if name in TRAINING:
        return "training", TRAINING[name](*timing)
    if name == "chain":
        return "overhead", overhead.measure(*timing)
    if name == "call":
        return "calls", overhead.measure_call(*timing)
    if options.command == "jit":
        with_peers = options.peers or not options.quick
        return "steps", steps.measure_apart(WORKLOADS[name], *timing, with_peers)
    return "steps", steps.measure(WORKLOADS[name], *timing, options.peers)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    devices, unavailable = find_devices(tuple(dict.fromkeys(options.device)))
    if not devices:
        print(*(f"{name}: {reason}" for name, reason in unavailable.items()), sep="\n")
        return 1
    found = {
        "machine": machine.facts(devices),
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


def command() -> int:
    """What `python -m bench` does: main, with the fastest kernels where speed is what it is for."""
    options = parse(None)
    if "numpy" in options.device and not options.quick:
        kernels.run_with_the_fastest("bench")
    return main()


if __name__ == "__main__":
    sys.exit(command())
