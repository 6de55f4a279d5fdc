"""jit: a function staged once for each structure, shapes and dtypes of its arguments, rewritten,
planned, and run from then on as a compiled program."""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import backends
from autodiff import errors, tree
from autodiff.core import ROOT, Tensor, box, home_of, user_line
from autodiff.graph.arguments import (
    TAPED,
    TRACED,
    argument_names,
    check_plain,
    check_positions,
    fingerprint,
    input_for,
    is_array,
    is_dynamic,
    is_turned,
    positional,
)
from autodiff.graph.calls import RUN, callee
from autodiff.graph.cells import watched, write
from autodiff.graph.compile import PRECISIONS, Compiled
from autodiff.graph.flow import drawing_before
from autodiff.graph.ir import Program, described
from autodiff.graph.routine import replaced
from autodiff.graph.shortcut import MISSED, shortcut
from autodiff.graph.stage import LARGE, Outside, innermost, size_of, stage, writing_beside
from autodiff.keys import static_key
from autodiff.transforms import Argnums, argument_numbers, check_function

CacheInfo = namedtuple("CacheInfo", "hits misses currsize")
MANY = 64  # programs of a function are worth a word
MOST = 256  # programs of a function are kept


_jitted: WeakValueDictionary[int, Jitted] = WeakValueDictionary()


def forget_programs() -> None:
    """Have every jitted function compile anew: what programs were made by has changed."""
    for found in _jitted.valuerefs():  # other threads may add to them
        jitted = found()
        if jitted is not None:
            jitted.cache_clear()


class Jitted:
    """A function that compiles itself for each kind of arguments. See jit."""

    def __init__(
        self,
        f: Callable,
        static: Sequence[int],
        donate: Sequence[int],
        precision: str | None = None,
    ) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.name = f"jit of {getattr(f, '__name__', f)}"
        self.parameters = positional(f)
        self.static = tuple(static)
        self.donate = tuple(donate)
        self.precision = precision
        self.made_of = (f, self.static, self.donate, precision)
        self.cache: dict[Any, Entry | Recorded] = {}
        self.last: Entry | Recorded | None = None  # that ran
        self.shortcut: Callable | None = None  # for arguments like those of the last call
        self.hits = self.misses = 0
        self.warned: set[str] = set()
        _jitted[id(self)] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        short = None if kwargs else self.shortcut
        if short is not None:
            result = short(*args)
            if result is not MISSED:
                self.hits += 1
                return result
        leaves, key = self.opened(args, kwargs)
        entry = self.cache.get(key)
        if entry is not None:
            self.hits += 1
        else:
            entry = self.entry_for(key, args, kwargs)
            if entry is None:
                with writing_beside(leaves):
                    return self.f(*args, **kwargs)
            self.keep(key, entry)
        if entry.draws_numbers and innermost() is not None:
            return self.f(*args, **kwargs)  # whoever is staged here draws them anew in each run
        self.last, self.shortcut = entry, entry.shortcut
        return entry.result(entry.run(leaves), args, kwargs)

    def entry_for(self, key: tuple, args: tuple, kwargs: dict) -> Entry | Recorded | None:
        """A program; None where whoever looks at the arguments, or at what the function closes
        over, is to see its ops."""
        if TRACED in key:
            return None
        kind = Recorded if TAPED in key else Entry
        try:
            return kind(self, args, kwargs)
        except Outside as error:
            if kind is Entry and error.by is ROOT:
                raise
            return None

    def keep(self, key: tuple, entry: Entry | Recorded) -> None:
        """Put a program where the next call of its kind finds it, in place of the oldest if there
        are too many."""
        self.cache[key] = entry
        self.misses += 1
        if self.misses == MANY:
            warnings.warn(
                f"{self.name}: at {user_line()}: this is program number {MANY}, one for each kind "
                "of arguments. Python integers and strings are part of a program, shapes, too: "
                "pass a number that changes as a float or an array; arrays padded to few sizes",
                stacklevel=3,
            )
        for old in list(self.cache)[:-MOST]:
            self.cache.pop(old, None)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Of a method, the function with its first argument."""
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> Any:
        """By its name where it has one, or made anew: programs stay behind."""
        found: Any = sys.modules.get(self.__dict__.get("__module__", ""))
        for part in self.__dict__.get("__qualname__", "").split("."):
            found = getattr(found, part, None)
        return self.__qualname__ if found is self else (type(self), self.made_of)

    @property
    def plan(self) -> Any:
        """What ran last: print it to see the code or the steps, on CuPy also whether they are
        captured or why not."""
        if self.last is None:
            raise RuntimeError(
                f"{self.name}: nothing has run yet; .lower(*args).plan is the plan for arguments"
            )
        return self.last.compiled.plan

    def opened(self, args: tuple, kwargs: dict) -> tuple[list, tuple]:
        """The leaves of the arguments, and what the program depends on."""
        leaves: list = []
        key: list = self.static_values(args, kwargs) if self.static else []
        fingerprint(args, leaves, key)
        if kwargs:
            key.append(tuple(kwargs))
            fingerprint(kwargs.values(), leaves, key)
        if not any(map(is_array, leaves)):
            key.append(backends.current())
        return leaves, tuple(key)

    def static_values(self, args: tuple, kwargs: dict) -> list:
        found: list = []
        for place in self.marked(self.static, args, kwargs):
            value = args[place] if isinstance(place, int) else kwargs[place]
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{self.name}: static argument {place} is a {type(value).__name__}, which is "
                    "not hashable: pass a tuple or a frozen dataclass in its place"
                ) from None
            found += (place, static_key(value))
        return found

    def marked(self, argnums: Sequence[int], args: tuple, kwargs: dict) -> list[int | str]:
        """Where the arguments at some positions are: numbers of `args` or names of `kwargs`; what
        is left out is nowhere."""
        count = max(len(args), len(self.parameters))
        found: list[int | str] = []
        for i in argnums:
            place = i + count if i < 0 else i
            if 0 <= place < len(args):
                found.append(place)
            elif 0 <= place < len(self.parameters) and self.parameters[place] in kwargs:
                found.append(self.parameters[place])
        return found

    def marked_leaves(self, argnums: Sequence[int], args: tuple, kwargs: dict) -> set[int]:
        """The numbers of the leaves of the arguments at some positions."""
        chosen, places, start = self.marked(argnums, args, kwargs), set(), 0
        for place, arg in (*enumerate(args), *kwargs.items()):
            count = len(tree.flatten(arg)[0])
            if place in chosen:
                places.update(range(start, start + count))
            start += count
        return places

    def lower(self, *args: Any, **kwargs: Any) -> Compiled:
        """The program for these arguments: print its `.before`, `.after` and `.plan`. That of
        the runs, if there were some."""
        entry = self.cache.get(self.opened(args, kwargs)[1])
        return (entry or Entry(self, args, kwargs)).compiled

    def memory(self, *args: Any, **kwargs: Any) -> Any:
        """What a run would take at its peak, in bytes, before running; and who holds it (on CuPy
        how much its captured graphs do). What a single call of the backend takes for itself while
        it runs (a sort's copy; on other backends than NumPy, the bits of random numbers) is not
        among it."""
        return self.lower(*args, **kwargs).memory()

    def cache_info(self) -> CacheInfo:
        """(hits, misses, currsize), as functools.lru_cache tells it."""
        return CacheInfo(self.hits, self.misses, len(self.cache))

    def cache_clear(self) -> None:
        """Forget all programs, and with them the memory they run in: the next call compiles anew.
        For functions that have met many shapes they will not meet again."""
        self.cache.clear()
        self.last = self.shortcut = None


class JittedTree(Jitted):
    """The same for a callable that is itself a tree of arrays, such as a model: it is an argument
    like the others, so that its arrays are inputs of the program and may change."""

    def __init__(
        self, f: Callable, static: Sequence[int], donate: Sequence[int], *rest: Any
    ) -> None:
        moved = [[i + 1 if i >= 0 else i for i in places] for places in (static, donate)]
        super().__init__(applied, *moved, *rest)
        self.made_of = (f, tuple(static), tuple(donate), *rest)
        self.tree = f
        self.name = f"jit of a {type(f).__name__}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(tree.as_function(self.tree), *args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Compiled:
        return super().lower(tree.as_function(self.tree), *args, **kwargs)


def applied(model: Callable, *args: Any, **kwargs: Any) -> Any:
    return model(*args, **kwargs)


class Staged:
    """A function staged for one kind of arguments: its program, and how arguments and results go
    in and out of it. What it writes into cells of its arguments are the last of the results;
    `written` are the numbers of the cells."""

    shortcut: Callable | None = None

    def __init__(self, owner: Jitted, args: tuple, kwargs: dict) -> None:
        leaves, structure = tree.flatten((args, kwargs))
        static = owner.marked_leaves(owner.static, args, kwargs)
        self.places = [i for i, x in enumerate(leaves) if is_dynamic(x) and i not in static]
        names = argument_names(owner.parameters, args, kwargs)
        arrays = {names[i]: leaves[i] for i in self.places if is_array(leaves[i])}
        self.backend = backend_of(owner, arrays)
        self.has_arrays = bool(arrays)
        self.raw = not any(isinstance(leaves[i], Tensor) for i in self.places)
        self.all_dynamic = len(self.places) == len(leaves)
        self.turned = [k for k, i in enumerate(self.places) if is_turned(leaves[i])]
        inputs = [input_for(names[i], leaves[i]) for i in self.places]

        def run(tensors: list) -> tuple:
            positional, named = tree.unflatten(structure, replaced(leaves, self.places, tensors))
            given = (positional, named)
            result, written, values = watched(lambda: owner.f(*positional, **named), given)
            results, found = tree.flatten(result)
            return [*results, *values], (found, written)

        self.program, (self.structure, self.written) = stage(run, inputs, self.backend)
        self.draws_numbers = self.program.draws_numbers()
        warn_of_constants(owner, self.program)

    def dynamic(self, leaves: list) -> list:
        found = leaves if self.all_dynamic else [leaves[i] for i in self.places]
        for k in self.turned:
            found[k] = self.backend.in_native_order(found[k])
        return found

    def result(self, found: list, args: tuple, kwargs: dict) -> Any:
        """What the function returns, its cells written."""
        count = len(found) - len(self.written)
        write((args, kwargs), self.written, found[count:])
        return tree.unflatten(self.structure, found[:count])


class Entry(Staged):
    """One compiled program."""

    def __init__(self, owner: Jitted, args: tuple, kwargs: dict) -> None:
        super().__init__(owner, args, kwargs)
        donated = owner.marked_leaves(owner.donate, args, kwargs)
        gone = [i for i, place in enumerate(self.places) if place in donated]
        self.compiled = Compiled(self.program, gone, precision=owner.precision)
        if self.has_arrays and not (kwargs or self.written or self.turned):
            run = self.compiled.plan.run
            alone = innermost if self.draws_numbers else None
            self.shortcut = shortcut(args, self.places, run, self.structure, alone)

    def run(self, leaves: list) -> list:
        found = self.compiled(self.dynamic(leaves))
        if self.raw:
            return found
        return [box(self.backend.hold(y), ROOT, self.backend, None) for y in found]


class Recorded(Staged):
    """A program that tapes record as one op. Nothing is donated to it: the way back reads it."""

    def __init__(self, owner: Jitted, args: tuple, kwargs: dict) -> None:
        super().__init__(owner, args, kwargs)
        program = drawing_before(self.program)
        self.draws = program.draws()
        self.callee = callee(program, owner.precision)

    @property
    def compiled(self) -> Compiled:
        """What runs forward, and returns, too, what the way back reads."""
        return next(iter(self.callee.ready.values()), self.callee).program_with(0)

    def run(self, leaves: list) -> list:
        drawn = [node.draw() for node in self.draws]
        return list(RUN(*self.dynamic(leaves), *drawn, routine=self.callee))


def warn_of_constants(owner: Jitted, program: Program) -> None:
    """A word, once for each function, shape and dtype, on large arrays that a program keeps."""
    for node in large_constants(program):
        what = described(node)
        if what not in owner.warned:
            owner.warned.add(what)
            megabytes = size_of(node.value, program.backend) / 2**20
            line = node.line or user_line()
            file, _, number = line.rpartition(":")
            message = (
                f"{owner.name}: at {line}: an array {what} of {megabytes:.1f} MB "
                "is not among the arguments and becomes a constant that the program keeps; pass it "
                "as an argument"
            )
            warnings.warn_explicit(message, UserWarning, file, int(number))


def large_constants(program: Program) -> list:
    """The arrays in memory that a program and the routines in it hold."""
    found = [x for x in program.constants() if size_of(x.value, program.backend) > LARGE]
    return found + [x for inner in program.routines() for x in large_constants(inner.program)]


def backend_of(owner: Jitted, arrays: dict[str, Any]) -> backends.Backend:
    """The one to which all of the arguments belong."""
    homes = {name: home_of(x) for name, x in arrays.items()}
    for name, home in homes.items():
        if home is None:
            raise TypeError(
                f"{owner.name}: argument {name} is a {type(arrays[name]).__name__}, an array of no "
                "backend that is in use; make it one with autodiff.asarray"
            )
    backend = next(iter(homes.values()), None) or backends.current()
    if any(home is not backend for home in homes.values()):
        raise errors.mixed(owner, list(arrays.values()))
    return backend


def jit(
    f: Callable | None = None,
    static_argnums: Argnums = (),
    donate_argnums: Argnums = (),
    precision: str | None = None,
) -> Any:
    """A function that does what f does, compiled. Without f, a decorator.

    f runs once for each structure, shapes and dtypes of its arguments, on staged values; what
    it did is rewritten, planned into few buffers, and run from then on without f. Gradients
    and updates taken inside are part of the program: jit a whole training step. Where something
    outside differentiates the result (`.backward()`, `grad(jit(f))`) the way back is compiled, too,
    and what it reads is kept meanwhile. jit(model) is called as the model is: it records on the
    plain tape, and within `no_grad` it keeps nothing. As an argument, jit(step)(model, x), a model
    is a value, but for its Buffers, such as running statistics: they are written as f writes them.

    Parameters
    ----------
    static_argnums : positional arguments that are not arrays of the program (they must be
        hashable), also where they are given by name: another value compiles anew. Integers,
        strings, booleans and None always are, and objects that are no containers (what changes
        inside of one is not seen); floats never, unless named here.
    donate_argnums : positional arguments whose buffers the results may use. The caller must
        not use them afterwards, unless the run fails and a note on its error says that it had
        not written to them. Nothing is taken where something outside differentiates, nor from an
        array that shares its memory with another argument.
    precision : "exact" rounds as the function does when it is not compiled, to the last bit, for a
        little speed (not on CuPy); but a zero may have the other sign, and gradients of values that
        lie by columns other last bits. On CuPy, of float32 products of matrices: "fp32" (as None),
        "tf32" or "bf16", which are rounded to 11 or 8 bits and summed in float32; these need
        nvmath-python. A jitted function that another one calls has that one's.

    Raises
    ------
    ValueError
        A precision that is unknown, or that the backend does not have; a position that f has not,
        or that is named both static and donated.
    TypeError
        A Python `if`, `float()` and the like of a value that has no number yet; an argument
        that is neither an array nor hashable; a generator or async function.

    Example
    -------
    >>> step = jit(lambda w, x: w - 0.1 * grad(loss)(w, x))
    >>> w = step(w, x)
    """
    if f is None:
        return functools.partial(
            jit,
            static_argnums=static_argnums,
            donate_argnums=donate_argnums,
            precision=precision,
        )
    check_function("jit", f)
    check_plain(f)
    _, static = argument_numbers("jit", static_argnums, "static_argnums")
    _, donate = argument_numbers("jit", donate_argnums, "donate_argnums")
    if precision is not None and precision not in PRECISIONS:
        raise ValueError(f"jit: precision is one of {', '.join(PRECISIONS)}; got {precision!r}")
    check_positions(f, static, donate)
    kind = Jitted if tree.open_container(f) is None else JittedTree
    return kind(f, static, donate, precision)
