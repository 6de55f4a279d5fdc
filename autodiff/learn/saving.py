"""A training as arrays and facts: what a checkpoint holds, and going on from one.

Arrays are called "model/<path>", "optimizer/<path>" and "callbacks/<number>/<name>"; all else is
in `meta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autodiff import checkpoints
from autodiff.checkpoints import CheckpointError, Checkpoints
from autodiff.learn.modes import random_states, set_random_states
from autodiff.nn.module import Module

if TYPE_CHECKING:
    from autodiff.learn.learner import Learner
    from autodiff.learn.loop import Fit

Saved = tuple[dict[str, Any], dict[str, Any]]


def taken(learner: Learner, model: Module, state: dict) -> Saved:
    """A learner between fits, with these arrays."""
    arrays = {f"model/{k}": v for k, v in model.arrays().items()}
    named = learner.optimizer.state_arrays(state)
    arrays |= {f"optimizer/{k}": v for k, v in named.items()}
    meta = {
        "epoch": learner.epoch,
        "steps": learner.step,
        "batch": learner.batch,
        "history": learner.history.rows,
        "random": random_states(learner.model),
    }
    return arrays, meta


def taken_within(fit: Fit) -> Saved:
    """The same in the middle of a fit, with what it needs to go on."""
    arrays, meta = taken(fit.learner, *fit.packed())
    meta |= {"first": fit.first, "last": fit.last, "data": fit.data.state}
    meta |= {"tally": fit.tally.state(), "callbacks": []}
    for i, callback in enumerate(fit.callbacks):
        facts = callback.state()
        own = {name: x for name, x in facts.items() if hasattr(x, "shape")}
        arrays |= {f"callbacks/{i}/{name}": x for name, x in own.items()}
        meta["callbacks"].append({k: v for k, v in facts.items() if k not in own})
    return arrays, meta


def put_back(learner: Learner, saved: Saved, path: Any) -> None:
    """Give a learner what `taken` took. Raises CheckpointError before anything is changed."""
    arrays, meta = saved
    missing = [name for name in FACTS if name not in meta]
    if missing:
        raise CheckpointError(f"{path} is not of a Learner: it has no {', '.join(missing)}")
    model = below(arrays, "model/")
    try:
        checkpoints.check_names(learner.model.arrays(), model, "arrays of the model")
        state = learner.optimizer.load_state(below(arrays, "optimizer/"), learner.model)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    learner.model.assign(model)
    learner.kept = state
    learner.epoch, learner.step, learner.batch = (meta[k] for k in ("epoch", "steps", "batch"))
    learner.history.rows[:] = meta["history"]
    set_random_states(learner.model, meta["random"])


FACTS = ("epoch", "steps", "batch", "history", "random")


def begin(fit: Fit, files: Checkpoints, resume: bool) -> None:
    """Go on from the newest checkpoint if that is wanted; else see that there is none that
    would be mixed up with what is to come."""
    steps = files.steps()
    if not resume:
        if steps and steps[-1] > fit.learner.step:
            raise ValueError(
                f"fit: {files.directory} has checkpoints of step {steps[-1]} already: pass "
                "resume=True to go on from there, or choose another folder"
            )
        return
    saved = files.latest()
    if saved is None:
        return
    arrays, meta = saved
    path = files.path(steps[-1])
    if "data" not in meta:
        raise CheckpointError(f"{path} was not written during a fit")
    try:
        fit.data.state = meta["data"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"fit: not the data of {path}: {error}") from None
    put_back(fit.learner, saved, path)
    states = [
        {**facts, **below(arrays, f"callbacks/{i}/")} for i, facts in enumerate(meta["callbacks"])
    ]
    fit.resume(meta, states)


def below(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def save(learner: Learner, path: Any) -> None:
    checkpoints.save(path, *taken(learner, learner.model, learner.state))


def load(learner: Learner, path: Any) -> None:
    if learner.running is not None:
        raise RuntimeError("Learner.load: not during fit")
    put_back(learner, checkpoints.load(path), path)
