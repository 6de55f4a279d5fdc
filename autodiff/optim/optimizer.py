"""What all optimizers share: one rule, and the three ways in which it is used.

    params, state = opt.update(params, grads, state)   # a function of values, inside jit too
    loss.backward(); opt.step(); opt.zero_grad()       # on Tensors that it was given
    train = opt.minimize(loss)                         # a node of a graph

All three go through `begin` (the state of some variables) and `advance` (one step), which
take dictionaries of Tensors by name. Most optimizers only have a `rule` for one variable.
The rule meets real arrays of single precision or better: it sees a complex variable as its
real and imaginary parts, and a half-precision one in float32 (as are its slots).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from numbers import Real
from typing import Any

from autodiff import tree
from autodiff.checks import AT_LEAST_ZERO, BELOW_ONE, POSITIVE, real
from autodiff.core import NUMBERS, ROOT
from autodiff.errors import kinds
from autodiff.graph.compile import EXACT
from autodiff.graph.face import Symbol, Update, Variable
from autodiff.graph.jit import jit
from autodiff.graph.optimizers import Minimizer
from autodiff.inplace import rebind
from autodiff.ops.creation import zeros_like
from autodiff.ops.manipulation import astype
from autodiff.optim.clipping import by_norm
from autodiff.optim.leaves import (
    LATE,
    check_arrays,
    constant,
    described,
    filled,
    flat,
    leaves_of,
    like,
    loaded,
    lowered,
    matched,
    opened,
    plain,
    restored,
)
from backends.base import dtype_name

Rate = float | Callable[[Any], Any]
# Attributes of an optimizer that are no constants of its steps.
CHANGING = ("lr", "named", "covered", "state", "known", "facts", "program")


class Optimizer(Minimizer):
    """A rule for going down a gradient.

    A subclass names in `slots` what it keeps for each variable (each begins at zero), and has
    `rule(w, g, slots, step, lr) -> (w, slots)`, made of public ops.

    Parameters
    ----------
    lr : the learning rate: a number or a schedule, a function of the number of steps that were
        taken (a 0-d array). Another number may be set at any time: `step()` and the Learner go on
        by that; a step that you compiled keeps the one it was compiled with.
    parameters : for `step()`: a Module, or a tree of Tensors that require a gradient.
    clip : what is done to the gradients first: a number, to which their norm (of all
        together) is limited; or a function of a tree of gradients.

    Raises
    ------
    ValueError
        A negative learning rate, or one that is not finite.
    TypeError
        A learning rate that is something else, as a Module.
    """

    slots: tuple[str, ...] = ()

    def __init__(
        self, lr: Rate, parameters: Any = None, clip: float | Callable | None = None
    ) -> None:
        own = type(self).__name__
        self.lr = checked_rate(own, lr)
        chosen = clip is None or callable(clip)
        self.clip = clip if chosen else real(own, "clip", clip, POSITIVE)
        self.named = None if parameters is None else leaves_of(own, parameters)
        self.covered = {name for name, w in (self.named or {}).items() if w.requires_grad}
        self.state: dict | None = None  # of `step()`, for what is covered
        self.known: dict[tuple, dict] = {}  # what states look like, by the variables
        self.facts: dict | None = None  # what `step()` went by last
        self.program: Callable | None = None  # it compiled

    def __repr__(self) -> str:
        lr = self.lr if type(self.lr) in NUMBERS else getattr(self.lr, "__name__", "schedule")
        return f"{type(self).__name__}(lr={lr})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "program": None}  # a copy compiles its own

    # -- one step of all variables ---------------------------------------------------------------

    def rule(self, w: Any, g: Any, slots: dict[str, Any], step: Any, lr: Any) -> tuple[Any, dict]:
        """One variable and its slots after a step down its gradient. `step` counts from 1; it
        and `lr` (unless that is a number) are 0-d and have the dtype of w."""
        raise NotImplementedError

    def slots_of(self, w: Any) -> dict[str, Any]:
        """The slots of a variable before the first step."""
        return {slot: zeros_like(w) for slot in self.slots}

    def begin(self, ws: dict[str, Any], old: dict | None = None) -> dict[str, Any]:
        """The state for some variables: a tree of arrays. What `old`, a state of other variables,
        knows of these stays, and the others count their steps from now."""
        if old is None:
            slots = {name: self.slots_of(plain(w)) for name, w in ws.items()}
            return {"step": filled(next(iter(ws.values())), (), 0, "int64"), "slots": slots}
        step, slots = old["step"], dict(old["slots"])
        for name in ws.keys() - slots.keys():
            slots[name] = {**self.slots_of(plain(ws[name])), LATE: step}
        return {"step": step, "slots": {name: slots[name] for name in ws}}

    def advance(self, ws: dict, gs: dict, state: dict) -> tuple[dict, dict]:
        """All variables and the state after one step."""
        gs = self.clipped(gs)
        rate, step = self.rate(state["step"]), state["step"] + 1
        new, slots = {}, dict(state["slots"])
        for name, w in ws.items():
            x, own = plain(w), state["slots"][name]
            late = {LATE: own[LATE]} if LATE in own else {}
            g, t = plain(gs[name], x.dtype), astype(step - late[LATE] if late else step, x.dtype)
            y, after = self.rule(x, g, own, t, like(rate, x))
            new[name], slots[name] = restored(y, w), {**after, **late}
        return new, {"step": step, "slots": slots}

    def clipped(self, gs: dict) -> dict:
        if not callable(self.clip):
            return gs if self.clip is None else by_norm(gs, self.clip)
        found = self.clip(gs)
        if not isinstance(found, dict) or found.keys() != gs.keys():
            raise TypeError(
                f"{type(self).__name__}: clip must give a tree of gradients like the one it takes; "
                f"got {type(found).__name__} for {', '.join(gs)}"
            )
        return found

    def rate(self, step: Any) -> Any:
        """The learning rate after a number of steps."""
        return self.lr(step) if callable(self.lr) else self.lr

    def scaled(self, loss: Any, state: dict | None = None) -> Any:
        """The loss whose gradients the optimizer wants; it is the loss itself, unless the
        optimizer scales it (MixedPrecision). `state` is by default that of `step()`."""
        return loss

    # -- values ----------------------------------------------------------------------------------

    def init(self, params: Any, state: dict | None = None) -> dict[str, Any]:
        """The state for a tree of parameters, before the first step: a tree of arrays. From a
        `state` for others (some were frozen, or are no more) what is known of these stays."""
        where = f"{type(self).__name__}.init"
        ws, _, raw = opened(where, params)
        fresh = self.begin(ws)
        if state is None:
            return lowered(fresh, raw)
        if not isinstance(state, Mapping) or state.keys() != fresh.keys():
            got = ", ".join(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise TypeError(f"{where}: a state has {', '.join(fresh)}; got {got}")
        found = self.begin(ws, tree.map(constant, state))
        self.check_state(where, ws, found)
        return lowered(found, raw)

    def update(self, params: Any, grads: Any, state: dict) -> tuple[Any, dict]:
        """Parameters and state after one step. Nothing that is given is changed; of a Module
        what is frozen and its buffers stay.

        Raises
        ------
        ValueError
            Gradients or a state of other parameters than these; the message names which.
        """
        where = f"{type(self).__name__}.update"
        ws, structure, raw = opened(where, params)
        gs, raw_too = matched(where, ws, structure, grads)
        self.check_state(where, ws, state, "; init(params, state) keeps of it what fits")
        new, after = self.advance(ws, gs, tree.map(constant, state))
        raw = raw and raw_too
        return tree.unflatten(structure, lowered(list(new.values()), raw)), lowered(after, raw)

    # -- Tensors with a gradient -----------------------------------------------------------------

    def step(self) -> None:
        """Move the parameters that the optimizer was given down their `.grad`. What is frozen
        stays, and is moved again when it is no more. From the second time on this is a compiled
        program, where all that it goes by is this library's own and numbers; the learning rate may
        change all the same.

        Raises
        ------
        ValueError
            A parameter has no gradient; the message names it. Nothing is changed then.
        """
        ws = self.trained("step")
        apart = [name for name, w in ws.items() if w.grad is None]
        if apart:
            raise ValueError(
                f"{type(self).__name__}.step: no gradient for {', '.join(apart)}: call backward() "
                "on a loss that depends on them first, or leave them out (freeze them)"
            )
        gs = {name: constant(w.grad) for name, w in ws.items()}
        new, self.state = self.advanced({k: constant(w) for k, w in ws.items()}, gs)
        for name, w in ws.items():
            rebind(w, new[name])

    def advanced(self, ws: dict, gs: dict) -> tuple[dict, dict]:
        """`advance` from the current state: compiled, to the same bits, as soon as it goes by what
        it went by the step before. The learning rate may be another each time."""
        state, facts = self.current(ws), self.constants()
        alike = facts is not None and facts == self.facts
        self.facts, self.program = facts, self.program if alike else None
        plain = all(w.interp is ROOT for w in (*ws.values(), *gs.values()))
        if not (alike and ws and plain):
            return self.advance(ws, gs, state)
        if self.program is None:
            home = next(iter(ws.values())).backend.name
            self.program = jit(self.advance_at, precision=EXACT if home == "numpy" else None)
        return self.program(ws, gs, state, self.lr)

    def advance_at(self, ws: dict, gs: dict, state: dict, lr: float) -> tuple[dict, dict]:
        return self.at_rate(lr).advance(ws, gs, state)

    def at_rate(self, lr: Any) -> Optimizer:
        """The same with another learning rate."""
        found = copy(self)
        found.lr = lr
        return found

    def constants(self) -> dict | None:
        """What a step goes by beside its arguments, where that is numbers and this library's own
        functions; None if there may be something in it that a program would not ask for again."""
        ours = type(self).__module__.startswith(f"{__package__}.")
        facts = {k: v for k, v in vars(self).items() if k not in CHANGING}
        plain = all(isinstance(v, (Real, str, tuple, type(None))) for v in facts.values())
        return facts if ours and plain and type(self.lr) in NUMBERS else None

    def zero_grad(self) -> None:
        """Forget the gradients that `.backward()` has added up."""
        for w in self.trained("zero_grad").values():
            w.grad = None

    def trained(self, method: str) -> dict[str, Any]:
        """What it was given and is not frozen now."""
        if self.named is None:
            own = type(self).__name__
            raise ValueError(
                f"{own}.{method}: it was given no parameters: write {own}(..., parameters=model); "
                "or call update(params, grads, state)"
            )
        return {name: w for name, w in self.named.items() if w.requires_grad}

    def cover(self, trained: dict[str, Any]) -> dict[str, Any]:
        """What has a state in `step()`: all that was trained so far, or is now."""
        self.covered |= trained.keys()
        return {name: constant(w) for name, w in self.named.items() if name in self.covered}

    def current(self, trained: dict[str, Any] | None = None) -> dict[str, Any]:
        """The state of `step()`; of what has come to be trained since, it begins now."""
        trained = self.trained("step") if trained is None else trained
        if self.state is None or not self.covered.issuperset(trained):
            self.state = self.begin(self.cover(trained), self.state)
        return self.state

    # -- checkpoints -----------------------------------------------------------------------------

    def state_arrays(self, state: dict | None = None) -> dict[str, Any]:
        """Every array of a state by name ("slots/weight/m"); by default of that of `step()`."""
        return flat(self.current() if state is None else state)

    def load_state(self, arrays: Mapping[str, Any], params: Any = None) -> dict[str, Any]:
        """The state for `params` from arrays as `state_arrays` gives them; by default for
        `step()`, which goes on from it.

        Raises
        ------
        TypeError
            Something else than arrays by name.
        ValueError
            Arrays that are missing, too many, or of another shape or dtype, by name.
        """
        where = f"{type(self).__name__}.load_state"
        if not isinstance(arrays, Mapping):
            raise TypeError(f"{where}: arrays are given by name; got {type(arrays).__name__}")
        if params is None:
            ws, raw = self.cover(self.trained("load_state")), False
        else:
            ws, _, raw = opened(where, params)
        state = self.begin(ws)
        check_arrays(where, described(state), kinds(arrays))
        state = loaded(state, arrays, next(iter(ws.values())))
        if params is None:
            self.state = state
        return lowered(state, raw)

    def check_state(self, where: str, ws: dict, state: Any, advice: str = "") -> None:
        """Refuse a state that is not one of these variables."""
        key = tuple((name, w.shape, dtype_name(w.dtype)) for name, w in ws.items())
        if key not in self.known:
            self.known[key] = described(self.begin(ws))
        check_arrays(where, self.known[key], described(state), advice)

    # -- nodes -----------------------------------------------------------------------------------

    def minimize(
        self, loss: Symbol, var_list: Iterable[Variable] | None = None, name: str | None = None
    ) -> Update:
        """A node that takes one step down the gradient of `loss` when it is fetched. The state
        is variables too, which are not trainable. See Minimizer for arguments and errors."""
        pairs = self.compute_gradients(loss, var_list)
        state = self.state_variables(pairs, name)
        scaled = self.scaled(loss, state)
        if scaled is not loss:
            pairs = self.compute_gradients(scaled, [w for _, w in pairs])
        return self.stored(pairs, state, name)

    def applied(self, pairs: list[tuple[Symbol, Variable]], name: str | None) -> Update:
        return self.stored(pairs, self.state_variables(pairs, name), name)

    def state_variables(self, pairs: Sequence, name: str | None) -> dict[str, Any]:
        """The state as variables: "weight/m", "Adam/step"."""
        graph = pairs[0][1].graph
        state = self.begin({w.name: w.initial for _, w in pairs})
        paths = [path.removeprefix("slots/") for path in flat(state)]
        own = name or type(self).__name__
        names = [path if path.count("/") else f"{own}/{path}" for path in paths]
        leaves, structure = tree.flatten(state)
        both = zip(names, map(graph.node, leaves), strict=True)
        return tree.unflatten(structure, [Variable(x, trainable=False, name=n) for n, x in both])

    def stored(self, pairs: Sequence, state: dict, name: str | None) -> Update:
        ws = {w.name: w for _, w in pairs}
        new, after = self.advance(ws, {w.name: g for g, w in pairs}, state)
        targets = [*ws.values(), *tree.flatten(state)[0]]
        values = [*new.values(), *tree.flatten(after)[0]]
        fitting = [
            (v, v.fitting(astype(x, v.dtype, copy=False)))
            for v, x in zip(targets, values, strict=True)
        ]
        return Update(pairs[0][1].graph, fitting, name or type(self).__name__)


class Around(Optimizer):
    """An optimizer that does something before or after what another one does."""

    def __init__(self, optimizer: Optimizer, parameters: Any = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"{type(self).__name__}: optimizer must be one of autodiff.optim; got "
                f"{type(optimizer).__name__}"
            )
        self.inner = optimizer
        super().__init__(optimizer.lr, parameters)
        if parameters is None:
            self.named, self.covered = optimizer.named, set(optimizer.covered)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    @property
    def lr(self) -> Any:
        """That of the other optimizer."""
        return self.inner.lr

    @lr.setter
    def lr(self, lr: Any) -> None:
        self.inner.lr = lr

    def at_rate(self, lr: Any) -> Optimizer:
        found = copy(self)
        found.inner = self.inner.at_rate(lr)
        return found

    def scaled(self, loss: Any, state: dict | None = None) -> Any:
        return self.inner.scaled(loss, (self.current() if state is None else state)["inner"])


# -- checks of arguments --------------------------------------------------------------------------


def checked_rate(where: str, lr: Any) -> Rate:
    """A learning rate, unless it is what other libraries' optimizers take first."""
    is_rate = isinstance(lr, Real) or callable(lr) or getattr(lr, "ndim", None) == 0
    if not is_rate or any(getattr(leaf, "ndim", 0) for leaf in tree.flatten(lr)[0]):
        raise TypeError(
            f"{where}: lr is a number, or a function of the number of steps; got "
            f"{type(lr).__name__}. Parameters are given by name: {where}(1e-3, parameters=model)"
        )
    return lr if callable(lr) else real(where, "lr", lr, AT_LEAST_ZERO)


def at_least_zero(where: str, **values: Any) -> tuple:
    """Numbers, none of which is negative."""
    return tuple(real(where, name, x, AT_LEAST_ZERO) for name, x in values.items())


def checked_betas(where: str, betas: Any) -> tuple:
    """How much of each of two averages stays in a step."""
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise ValueError(f"{where}: betas must be two numbers, (b1, b2); got {betas!r}") from None
    return real(where, "beta1", beta1, BELOW_ONE), real(where, "beta2", beta2, BELOW_ONE)
