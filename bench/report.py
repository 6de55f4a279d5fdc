"""What a run found, as a table for the terminal, report.json, report.md and a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

try:
    from matplotlib.figure import Figure
except ImportError:  # the plot is an extra
    Figure = None

from bench import digits, overhead

RATIOS = {  # columns, and what they are in a step's figures
    "/ by hand": "to_by_hand",
    "/ GEMMs": "to_gemms",
    "/ torch": "to_torch",
    "/ eager": "to_eager",
}
HEADER = ("workload", "device", "mode", "time", "GFLOP/s", *RATIOS, "peak MB", "")
BLANK = ("",) * (len(HEADER) - 5)  # for what has a time and a note
Row = tuple[str, ...]

APART = (
    "Every contender ran in a process of its own. Its peak MB are what it took of memory at its "
    "peak during later steps beyond what was taken before the contender was built, its library "
    "loaded and the problem there (so what a compiler left behind counts); those of the first step "
    "include tracing and compiling."
)
MEMORY = {
    "numpy": "On numpy that is the process's resident memory.",
    "cupy": "On cupy that is the GPU's memory, without CUDA's own part, as each library counts it: "
    "CuPy what its pools and those of compiled programs have taken, torch and jax their arrays. "
    "jax counts from the start of its process, the first step included.",
}


def rows(report: dict[str, Any]) -> list[Row]:
    """The table: one row a workload x device x mode."""
    return [
        *(digits_row(run) for run in report["digits"]),
        *(step_row(step) for step in report["steps"]),
        *(limit_row(found) for found in report["training"]),
        *(overhead_row(chain) for chain in report["overhead"]),
        *(call_row(call) for call in report["calls"]),
    ]


def digits_row(run: dict[str, Any]) -> Row:
    met = verdict(run["accuracy"] >= digits.TARGET)
    note = f"{run['accuracy']:.1%} of {run['held_out']} held-out, target {digits.TARGET:.0%}: {met}"
    return ("digits", run["device"], "eager", duration(run["seconds"]), *BLANK, note)


def step_row(step: dict[str, Any]) -> Row:
    peak = step["peak_bytes"]
    return (
        step["workload"],
        step["device"],
        step["mode"],
        duration(step["seconds"]),
        f"{step['gflops']:.0f}",
        *("" if step[key] is None else f"{step[key]:.2f}" for key in RATIOS.values()),
        "" if peak is None else f"{peak / 1e6:.1f}",
        f"{step['title']}{first_step(step)}",
    )


def first_step(step: dict[str, Any]) -> str:
    """What the first step took, where that was measured."""
    if "first_seconds" not in step:
        return ""
    peak = step["first_peak_bytes"]
    memory = "" if peak is None else f", {peak / 1e6:.0f} MB"
    return f"; first step {duration(step['first_seconds'])}{memory}"


def limit_row(found: dict[str, Any]) -> Row:
    """A time next to that of a reference, and whether it keeps within its limit."""
    beyond, limit = found["ratio"] - 1, found["limit"] - 1
    note = (
        f"{beyond:+.1%} to {found['reference']} ({duration(found['reference_seconds'])}), "
        f"limit {limit:+.0%}: {verdict(beyond <= limit)}"
    )
    time = duration(found["seconds"])
    return (found["workload"], found["device"], found["mode"], time, *BLANK, note)


def overhead_row(chain: dict[str, Any]) -> Row:
    met = verdict(chain["ratio"] <= overhead.TARGET)
    note = f"an op = {chain['ratio']:.1f} bare calls, target {overhead.TARGET:.0f}: {met}"
    time = duration(chain["seconds"])
    return ("chain", chain["device"], chain["chain"], time, *BLANK, note)


def call_row(call: dict[str, Any]) -> Row:
    beyond, target = call["beyond_seconds"], overhead.CALL_TARGET
    met = verdict(beyond <= target)
    note = f"{duration(beyond)} beyond its work, target {duration(target)}: {met}"
    time = duration(call["seconds"])
    return ("call", call["device"], call["call"], time, *BLANK, note)


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def table(lines: list[Row]) -> str:
    """Markdown, with columns as wide as they need: legible as it stands. A column that nobody
    fills is left out."""
    filled = [i for i in range(len(HEADER)) if not lines or any(line[i] for line in lines)]
    header, *lines = (tuple(line[i] for i in filled) for line in (HEADER, *lines))
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    rule = tuple("-" * width for width in widths)
    padded = (map(str.ljust, line, widths) for line in (header, rule, *lines))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def summary(report: dict[str, Any]) -> str:
    """The table, and around it what it does not say."""
    machine = report["machine"]
    dtype = report["options"]["dtype"]
    kernels = f" ({machine['kernels']} kernels)" if machine["kernels"] else ""
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores; NumPy {machine['numpy']}, "
        f"{machine['blas']}{kernels}, Python {machine['python']}{libraries(machine)}; {dtype}",
        *(f"{g['name']}, driver {g['driver']}, CUDA {g['cuda']}" for g in machine["gpus"]),
        *(f"{name}: {reason}" for name, reason in report["unavailable"].items()),
        table(rows(report)),
    ]
    if report["digits"]:
        parts.append(agreement(report))
    if any("first_seconds" in step for step in report["steps"]):
        devices = dict.fromkeys(step["device"] for step in report["steps"])
        parts += [" ".join([APART, *map(MEMORY.__getitem__, devices)]), *losses(report["steps"])]
    return "\n\n".join(parts)


def libraries(machine: dict[str, Any]) -> str:
    return "".join(f", {name} {version}" for name, version in machine["libraries"].items())


def losses(steps: list[dict[str, Any]]) -> list[str]:
    """How far contenders' losses after the same steps are apart, for each workload."""
    found: dict[tuple, list[float]] = {}
    for step in steps:
        if step.get("loss") is not None:
            found.setdefault((step["workload"], step["device"]), []).append(step["loss"])
    lines = [
        f"{workload} on {device}: losses of the fourth step ({len(values)} contenders) within "
        f"{(max(values) - min(values)) / abs(min(values)):.1e} of each other"
        for (workload, device), values in found.items()
        if len(values) > 1
    ]
    return ["\n".join(lines)] if lines else []


def agreement(report: dict[str, Any]) -> str:
    devices = ", ".join(run["device"] for run in report["digits"])
    if report["disagreement"] is None:
        return f"digits: one device ({devices}), so no loss curves to compare"
    return f"digits: loss curves on {devices} differ by {report['disagreement']:.1e} at most"


def write(report: dict[str, Any], out: Path) -> list[Path]:
    """Write the files; gives their paths. There is a plot if there is something to plot, and
    matplotlib to do it with."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "report.json", out / "report.md"]
    files[0].write_text(json.dumps(report, indent=2) + "\n")
    files[1].write_text(f"# Benchmark\n\n{summary(report)}\n")
    if Figure is not None and panels(report):
        files.append(out / "report.png")
        plot(report).savefig(files[-1], dpi=120)
    return files


def plot(report: dict[str, Any]) -> Any:
    """A panel for the digits and one for the steps, of those that were run."""
    drawn = panels(report)
    widths = [5.5 if draw is plot_losses else max(5.5, len(data) / 4) for draw, data in drawn]
    figure = Figure(figsize=(sum(widths), 4.5), layout="constrained")
    row = figure.subplots(1, len(drawn), squeeze=False, width_ratios=widths)[0]
    for axes, (draw, data) in zip(row, drawn, strict=True):
        draw(axes, data)
    return figure


def panels(report: dict[str, Any]) -> list[tuple[Any, list]]:
    """What there is to draw, and by which function: losses, and steps that have a floor."""
    steps = [step for step in report["steps"] if step["to_gemms"] is not None]
    both = ((plot_losses, report["digits"]), (plot_ratios, steps))
    return [(draw, data) for draw, data in both if data]


def plot_losses(axes: Any, runs: list[dict[str, Any]]) -> None:
    for run, style in zip(runs, ("-", "--", ":") * len(runs), strict=False):
        epochs = range(1, len(run["losses"]) + 1)
        label = f"{run['device']}, {run['accuracy']:.1%} held-out"
        axes.semilogy(epochs, run["losses"], style, label=label)
    axes.set(title="digits: training loss", xlabel="epoch", ylabel="cross-entropy")
    axes.legend()


def plot_ratios(axes: Any, steps: list[dict[str, Any]]) -> None:
    """A bar for each workload x device x mode: its time in multiples of its GEMMs' time."""
    modes = list(dict.fromkeys(step["mode"] for step in steps if step["to_gemms"] != 1))
    groups = list(dict.fromkeys((step["workload"], step["device"]) for step in steps))
    width = 0.8 / max(1, len(modes))
    for i, mode in enumerate(modes):
        own = [step for step in steps if step["mode"] == mode]
        places = [groups.index((s["workload"], s["device"])) + i * width for s in own]
        bars = axes.bar(places, [s["to_gemms"] for s in own], width, label=mode)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    centers = [i + width * (len(modes) - 1) / 2 for i in range(len(groups))]
    axes.set_xticks(centers, [f"{workload}\n{device}" for workload, device in groups])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(title="a training step in multiples of its matrix products", ylabel="/ GEMMs")
    axes.legend()
