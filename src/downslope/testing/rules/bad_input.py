"""Wrong use, and the one line that has to answer it: a table for every optimizer, a user's own too.

Values outside a hyper-parameter's domain are made from the domain (`outside`), so that a new hyper-parameter
is covered as soon as it has a row; `WRONG_USE` is the rest of the table.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError, RecipeError
from downslope.optim import Custom, Optimizer
from downslope.optim.domains import ABOVE_ZERO, DOMAINS, Choice, Count, Domain, Interval, Maybe, Several
from downslope.testing.rules.case import Case
from downslope.testing.rules.proofs import Proofs

__all__ = ["WRONG_USE", "BadInput", "Wrong", "assert_one_line", "outside", "refuses"]

Of = Callable[[list[Any]], Optimizer]
"""From parameters to the optimizer."""


def outside(domain: Domain) -> list[Any]:
    """Values that `domain` does not hold, of every kind that is usual by mistake."""
    match domain:
        case Interval(low, high):
            beyond = ([] if math.isinf(high) else [high + 1.0]) if domain.closed else [high]
            below = [] if math.isinf(low) else [low - 1.0, *([0.0] if low == ABOVE_ZERO else [])]
            return [*below, *beyond, math.nan, -math.inf, "fast", None, True, 1j, torch.tensor(math.nan)]
        case Several(n=n):
            usual = [_inside(domain.of(i)) for i in range(n)]
            apart = [
                (*usual[:i], value, *usual[i + 1 :]) for i in range(n) for value in outside(domain.of(i))[:3]
            ]
            return [usual[0], "ab", None, tuple(usual[1:]), (*usual, usual[0]), *apart]
        case Count(low):
            return [low - 1, low + 0.5, math.nan, "two", None, True]
        case Choice():
            return ["no such name", 3]
        case Maybe(inner):
            return [value for value in outside(inner) if value is not None]
        case _:
            return [2, 0.5, "yes", None]  # in a group, 1 counts as True: it is equal


def _inside(domain: Interval | Maybe) -> Any:
    if isinstance(domain, Maybe):
        return None
    low = domain.low if not math.isinf(domain.low) else domain.high - 1.0
    return low if math.isinf(domain.high) else (low + domain.high) / 2


def assert_one_line(error: BaseException, *parts: str) -> None:
    """Asserts that the message is one line, of some length, with all `parts` in it."""
    text = str(error)
    assert "\n" not in text, text
    assert 20 < len(text) < 400, text
    for part in parts:
        assert part in text, f"{part!r} is not in {text!r}"


@dataclass(frozen=True, eq=False)
class Wrong:
    """One wrong use."""

    name: str
    attempt: Callable[[Of], Any]
    error: type[Exception] | tuple[type[Exception], ...]
    says: str
    """What the line has to hold."""
    applies: Callable[[Optimizer], bool] = bool
    """Whether it can happen to an optimizer that has made a step."""


def _own_domains(optimizer: Optimizer) -> dict[str, Domain | None]:
    return dict(type(optimizer).domains)


def _leaf(*shape: int, **how: Any) -> nn.Parameter:
    return nn.Parameter(torch.ones(shape or (3, 2), **how))


def _loss() -> float:
    """A closure that leaves the gradients alone; methods that look twice ask for one."""
    return 0.0


def _step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step(_loss)


def _twice(make: Of) -> None:
    p = _leaf()
    make([p, p])


def _twice_in_groups(make: Of) -> None:
    p = _leaf()
    make([{"params": [p]}, {"params": [p]}])


def _twice_later(make: Of) -> None:
    p = _leaf()
    make([p]).add_param_group({"params": [p]})


def _frozen(make: Of) -> None:
    make([_leaf().requires_grad_(False), _leaf().requires_grad_(False)]).step(_loss)


def _longer(p: Tensor) -> Tensor:
    return p.repeat(9, 1)


def _exchanged(change: Callable[[Tensor], Tensor], *, stepped: bool) -> Callable[[Of], None]:
    """The parameter's data is exchanged and its gradient left, before the first step or after it."""

    def attempt(make: Of) -> None:
        p = _leaf()
        optimizer = make([p])
        p.grad = torch.ones_like(p)
        if stepped:
            optimizer.step(_loss)
        p.data = change(p.data)
        optimizer.step(_loss)

    return attempt


def _assigned(change: Callable[[Tensor], Tensor]) -> Callable[[Of], None]:
    def attempt(make: Of) -> None:
        p = _leaf()
        optimizer = make([p])
        p.grad = change(torch.ones_like(p))
        optimizer.step(_loss)

    return attempt


def _of_another_shape(make: Of) -> None:
    small, large = _leaf(), _leaf(7, 4)
    first = make([small])
    _step(first)
    second = make([large])
    second.load_state_dict(first.state_dict())
    _step(second)


def _of_another_optimizer(make: Of) -> None:
    saved = make([_leaf()]).state_dict()
    saved["state"] = {0: {"memory_of_another": torch.ones(3, 2), "step": torch.tensor(1.0)}}
    make([_leaf()]).load_state_dict(saved)


def _with_other_settings(make: Of) -> None:
    optimizer = make([_leaf()])
    saved = optimizer.state_dict()
    other = next(
        name
        for name in ("amsgrad", "centered", "momentum", "lr_decay")
        if name not in saved["param_groups"][0]
    )
    saved["param_groups"][0][other] = 0.5
    optimizer.load_state_dict(saved)


def _has_class(optimizer: Optimizer) -> bool:
    """A chain of one's own takes over any state that fits."""
    return not isinstance(optimizer, Custom)


def _keeps(optimizer: Optimizer) -> bool:
    """Whether gradients outlast a step."""
    return all(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def _has_state(optimizer: Optimizer) -> bool:
    return any(isinstance(x, Tensor) and x.ndim for state in optimizer.state.values() for x in state.values())


def _misspelt(make: Of) -> None:
    make([{"params": [_leaf()], "lrs": 0.1}])


def _rate_of_rows(make: Of) -> None:
    optimizer = make([_leaf()])
    optimizer.add_param_group({"params": [_leaf()], "lr": torch.tensor([0.1, 0.2, 0.3])})


def _has_one_rate(optimizer: Optimizer) -> bool:
    """Rules of a chain of one's own may hold a number for each member of a population."""
    return _has_class(optimizer) and "lr" in optimizer.defaults


_ALIKE = "they must be alike"

WRONG_USE: tuple[Wrong, ...] = (
    Wrong("no parameters", lambda make: make([]), ModelError, "params is empty"),
    Wrong("an empty group", lambda make: make([{"params": []}]), ModelError, "group is empty"),
    Wrong("a group without params", lambda make: make([{"lr": 0.1}]), ModelError, "no 'params'"),
    Wrong("a parameter twice", _twice, ModelError, "given twice"),
    Wrong("a parameter in two groups", _twice_in_groups, ModelError, "given twice"),
    Wrong("a parameter again in a later group", _twice_later, ModelError, "given twice"),
    Wrong("a non-leaf", lambda make: make([_leaf() * 2]), ModelError, "non-leaf"),
    Wrong("a bare parameter", lambda make: make(_leaf()), TypeError, "params argument"),  # pyright: ignore[reportArgumentType]
    Wrong("a number", lambda make: make([3.0]), TypeError, "can only optimize Tensors"),
    Wrong("all frozen", _frozen, ModelError, "frozen"),
    Wrong("expanded", lambda make: make([nn.Parameter(torch.ones(1).expand(3))]), ModelError, "share memory"),
    Wrong("no closure", lambda make: make([_leaf()]).step(3), TypeError, "must be a closure"),  # pyright: ignore[reportArgumentType]
    Wrong("a rate for every row", _rate_of_rows, RecipeError, "one number", _has_one_rate),
    Wrong("a misspelt setting", _misspelt, RecipeError, "did you mean 'lr'"),
    Wrong("a gradient of another shape", _assigned(torch.flatten), RuntimeError, "size"),
    Wrong("a gradient of another dtype", _assigned(Tensor.double), RuntimeError, "dtype"),
    Wrong("a gradient on another device", _assigned(lambda g: g.to("meta")), RuntimeError, "device"),
    Wrong("data of another shape", _exchanged(_longer, stepped=False), RecipeError, _ALIKE),
    Wrong("another shape, later", _exchanged(_longer, stepped=True), RecipeError, _ALIKE, _keeps),
    Wrong("data of another dtype", _exchanged(Tensor.double, stepped=False), RecipeError, _ALIKE),
    Wrong("another dtype, later", _exchanged(Tensor.double, stepped=True), RecipeError, _ALIKE, _keeps),
    Wrong("no state_dict", lambda make: make([_leaf()]).load_state_dict({}), RecipeError, "'param_groups'"),
    Wrong("state of another optimizer", _of_another_optimizer, RecipeError, "saved by another optimizer"),
    Wrong("settings of another optimizer", _with_other_settings, RecipeError, "saved by another", _has_class),
    Wrong("state of another model", _of_another_shape, RecipeError, "another model", _has_state),
)  # fmt: skip
"""Beside hyper-parameters: parameters, gradients and states that cannot be used."""


def refuses(make: Of, wrong: Wrong) -> None:
    """Asserts that what `make` gives answers a `wrong` use in one line; skips where it cannot happen."""
    if wrong.applies is not bool:
        optimizer = make([_leaf()])
        _step(optimizer)
        if not wrong.applies(optimizer):
            pytest.skip("cannot happen to this one")
    with pytest.raises(wrong.error) as caught:
        wrong.attempt(make)
    assert_one_line(caught.value, wrong.says)


def _refuses_whole(make: Of, *, stepped: bool) -> None:
    """Asserts that nothing moves or counts where the last of the parameters, in a group of its own, has a
    gradient that cannot be used.
    """
    own = [_leaf(), _leaf(dtype=torch.float64)]
    optimizer = make([{"params": [p]} for p in own])
    if stepped:
        _step(optimizer)
    for p in own:
        p.grad = torch.ones_like(p)
    own[1].data = own[1].data.float()
    before: Any = copy.deepcopy([[p.detach() for p in own], optimizer.state_dict()["state"]])
    with pytest.raises(RecipeError, match=_ALIKE):
        optimizer.step(_loss)
    after: Any = [[p.detach() for p in own], optimizer.state_dict()["state"]]
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.0)


def _made(case: Case, backend: str | None, params: list[Any]) -> Optimizer:
    return case.make(params, backend)


class BadInput(Proofs):
    """Every row of `WRONG_USE`, and hyper-parameters outside their domains, for the first case of a class."""

    @pytest.mark.parametrize("wrong", WRONG_USE, ids=[wrong.name for wrong in WRONG_USE])
    def test_wrong_use_is_refused_in_one_line(self, first: Case, wrong: Wrong) -> None:
        # Where memory is read by address, each backend has to look by itself.
        backends: list[str | None] = [None, *(first.backends() if wrong.says == _ALIKE else [])]
        for backend in backends:
            refuses(functools.partial(_made, first, backend), wrong)

    def test_step_that_is_refused_leaves_all_as_it_was(self, first: Case) -> None:
        for backend in (None, *first.backends()):
            for stepped in (False, True):
                _refuses_whole(functools.partial(_made, first, backend), stepped=stepped)

    def test_hyper_parameter_outside_its_domain_is_refused_in_one_line(self, first: Case) -> None:
        optimizer = first.make([_leaf()], None)
        own = {**DOMAINS, **_own_domains(optimizer)}
        for name in optimizer.defaults:
            domain = own.get(name)  # None where any value is taken
            for value in () if domain is None else outside(domain):
                self._refuses(optimizer, name, value)

    def _refuses(self, optimizer: Optimizer, name: str, value: Any) -> None:
        with pytest.raises(RecipeError) as caught:
            optimizer.add_param_group({"params": [_leaf()], name: value})
        assert_one_line(caught.value, name)
        group, former = optimizer.param_groups[0], optimizer.param_groups[0][name]
        if not isinstance(value, Tensor) and value == former:
            return  # True is no other rate than 1
        group[name] = value
        with pytest.raises(RecipeError) as caught:
            _step(optimizer)
        assert_one_line(caught.value, name)
        group[name] = former
        _step(optimizer)
