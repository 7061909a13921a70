"""The rule's own code, run on symbols, must be the paper's expression: equality for all numbers at once.

`Case.paper` gets the symbols of one step and returns what becomes of them, in the paper's words:

    def heavy_ball(x):
        b = x.momentum * x.b + (1 - x.dampening if x.t > 1 else 1) * (x.g + x.weight_decay * x.p)
        return {"b": b, "p": x.p - x.lr * b}

``x.g`` and ``x.p`` are the gradient and the parameter; ``x.t`` is the step, a number; hyper-parameters go by
their names in the group; states by the names of the rule's NamedTuple (``x.m``) and by those in
``optimizer.state`` (``x.exp_avg``); scalar memory by its name. A hyper-parameter whose link is idle in this
case is the number that it is. ``x.sqrt``, ``x.abs``, ``x.sign``, ``x.maximum``, ``x.minimum``, ``x.where``
and ``x.exp`` are sympy's, and other functions of sympy may be used. The mapping must hold ``p``; states that
it leaves out are not compared.

A sum over a tensor, or over everything, is that of a parameter of one element, which is that element.

The step is taken at t = 1 from the state of birth, and at t = 2 and t = 7 from a state of symbols. Where a
rule's `at` cannot take symbols (it branches on a hyper-parameter, or calls `math`), hyper-parameters are the
case's own numbers, and equality is that of functions of g, p and the states up to float64's rounding of the
scalars.
"""

from __future__ import annotations

import contextlib
import importlib
import random
from collections.abc import Callable, Generator, Mapping
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import torch
from torch import Tensor, nn

from downslope.optim import Chain, Custom, Optimizer, Scalars
from downslope.optim.routes import routed
from downslope.testing.rules.case import Case
from downslope.testing.rules.proofs import Proofs, needs

__all__ = ["Element", "SymbolicStep"]

SHORT = 60
"""Operations up to which sympy finds a normal form in no time."""

BIRTH = 0.8125
"""The parameter at birth: a state of this value started as the parameter, not as a number of its own."""


class Element:
    """One element of a tensor as an expression: what a rule may do with a tensor, it may do with this."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Element:
        """Called by torch for its functions of an element."""
        return _FUNCTIONS[function.__name__](*args, **(kwargs or {}))

    def __add__(self, other: Any) -> Element:
        return Element(self.expression + _of(other))

    def __sub__(self, other: Any) -> Element:
        return Element(self.expression - _of(other))

    def __rsub__(self, other: Any) -> Element:
        return Element(_of(other) - self.expression)

    def __mul__(self, other: Any) -> Element:
        return Element(self.expression * _of(other))

    def __truediv__(self, other: Any) -> Element:
        return Element(self.expression / _of(other))

    def __rtruediv__(self, other: Any) -> Element:
        return Element(_of(other) / self.expression)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Element:
        return Element(-self.expression)

    def __gt__(self, other: Any) -> Element:
        return Element(self.expression > _of(other))

    def __lt__(self, other: Any) -> Element:
        return Element(self.expression < _of(other))

    def __ge__(self, other: Any) -> Element:
        return Element(self.expression >= _of(other))

    def __le__(self, other: Any) -> Element:
        return Element(self.expression <= _of(other))

    def __eq__(self, other: object) -> Any:
        return Element(_sympy().Eq(self.expression, _of(other)))

    def __ne__(self, other: object) -> Any:
        return Element(_sympy().Ne(self.expression, _of(other)))

    def __or__(self, other: Any) -> Element:
        return Element(_sympy().Or(self.expression, _of(other)))

    def __and__(self, other: Any) -> Element:
        return Element(_sympy().And(self.expression, _of(other)))

    def __hash__(self) -> int:
        return hash(self.expression)

    def __getattr__(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise AttributeError(f"{name!r} is no operation of the table that a rule may use")
        return lambda *args: _FUNCTIONS[name](self, *args)  # pyright: ignore[reportUnknownLambdaType]


def _of(value: Any) -> Any:
    return value.expression if isinstance(value, Element) else value


def _sympy() -> Any:
    import sympy  # only a test that proves by symbols pays for it

    return sympy


def _chosen(condition: Any, yes: Any, no: Any) -> Any:
    return _sympy().Piecewise((yes, condition), (no, True))


def _where(condition: Any, yes: Any, no: Any) -> Element:
    return Element(_chosen(_of(condition), _of(yes), _of(no)))


def _clamp(x: Any, min: Any = None, max: Any = None) -> Element:  # noqa: A002 - torch's names
    found = _of(x) if min is None else _sympy().Max(_of(x), _of(min))
    return Element(found if max is None else _sympy().Min(found, _of(max)))


def _same(x: Any, *_: Any, **__: Any) -> Element:
    return Element(_of(x))


def _one(name: str) -> Callable[..., Element]:
    def function(x: Any) -> Element:
        return Element(getattr(_sympy(), name)(_of(x)))

    return function


def _two(name: str) -> Callable[..., Element]:
    def function(x: Any, y: Any) -> Element:
        return Element(getattr(_sympy(), name)(_of(x), _of(y)))

    return function


def _square(x: Any) -> Element:
    return Element(_of(x) ** 2)


def _or(x: Any, y: Any) -> Element:
    return Element(_sympy().Or(_of(x), _of(y)))


def _and(x: Any, y: Any) -> Element:
    return Element(_sympy().And(_of(x), _of(y)))


def _full(_: Any, value: Any, **__: Any) -> Element:
    return Element(_of(value))


def _filled(value: int) -> Callable[..., Element]:
    def function(*_: Any, **__: Any) -> Element:
        return Element(value)

    return function


_FUNCTIONS: dict[str, Callable[..., Element]] = {
    "sqrt": _one("sqrt"),
    "abs": _one("Abs"),
    "sign": _one("sign"),
    "square": _square,
    "maximum": _two("Max"),
    "minimum": _two("Min"),
    "where": _where,
    "clamp": _clamp,
    "full_like": _full,
    "ones_like": _filled(1),
    "zeros_like": _filled(0),
    "logical_or": _or,
    "logical_and": _and,
    "float": _same,
    "double": _same,
    "to": _same,
    "as_tensor": _same,
}


class SymbolicStep(Proofs):
    """`Rule.update` on expressions, beside `Case.paper`."""

    @needs("paper")
    def test_update_is_the_papers_expression(self, case: Case) -> None:
        assert case.paper is not None
        for t in (1, 2, 7):
            x, found, exact = _step(case, t)
            wanted = case.paper(x)
            assert "p" in wanted, "the paper's mapping must say what becomes of p"
            for name, expression in wanted.items():
                assert _equal(found[name], expression, exact), (
                    f"step {t}: {name} is {_sympy().nsimplify(found[name], rational=True)}, "
                    f"the paper has {expression}"
                )


def _chain(optimizer: Optimizer, p: Tensor) -> Chain:
    """The links that `p` passes as the first group is set, without the idle ones."""
    group = optimizer.param_groups[0]
    if isinstance(optimizer, Custom):
        composed = optimizer.rule.replace(**{name: group[name] for name in optimizer.rule.fields()})
    else:
        composed = type(optimizer).compose({name: group[name] for name in optimizer.defaults})
    routes = routed(composed).active()
    return routes.chains[routes.index(p)]


def _step(case: Case, t: int) -> tuple[SimpleNamespace, dict[str, Any], bool]:
    """The symbols of step `t`, what the chain makes of them, and whether hyper-parameters were among them."""
    p = nn.Parameter(torch.tensor(BIRTH, dtype=torch.float64))
    optimizer = case.make([p], "reference")
    group = optimizer.param_groups[0]
    chain = _chain(optimizer, p)
    x = _symbols(chain, group, p.detach(), t)
    try:
        symbolic = Chain(_with(link, x) for link in chain.links)
        return x, _moved(symbolic, x, bool(group.get("maximize", False))), True
    except TypeError:  # math.sqrt of a symbol, or the truth of a comparison
        for name in chain.fields():
            setattr(x, name, group.get(name, getattr(x, name)))
        for link in chain.links:
            for name, value in _walked(link, t).items():
                setattr(x, name, value)
        return x, _moved(chain, x, bool(group.get("maximize", False))), False


def _symbols(chain: Chain, group: Mapping[str, Any], p: Tensor, t: int) -> SimpleNamespace:
    sympy = _sympy()
    x = SimpleNamespace(t=t, g=sympy.Symbol("g", real=True), p=sympy.Symbol("p", real=True))
    for name in ("sqrt", "sign", "exp"):
        setattr(x, name, getattr(sympy, name))
    x.abs, x.maximum, x.minimum = sympy.Abs, sympy.Max, sympy.Min
    x.where = _chosen
    for name, value in group.items():
        setattr(x, name, value)
    for name, value in chain.fields().items():
        # What is no entry of the group is set by the optimizer itself: a number, not a hyper-parameter.
        setattr(x, name, _symbol_for(name, value) if name in group else value)
    for link in chain.links:
        names = getattr(link.memory, "_fields", link.keys)
        for key, name, birth in zip(link.keys, names, link.init(p), strict=True):
            start = _born(birth, x) if t == 1 else sympy.Symbol(key, real=True)
            setattr(x, key, start)
            setattr(x, name, start)
        for name, start in link.tally.items():
            number = sympy.Rational(start) if t == 1 else sympy.Symbol(name, positive=True)
            setattr(x, name, number)
    return x


def _walked(link: Any, t: int) -> dict[str, float]:
    """The scalar memory of a link before step `t`, where no sum advances it."""
    tally = dict(link.tally)
    for before in range(1, t):
        tally = link.advance(before, tally)[1]
    return tally


def _born(state: Tensor, x: SimpleNamespace) -> Any:
    value = float(state)
    return x.p if value == BIRTH else _sympy().Rational(value)


def _symbol_for(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        parts = cast("tuple[Any, ...]", value)
        return tuple(_symbol_for(f"{name}{i}", part) for i, part in enumerate(parts))
    return _sympy().Symbol(name, positive=True) if type(value) is float else value


def _with(link: Any, x: SimpleNamespace) -> Any:
    """The link with symbols for hyper-parameters, past the check of their domains."""
    twin: Any = object.__new__(cast("type[Any]", type(link)))
    for name in link.fields():
        object.__setattr__(twin, name, getattr(x, name))
    return twin


def _moved(chain: Chain, x: SimpleNamespace, maximize: bool) -> dict[str, Any]:
    g, p = Element(-x.g if maximize else x.g), Element(x.p)
    raw, found = g, dict[str, Any]()
    with _taught():
        for link in chain.links:
            state: Any = link.remember(cast("Any", [Element(getattr(x, key)) for key in link.keys]))
            k, tally = link.advance(x.t, {name: getattr(x, name) for name in link.tally})
            given = _wrapped(k, raw)
            if link.measures:
                sums = link.measure(cast("Tensor", g), state, cast("Tensor", p), given)
                totals = Scalars(**dict(zip(link.measures, sums, strict=True)))
                k, tally = link.settle(x.t, k, totals, tally)
                given = _wrapped(k, raw)
            g, after = cast("Any", link.update(cast("Tensor", g), state, cast("Tensor", p), given))
            names = getattr(link.memory, "_fields", link.keys)
            for key, name, new in zip(link.keys, names, after, strict=True):
                found[key] = found[name] = _of(new)
            found |= {name: _of(new) for name, new in tally.items()}
    return {**found, "p": _of(p - g)}


def _wrapped(k: Scalars, raw: Element) -> Scalars:
    return Scalars(raw=raw, **{name: Element(_of(value)) for name, value in vars(k).items()})


@contextlib.contextmanager
def _taught() -> Generator[None]:
    """Torch's functions take elements and symbols meanwhile; its own parser refuses symbols for numbers."""

    def either(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            given = (*args, *kwargs.values())
            symbolic = any(isinstance(each, (Element, _sympy().Basic)) for each in given)
            return (_FUNCTIONS[name] if symbolic else original)(*args, **kwargs)

        return function

    named = {name: getattr(torch, name) for name in _FUNCTIONS if hasattr(torch, name)}
    with contextlib.ExitStack() as stack:
        for name, each in named.items():
            stack.enter_context(mock.patch.object(torch, name, either(name, each)))
        yield


def _equal(found: Any, wanted: Any, exact: bool) -> bool:
    """Whether two expressions are one function: by their normal form, if they are `exact` and short, else by
    values of 30 digits at random points, where two functions that differ have no reason to meet.
    """
    sympy = _sympy()
    apart = sympy.sympify(found) - sympy.sympify(wanted)
    if apart == 0:
        return True
    if exact and apart.count_ops() < SHORT:
        apart = sympy.nsimplify(apart, rational=True)
        if apart == 0 or sympy.cancel(sympy.together(apart)) == 0:
            return True
    symbols = sorted(apart.free_symbols | sympy.sympify(wanted).free_symbols, key=str)
    values = sympy.lambdify(symbols, [apart, sympy.sympify(wanted)], "mpmath")
    draw = random.Random(0)
    with importlib.import_module("mpmath").workdps(30):
        for _ in range(8):
            error, size = map(abs, values(*[_drawn(symbol, draw) for symbol in symbols]))
            if not error <= 1e-12 * max(size, 1.0):
                return False
    return True


def _drawn(symbol: Any, draw: random.Random) -> Any:
    value = importlib.import_module("mpmath").mpf(draw.randint(1, 999)) / 1000
    return -value if symbol.name in ("g", "p") and draw.random() < 0.5 else value
