"""A chain as a list of operations: its rules are run once, on symbols in place of tensors.

    traced(chain).update      step and new state of one element, from its gradient, state and scalars
    traced(chain).measures    what a link wants added up, for every link that does

What a rule writes with operators is recorded by `torch.fx`; everything else is refused with its name, and the
chain is then stepped by torch's operations. Hyper-parameters that are numbers may not be read in `update`:
they change from step to step, so that they come as scalars, which `at` forms. Switches may, they are part of
what is recorded.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.fx.proxy import TraceError

from downslope.optim.rule import AnyRule, Chain, Scalars

__all__ = ["Arg", "Op", "Program", "Traced", "structure", "traced"]

Arg = str | float
"""Name of an input or of an earlier operation, or a number."""

_TAKES = {
    "add": 2, "sub": 2, "mul": 2, "truediv": 2, "neg": 1, "sqrt": 1, "abs": 1, "sign": 1, "square": 1,
    "maximum": 2, "minimum": 2, "where": 3, "float": 1,
    "gt": 2, "ge": 2, "lt": 2, "le": 2, "eq": 2, "ne": 2, "and_": 2, "or_": 2, "invert": 1,
}  # fmt: skip
"""What can be recorded, and how many arguments it takes; from ``gt`` on with a truth value as the result."""

_TRUTHS = frozenset(list(_TAKES)[list(_TAKES).index("gt") :])

_SAME = {
    "div": "truediv", "true_divide": "truediv", "multiply": "mul", "subtract": "sub", "negative": "neg",
    "absolute": "abs", "greater": "gt", "less": "lt", "greater_equal": "ge", "less_equal": "le",
    "logical_and": "and_", "logical_or": "or_", "logical_not": "invert",
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """``name = kind(args)`` for one element."""

    name: str
    kind: str
    args: tuple[Arg, ...]

    @property
    def truth(self) -> bool:
        """Whether the result is true or false, not a number."""
        return self.kind in _TRUTHS


@dataclass(frozen=True)
class Program:
    """Operations in their order, and which of them are the results."""

    ops: tuple[Op, ...]
    results: tuple[Arg, ...]
    """Of an update: the step, then the new state by the chain's keys. Of a measure: what is added up."""
    peaks: tuple[bool, ...] = ()
    """Of a measure: of which results the largest is wanted in place of the sum."""

    @functools.cached_property
    def reads(self) -> frozenset[str]:
        """Inputs that are used."""
        used = {arg for args in (*(op.args for op in self.ops), self.results) for arg in args}
        return frozenset(arg for arg in used - {op.name for op in self.ops} if isinstance(arg, str))


@dataclass(frozen=True)
class Traced:
    """A chain's programs. Their inputs are ``p``, ``g`` (after the sign of ``maximize``), ``s0`` and on for
    the states by the chain's keys, and the names of `scalars`.
    """

    update: Program
    measures: dict[int, Program]
    """By the position of the link in the chain."""
    scalars: dict[str, tuple[int, str]]
    """Name of the input, and what it is: the position of a link, the name among its scalars."""
    states: int


def structure(chain: Chain) -> tuple[Any, ...]:
    """What of a chain decides its programs: all but the values of numbers."""
    return tuple(
        (type(link), *((name, value) for name, value in link.fields().items() if not _is_number(value)))
        for link in chain.links
    )


def traced(chain: Chain) -> Traced | str:
    """The programs of an active `chain`, or why it has none."""
    last, found = _LAST[0]
    if last is chain:  # as it is when each of many parameters is laid out
        return found
    key = structure(chain)
    if key not in _KEPT:
        _KEPT[key] = _traced(chain)
    _LAST[0] = chain, _KEPT[key]
    return _KEPT[key]


_BLANK = torch.zeros(2, 3)  # the meta device would import sympy, for half a second

_KEPT: dict[tuple[Any, ...], Traced | str] = {}
_LAST: list[tuple[Chain | None, Traced | str]] = [(None, "")]


def _traced(chain: Chain) -> Traced | str:
    if chain.scope == "matrix":
        widest = next(link for link in chain.links if link.scope == "matrix")
        return f"{type(widest).__name__} looks at a whole matrix"
    for link in chain.links:
        states = link.init(_BLANK)
        if any(state.shape != _BLANK.shape or not state.is_floating_point() for state in states):
            return f"{type(link).__name__} keeps a state that is not shaped as its parameter"
    try:
        update = _Recorder(chain)
        programs = {-1: Program(*_recorded_all(update.update()))}
        scalars = dict(update.scalars)
        for i in chain.measuring:
            recorder = _Recorder(chain)
            programs[i] = Program(*_recorded_all(recorder.measure(i)), peaks=chain.links[i].peak)
            scalars |= recorder.scalars
    except _UntraceableError as error:
        return str(error)
    except (TraceError, TypeError, AttributeError) as error:
        return f"{_names(chain)}: not a list of operators ({str(error).partition(chr(10))[0]})"
    used = {name for program in programs.values() for name in program.reads}
    for name in sorted(used):
        if name.startswith("field_"):
            return f"{name.removeprefix('field_')} is read while an element is updated: form it in `at`"
    kept = {name: of for name, of in scalars.items() if name in used}
    return Traced(programs.pop(-1), programs, kept, len(chain.keys))


class _UntraceableError(Exception):
    """A rule that is no list of operators."""


class _Asked(Scalars):
    """Scalars that become inputs when a rule reads them: which there are is known only then."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        super().__init__()
        self.__dict__["_ask"] = ask

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = self.__dict__[name] = self.__dict__["_ask"](name)
        return value

    def fit(self, p: Tensor) -> Scalars:
        """Itself: a symbol has no shape to fit."""
        return self


class _Recorder:
    """One graph of symbols."""

    def __init__(self, chain: Chain) -> None:
        self.tracer = fx.Tracer()
        self.tracer.graph = fx.Graph()
        self.scalars: dict[str, tuple[int, str]] = {}
        self.chain = Chain(self._without_numbers(link) for link in chain.links)
        self.p, self.g = self._input("p"), self._input("g")
        states = [self._input(f"s{n}") for n in range(len(chain.keys))]
        self.states = [link.remember([states.pop(0) for _ in link.keys]) for link in chain.links]
        self.ks = [_Asked(functools.partial(self._scalar, i)) for i in range(len(chain.links))]

    def _input(self, name: str) -> Any:
        return self.tracer.create_proxy("placeholder", name, (), {})

    def _scalar(self, i: int, name: str) -> Any:
        self.scalars[f"k{i}_{name}"] = (i, name)
        return self._input(f"k{i}_{name}")

    def _without_numbers(self, link: AnyRule) -> AnyRule:
        """The link with symbols for the hyper-parameters that are numbers, to see whether they are read."""
        found = copy.copy(link)
        for name, value in link.fields().items():
            if _is_number(value):
                symbol = self._input(f"field_{type(link).__name__}_{name}")
                object.__setattr__(found, name, (symbol,) * len(value) if _is_several(value) else symbol)
        return found

    def update(self) -> list[Any]:
        """What an update leaves: the step, then every state."""
        step, after = self.chain.update(self.g, self.states, self.p, self.ks)
        return [step, *(tensor for state in after for tensor in state)]

    def measure(self, i: int) -> list[Any]:
        """What link `i` wants added up."""
        return list(self.chain.measure(i, self.g, self.states, self.p, self.ks))


def _is_several(value: Any) -> bool:
    return isinstance(value, tuple)


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(isinstance(part, float) for part in cast("tuple[Any, ...]", value))
    return isinstance(value, float)


def _names(chain: Chain) -> str:
    return ", ".join(type(link).__name__ for link in chain.links)


def _recorded_all(results: Iterable[Any]) -> tuple[tuple[Op, ...], tuple[Arg, ...]]:
    """The operations that `results` hang on, and the names of the results."""
    ops: dict[str, Op] = {}
    names = tuple(_recorded(_node(result), ops) for result in results)
    return tuple(ops.values()), names


def _node(value: Any) -> Any:
    return value.node if isinstance(value, fx.Proxy) else value


def _recorded(value: Any, ops: dict[str, Op]) -> Arg:
    """The name of a node, once it and what it hangs on is among `ops`, or the number that it is."""
    if isinstance(value, bool | int | float):
        return float(value)
    if not isinstance(value, fx.Node):
        raise _UntraceableError(f"{type(value).__name__} where a tensor or a number is meant")
    if value.op == "placeholder":
        return str(value.target)
    if value.name not in ops:
        target: Any = value.target
        said = target if isinstance(target, str) else target.__name__
        kind = _SAME.get(said, said)
        if (
            value.op not in {"call_function", "call_method"}
            or _TAKES.get(kind) != len(value.args)
            or value.kwargs
        ):
            way = "; write x * x" if said == "pow" else ""
            raise _UntraceableError(f"{said} is none of the operators of which kernels are made{way}")
        args = tuple(_recorded(arg, ops) for arg in value.args)
        if kind == "float" and not (isinstance(args[0], str) and args[0] in ops and ops[args[0]].truth):
            raise _UntraceableError("float() of a number would round it; it turns truths into numbers")
        ops[value.name] = Op(value.name, kind, args)
    return value.name
