"""Schedules: learning rates as functions of the number of steps that were taken.

A schedule takes a number or a 0-d array and gives a 0-d float64 array; inside jit the step is
part of the state, so that nothing is compiled anew. Every rate may itself be a schedule: a
warm-up to a cosine is `warmup(100, cosine(1e-3, 1000))`, and `sequence` puts several in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from autodiff.checks import AT_LEAST_ZERO, POSITIVE, Range, real
from autodiff.ops.creation import asarray
from autodiff.ops.elementwise import cos, floor, maximum, minimum, where
from autodiff.ops.manipulation import astype

__all__ = ["constant", "cosine", "exponential", "linear", "one_cycle", "sequence", "step", "warmup"]

Schedule = Callable[[Any], Any]
Rate = float | Schedule


def constant(lr: float) -> Schedule:
    """The same rate at each step."""
    check("constant", AT_LEAST_ZERO, lr=lr)
    return lambda at: value(lr, at)


def step(lr: Rate, every: int, factor: float = 0.1) -> Schedule:
    """The rate times `factor` after each `every` steps: lr * factor**(t // every)."""
    check_rate("step", "lr", lr)
    check("step", POSITIVE, every=every)
    check("step", AT_LEAST_ZERO, factor=factor)
    return lambda at: value(lr, at) * factor ** floor(at_step(at) / every)


def exponential(lr: Rate, factor: float) -> Schedule:
    """lr * factor**t."""
    check_rate("exponential", "lr", lr)
    check("exponential", AT_LEAST_ZERO, factor=factor)
    return lambda at: value(lr, at) * factor ** at_step(at)


def linear(first: float, last: float, steps: int) -> Schedule:
    """From `first` to `last` in a straight line in `steps` steps, and on with that."""
    check("linear", AT_LEAST_ZERO, first=first, last=last)
    check("linear", POSITIVE, steps=steps)
    return lambda at: first + (last - first) * share(at, steps)


def cosine(lr: float, steps: int, last: float = 0.0) -> Schedule:
    """From lr to `last` along half a wave in `steps` steps, and on with that: last + (lr - last) *
    (1 + cos(pi t / steps)) / 2 (Loshchilov and Hutter 2017)."""
    check("cosine", AT_LEAST_ZERO, lr=lr, last=last)
    check("cosine", POSITIVE, steps=steps)
    return lambda at: last + (lr - last) * 0.5 * (1 + cos(math.pi * share(at, steps)))


def warmup(steps: int, then: Rate, first: float = 0.0) -> Schedule:
    """In `steps` steps from `first` in a straight line to where `then` begins, which follows and
    counts its own steps from there."""
    check_rate("warmup", "then", then)
    check("warmup", POSITIVE, steps=steps)
    check("warmup", AT_LEAST_ZERO, first=first)

    def rate(at: Any) -> Any:
        rise = share(at, steps)
        return first * (1 - rise) + rise * value(then, maximum(at_step(at) - steps, 0.0))

    return rate


def one_cycle(
    peak: float, steps: int, rise: float = 0.3, start: float = 25.0, end: float = 1e4
) -> Schedule:
    """Up from peak / start along half a wave in the share `rise` of `steps` steps, and down to
    peak / start / end in the rest (Smith and Topin 2018; PyTorch's numbers). Raises ValueError for
    steps that leave none to either."""
    check("one_cycle", AT_LEAST_ZERO, peak=peak, rise=rise)
    check("one_cycle", POSITIVE, steps=steps, start=start, end=end)
    first, up = peak / start, rise * steps - 1
    if not 0 < up < steps - 1:
        raise ValueError(
            f"one_cycle: rise * steps must be more than 1 and less than steps; got rise={rise}, "
            f"steps={steps}: take more steps, or another share"
        )
    down = cosine(peak, steps - 1 - up, first / end)
    return sequence([cosine(first, up, peak), down], [up])


def sequence(schedules: Sequence[Rate], steps: Sequence[float]) -> Schedule:
    """One schedule after the other, each of which counts from its own begin: all but the last
    for the given numbers of steps, `steps[i]` that of `schedules[i]`."""
    if not hasattr(schedules, "__len__") or not hasattr(steps, "__len__"):
        raise TypeError(f"sequence: takes two lists; got {schedules!r} and {steps!r}")
    if len(steps) != len(schedules) - 1:
        raise ValueError(
            f"sequence: {len(schedules)} schedules need {len(schedules) - 1} numbers of steps, "
            f"one for each but the last; got {len(steps)}"
        )
    for i, lr in enumerate(schedules):
        check_rate("sequence", f"schedules[{i}]", lr)
    check("sequence", POSITIVE, **{f"steps[{i}]": length for i, length in enumerate(steps)})

    def rate(at: Any) -> Any:
        t = at_step(at)
        found, begin = value(schedules[0], t), 0.0
        for schedule, length in zip(schedules[1:], steps, strict=True):
            begin += length
            found = where(t >= begin, value(schedule, maximum(t - begin, 0.0)), found)
        return found

    return rate


# -- parts ---------------------------------------------------------------------------------------


def at_step(at: Any) -> Any:
    return astype(asarray(at), "float64")


def share(at: Any, steps: float) -> Any:
    """How much of `steps` steps is done, at most 1."""
    return minimum(at_step(at) / steps, 1.0)


def value(rate: Rate, at: Any) -> Any:
    return rate(at) if callable(rate) else at_step(at) * 0 + rate


def check(name: str, allowed: Range, **numbers: Any) -> None:
    for argument, x in numbers.items():
        real(name, argument, x, allowed)


def check_rate(name: str, argument: str, rate: Any) -> None:
    """Refuse what is neither a schedule nor a number of 0 or more."""
    if not callable(rate):
        real(name, argument, rate, AT_LEAST_ZERO)
