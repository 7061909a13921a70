"""What a rule can say beside `update`: a tally, sums, the raw gradient, shown weights, routes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import ModelError, RecipeError
from downslope.optim import Custom, HeavyBall, ScaleByAdam, ScaleByLr, chain
from downslope.optim.domains import Choice, Count, Domains, Interval, Maybe, Several, check
from downslope.optim.routes import Routes
from downslope.optim.rule import Rule, Scalar, Scalars, Stateless

RATE = Interval(0.0, float("inf"), "a rate", "1 is usual")


@dataclass(frozen=True, kw_only=True)
class Harmonic(Rule[Stateless]):
    """Divides by the number 1 + 1/2 + ... + 1/t, kept as a tally."""

    tally: ClassVar[Mapping[str, float]] = {"harmonic": 0.0}
    counts: ClassVar[bool] = True

    def init(self, p: Tensor) -> Stateless:
        return ()

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[Scalars, dict[str, Any]]:
        after = tally["harmonic"] + 1.0 / t
        return Scalars(part=1.0 / after), {"harmonic": after}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.part * g, ()


@dataclass(frozen=True, kw_only=True)
class Unit(Rule[Stateless]):
    """Divides by the norm over everything."""

    scope: ClassVar[Any] = "global"
    measures: ClassVar[tuple[str, ...]] = ("square",)

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        return (g * g,)

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, dict[str, Any]]:
        return Scalars(norm=torch.as_tensor(totals.square).sqrt()), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g / k.norm, ()


@dataclass(frozen=True, kw_only=True)
class UnitTensor(Unit):
    """Divides by the norm of the tensor."""

    scope: ClassVar[Any] = "tensor"


@dataclass(frozen=True, kw_only=True)
class AddRaw(Rule[Stateless]):
    """Adds the gradient as it came."""

    wants_raw: ClassVar[bool] = True

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g + k.raw, ()


class Start(NamedTuple):
    """Where a parameter started."""

    x: Tensor


@dataclass(frozen=True, kw_only=True)
class ShowStart(Rule[Start]):
    """Trains, and shows the parameters as they were at first."""

    memory: ClassVar[type[tuple[Tensor, ...]]] = Start
    keys: ClassVar[tuple[str, ...]] = ("start",)

    def init(self, p: Tensor) -> Start:
        return Start(p.detach().clone())

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Start, p: Tensor, k: Scalars) -> tuple[Tensor, Start]:
        return g, state

    def shown(self, state: Start, p: Tensor, tally: Mapping[str, float]) -> Tensor:
        return state.x


class Rows(NamedTuple):
    """Sums of squares of the rows."""

    r: Tensor


@dataclass(frozen=True, kw_only=True)
class ByRows(Rule[Rows]):
    """AdaGrad with one number a row."""

    scope: ClassVar[Any] = "matrix"
    memory: ClassVar[type[tuple[Tensor, ...]]] = Rows
    keys: ClassVar[tuple[str, ...]] = ("row_sum",)

    def init(self, p: Tensor) -> Rows:
        return Rows(p.new_zeros(p.shape[0], 1))

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Rows, p: Tensor, k: Scalars) -> tuple[Tensor, Rows]:
        r = state.r + (g * g).sum(1, keepdim=True)
        return g / r.sqrt(), Rows(r)


def _params(*values: list[float]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.tensor(each, dtype=torch.float64)) for each in values]


def _step(optimizer: Custom, *grads: list[float]) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g, dtype=p.dtype)
    optimizer.step()


@pytest.mark.parametrize("backend", ["reference", "eager", None])
def test_a_tally_goes_on_from_step_to_step_and_through_a_saved_state(backend: str | None) -> None:
    p, q = _params([0.0])[0], _params([0.0])[0]
    first = Custom([p], chain(Harmonic(), ScaleByLr(lr=1.0)), backend=backend)
    for _ in range(3):
        _step(first, [1.0])
    assert float(first.state[p]["harmonic"]) == 1 + 1 / 2 + 1 / 3
    with torch.no_grad():
        q.copy_(p)
    second = Custom([q], chain(Harmonic(), ScaleByLr(lr=1.0)), backend=backend)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _step(second, [1.0])
    steps = [1.0, 1 / (3 / 2), 1 / (1 + 1 / 2 + 1 / 3), 1 / (1 + 1 / 2 + 1 / 3 + 1 / 4)]
    assert q.item() == pytest.approx(-sum(steps), rel=1e-15)


@pytest.mark.parametrize("backend", ["reference", "eager", None])
def test_a_global_sum_spans_groups_and_dtypes(backend: str | None) -> None:
    a, b = _params([0.0, 0.0], [0.0])
    c = nn.Parameter(torch.zeros(1))
    optimizer = Custom(
        [{"params": [a]}, {"params": [b, c], "lr": 2.0}], chain(Unit(), ScaleByLr(lr=1.0)), backend=backend
    )
    _step(optimizer, [1.0, 2.0], [4.0], [2.0])
    assert a.tolist() == [-0.2, -0.4]
    assert b.tolist() == [-1.6]
    assert c.tolist() == pytest.approx([-0.8], rel=1e-7)


@pytest.mark.parametrize("backend", ["reference", "eager", None])
def test_a_sum_over_a_tensor_sees_what_the_links_before_it_make_and_is_each_tensors_own(
    backend: str | None,
) -> None:
    a, b = _params([0.0, 0.0], [0.0])
    rules = chain(HeavyBall(momentum=0.5), UnitTensor(), ScaleByLr(lr=1.0))
    optimizer = Custom([a, b], rules, backend=backend)
    _step(optimizer, [3.0, 4.0], [7.0])
    _step(optimizer, [1.5, -2.0], [-4.5])  # b = (3, 0) and -1
    assert a.tolist() == pytest.approx([-1.6, -0.8])
    assert b.tolist() == pytest.approx([0.0])
    assert optimizer.state[a]["momentum_buffer"].tolist() == [3.0, 0.0]  # measuring did not advance it


def test_two_sums_in_one_chain_are_taken_in_their_order() -> None:
    a, b = _params([0.0, 0.0], [0.0])
    _step(Custom([a, b], chain(UnitTensor(), Unit(), ScaleByLr(lr=1.0))), [3.0, 4.0], [-7.0])
    root = 2**0.5
    assert [*a.tolist(), *b.tolist()] == pytest.approx([-0.6 / root, -0.8 / root, 1 / root])


def test_the_raw_gradient_has_the_sign_of_maximize() -> None:
    [a] = _params([0.0])
    _step(Custom([a], chain(ScaleByLr(lr=0.5), AddRaw()), maximize=True), [1.0])
    assert a.tolist() == [1.5]


def test_shown_weights_are_swapped_in_and_back() -> None:
    [a] = _params([1.0])
    optimizer = Custom([a], chain(ShowStart(), ScaleByLr(lr=1.0)))
    assert optimizer.evaluated(a) is a
    _step(optimizer, [3.0])
    assert optimizer.evaluated(a).tolist() == [1.0]
    with optimizer.shown():
        assert a.tolist() == [1.0]
    assert a.tolist() == [-2.0]
    with pytest.raises(ModelError, match="none of this optimizer's"):
        optimizer.evaluated(torch.zeros(1))


def test_states_have_the_shape_that_the_rule_gives_them() -> None:
    p = nn.Parameter(torch.zeros(2, 3))
    optimizer = Custom([p], chain(ByRows(), ScaleByLr(lr=1.0)))
    p.grad = torch.ones(2, 3)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    assert saved["state"][0]["row_sum"].shape == (2, 1)
    other = nn.Parameter(torch.zeros(3, 2))
    wrong = Custom([other], chain(ByRows(), ScaleByLr(lr=1.0)))
    wrong.load_state_dict(saved)
    other.grad = torch.ones(3, 2)
    with pytest.raises(RecipeError, match=r"'row_sum' is \(2, 1\) for a parameter of shape \(3, 2\)"):
        wrong.step()


def _is_matrix(p: Tensor, name: str) -> bool:
    return p.ndim == 2 and not name.startswith("embed")


def test_each_parameter_takes_the_first_route_that_wants_it_by_shape_and_name() -> None:
    routes = Routes(((_is_matrix, chain(UnitTensor(), ScaleByLr(lr=2.0))),), chain(ScaleByLr(lr=2.0)))
    named = [(n, nn.Parameter(torch.zeros(1, 2))) for n in ("embed.weight", "hidden.weight")]
    optimizer = Custom([*named, ("hidden.bias", nn.Parameter(torch.zeros(2)))], routes)
    rows = [[[3.0, 4.0]], [[3.0, 4.0]], [3.0, 4.0]]
    for p, g in zip(optimizer.param_groups[0]["params"], rows, strict=True):
        p.grad = torch.tensor(g)
    optimizer.step()
    found = [p.flatten().tolist() for p in optimizer.param_groups[0]["params"]]
    assert found[0] == found[2] == [-6.0, -8.0]
    assert found[1] == pytest.approx([-1.2, -1.6])
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert [p.flatten().tolist() for p in optimizer.param_groups[0]["params"]] == found
    assert [(row.tensors, row.backend) for row in optimizer.plan().rows] == [(2, "native"), (1, "eager")]


@dataclass(frozen=True, kw_only=True)
class Reads(Rule[Stateless]):
    """Takes lr from the link that owns it."""

    shares: ClassVar[tuple[str, ...]] = ("lr",)
    domains: ClassVar[Domains] = {"pull": Interval(-1.0, 0.0, "a pull", "-1 is usual", closed=True)}

    lr: Scalar = 1.0
    pull: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(lr=self.lr, pull=self.pull)

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return g * k.lr + k.pull, ()


def test_a_shared_hyper_parameter_changes_in_both_links() -> None:
    [a] = _params([0.0])
    optimizer = Custom([a], chain(Reads(lr=3.0), ScaleByLr(lr=3.0)))
    _step(optimizer, [1.0])
    optimizer.param_groups[0]["lr"] = 1.0
    _step(optimizer, [1.0])
    assert a.tolist() == [-10.0]
    with pytest.raises(RecipeError, match=r"lr=2\.0, the chain 3\.0: it is one hyper-parameter"):
        chain(Reads(lr=2.0), ScaleByLr(lr=3.0))
    with pytest.raises(RecipeError, match="both have a hyper-parameter 'lr'"):
        chain(ScaleByLr(), ScaleByLr())


def test_a_rule_has_domains_of_its_own() -> None:
    with pytest.raises(RecipeError, match=r"pull=1: must lie in \[-1, 0\]"):
        Reads(pull=1.0)
    optimizer = Custom(_params([0.0]), chain(Reads(), ScaleByLr(lr=1.0)))
    optimizer.param_groups[0]["pull"] = 0.5
    with pytest.raises(RecipeError, match=r"pull=0\.5: must lie in"):
        _step(optimizer, [1.0])


def test_a_link_that_starts_or_ends_to_act_changes_the_chain() -> None:
    p, q = _params([1.0])[0], _params([1.0])[0]
    rules = chain(HeavyBall(momentum=0.9), ScaleByAdam(), ScaleByLr(lr=0.1))
    changed, fresh = Custom([p], rules), Custom([q], rules.replace(momentum=0.0))
    changed.param_groups[0]["momentum"] = 0.0
    _step(changed, [1.0])
    _step(fresh, [1.0])
    assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("domain", "good", "bad", "line"),
    [
        (
            Count(1, "steps", "5 is usual"),
            5,
            0,
            "x=0: must be a whole number from 1 on, it is steps; 5 is usual",
        ),
        (Count(1, "steps", "5 is usual"), 1, 2.5, "x=2.5: must be a whole number from 1 on"),
        (Choice(("a", None), "a way"), None, "b", "x='b': must be one of 'a', None, it is a way"),
        (Maybe(RATE), None, -1.0, r"x=-1: must lie in \[0, inf\)"),
        (Several(RATE, "rates", 3), (1.0, 2.0, 3.0), (1.0, 2.0), "x=.*: must be three numbers in"),
        (Several((RATE, Maybe(RATE)), "rates"), (1.0, None), (None, 1.0), r"x\[0\]=None: must be a number"),
    ],
)
def test_domains_take_what_they_say_and_refuse_the_rest_in_one_line(
    domain: Any, good: Any, bad: Any, line: str
) -> None:
    assert check("x", good, {"x": domain}) == good
    with pytest.raises(RecipeError, match=line) as told:
        check("x", bad, {"x": domain})
    assert "\n" not in str(told.value)
