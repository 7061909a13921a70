"""Rules of the user's own, written wrong: told before their first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.optim import Custom, Optimizer, ScaleByLr, chain
from downslope.optim.domains import Domains, Interval, Several
from downslope.optim.rule import Rule, Scalars


class Kept(NamedTuple):
    m: Tensor


@dataclass(frozen=True, kw_only=True)
class Nameless(Rule[Kept]):
    """Has a state and no keys."""

    alpha: float = -0.5

    def init(self, p: Tensor) -> Kept:
        return Kept(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        return Scalars(a=self.alpha)

    def update(self, g: Tensor, state: Kept, p: Tensor, k: Scalars) -> Any:
        return k.a * g, Kept(state.m + g)


@dataclass(frozen=True, kw_only=True)
class Named(Nameless):
    """As it should be."""

    memory: ClassVar[type[tuple[Tensor, ...]]] = Kept
    keys: ClassVar[tuple[str, ...]] = ("m",)


@dataclass(frozen=True, kw_only=True)
class StepOnly(Named):
    """Forgets the state."""

    def update(self, g: Tensor, state: Kept, p: Tensor, k: Scalars) -> Any:
        return g


@dataclass(frozen=True, kw_only=True)
class Bare(Named):
    """Returns a tensor in the place of a tuple of states."""

    def init(self, p: Tensor) -> Any:
        return torch.zeros_like(p)


def _parameter():
    p = nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    return p


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Nameless(), r"Nameless.init makes 1 tensor, and its keys are \(\)"),
        (Bare(), r"Bare.init makes 1 tensor, and its keys are \('m',\): init returns a tuple"),
        (StepOnly(), r"StepOnly.update must return \(step, state\)"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_what_a_rule_must_return_is_told_at_construction(rule, said, named):
    params = [("w", _parameter())] if named else [_parameter()]
    with pytest.raises(RecipeError, match=said):
        Custom(params, rule)


def test_a_field_of_another_methods_name_may_lie_anywhere():
    p = _parameter()
    optimizer = Custom([p], Named(alpha=-0.5))
    optimizer.step()
    assert torch.equal(p.detach(), torch.full((3,), 1.5))
    optimizer.param_groups[0]["alpha"] = 7.0
    optimizer.step()
    assert torch.equal(p.detach(), torch.full((3,), -5.5))


@dataclass(frozen=True, kw_only=True)
class Debiased(Named):
    """Reads the step, and does not say that it counts."""

    def at(self, t: int) -> Scalars:
        return Scalars(a=1.0 / (1.0 - 0.5**t))


@dataclass(frozen=True, kw_only=True)
class Inside(Named):
    """Reads it in a function of its own."""

    def at(self, t: int) -> Scalars:
        return Scalars(a=sum(0.5**i * (t > 0) for i in range(3)))


@dataclass(frozen=True, kw_only=True)
class FirstOnly(Named):
    """Reads it, and says that it wants to know the first step alone."""

    counts: ClassVar[bool] = False

    def at(self, t: int) -> Scalars:
        return Scalars(a=float(t))


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        (Named, False),
        (Debiased, True),
        (Inside, True),
        (FirstOnly, False),
        (type("Heir", (FirstOnly,), {}), False),
    ],
)
def test_who_reads_the_step_counts_unless_it_says_otherwise(rule, counts):
    assert rule.counts is counts


def test_scalars_of_the_third_step_are_those_of_the_third():
    p = nn.Parameter(torch.zeros(1))
    optimizer = Custom([p], Debiased())
    for t in (1, 2, 3):
        p.grad, before = torch.ones(1), p.item()
        optimizer.step()
        assert before - p.item() == pytest.approx(1.0 / (1.0 - 0.5**t), rel=1e-6)


@dataclass(frozen=True, kw_only=True)
class Bound(Named):
    """Has names that torch has."""

    eps: float = 0.1
    betas: tuple[float, ...] = (0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class Unbound(Bound):
    """Means something else by them."""

    domains: ClassVar[Domains] = {
        "eps": None,
        "betas": Several(Interval(0.0, 2.0, "a decay", "0.9 is usual"), "three decays", 3),
    }
    betas: tuple[float, ...] = (0.5, 0.9, 1.5)


class Own(Optimizer):
    """With a setting of a name that torch has."""

    def __init__(self, params: Any, eps: float) -> None:
        super().__init__(params, {"eps": eps})

    @classmethod
    def compose(cls, settings: Any) -> Any:
        return chain(Named(alpha=settings["eps"]))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Bound(eps=-1.0), r"^eps=-1: must lie in .* in Bound, .* domains = \{'eps': None\} there"),
        (lambda: Bound(betas=(0.1, 0.2, 0.3)), r"two numbers .* domains = \{'betas': None\} there takes any"),
        (
            lambda: Own([_parameter()], eps=-1.0),
            r"^eps=-1: must lie in .* in Own, .* domains = \{'eps': None\}",
        ),
        (
            lambda: Unbound(betas=(0.1, 0.2, 3.0)),
            r"^betas\[2\]=3: must lie in \[0, 2\), it is a decay; 0.9 is usual$",
        ),
        (lambda: ScaleByLr(lr=-1.0), "0.001 for Adam$"),
    ],
)
def test_names_that_torch_has_mean_the_same_in_rules_of_ones_own_unless_they_say_otherwise(make, said):
    with pytest.raises(RecipeError, match=said):
        make()


def test_a_rule_that_says_where_its_settings_lie_is_held_to_nothing_else():
    class Free(Own):
        domains: ClassVar[Domains] = {"eps": None}

    p, q = _parameter(), _parameter()
    rules = chain(Unbound(eps=-3.0))
    for optimizer in (Custom([p], rules), Free([q], eps=-0.5)):
        optimizer.step()
        optimizer.param_groups[0]["eps"] = -7.0
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(p.detach(), torch.full((3,), 2.0))
    assert torch.equal(q.detach(), torch.full((3,), 8.5))


@dataclass(frozen=True, kw_only=True)
class Doubtful(Named):
    """Refuses a rate at its step, and counts."""

    counts: ClassVar[bool] = True
    tally: ClassVar[Mapping[str, float]] = {"seen": 0.0}

    def advance(self, t: int, tally: Mapping[str, float]) -> Any:
        if self.alpha > 1.0:
            raise RecipeError("alpha is too high")
        return Scalars(a=self.alpha * t), {"seen": tally["seen"] + self.alpha}


def test_a_step_that_a_rule_refuses_does_not_count():
    p, q = _parameter(), _parameter()
    groups = [{"params": [p], "alpha": 0.5}, {"params": [q], "alpha": 0.5}]
    optimizer = Custom(groups, chain(Doubtful(alpha=0.5)))
    optimizer.step()
    optimizer.param_groups[1]["alpha"] = 2.0
    with pytest.raises(RecipeError, match="too high"):
        optimizer.step()
    for x in (p, q):
        assert torch.equal(x.detach(), torch.full((3,), 0.5))
        assert {k: float(v) for k, v in optimizer.state[x].items() if k != "m"} == {"step": 1.0, "seen": 0.5}
    optimizer.param_groups[1]["alpha"] = 0.5
    optimizer.step()
    for x in (p, q):
        assert torch.equal(x.detach(), torch.full((3,), -0.5))
        assert {k: float(v) for k, v in optimizer.state[x].items() if k != "m"} == {"step": 2.0, "seen": 1.0}


def _with(**changes: Any) -> Any:
    return dataclass(frozen=True, kw_only=True)(type("Wrong", (Named,), changes))()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"update": lambda _, g, state, p, k: (g * g.mean(), state)}, "Wrong.update of scope 'element'"),
        ({"update": lambda _, g, state, p, k: (g / g.shape[0], state)}, "Wrong.update of scope 'element'"),
        ({"update": lambda _, g, state, p, k: (g.sum(), state)}, r"Wrong.update makes step of shape \(\)"),
        ({"update": lambda _, g, state, p, k: (g, Kept(g.sum()))}, r"Wrong.update makes m of shape \(\)"),
        ({"update": lambda _, g, state, p, k: (g if g.sum() > 0 else -g, state)}, "Wrong cannot be run"),
        ({"memory": tuple}, "Wrong has keys .* and no memory"),
        ({"at": lambda _, t: {"a": 1.0}}, "Wrong.at returns dict: return Scalars"),
        ({"at": lambda _, t: None}, "Wrong.at returns NoneType"),
        ({"at": lambda _, t: Scalars(a=float("nan"))}, "Wrong.at makes a NaN at the first step"),
        ({"scope": "elements"}, "scope='elements' of Wrong is not known: say one of element, tensor"),
    ],
)
def test_a_rule_that_is_written_wrong_is_told_in_one_line(changes, said):
    with pytest.raises(RecipeError, match=said):
        Custom([_parameter()], chain(_with(**changes), ScaleByLr(lr=0.1)))


def test_a_power_of_each_element_is_no_look_at_others():
    rule = _with(update=lambda _, g, state, p, k: (g**2, Kept(state.m + g.exp())))
    with pytest.raises(RecipeError, match=r"pow is none of the operators .*write x \* x"):
        Custom([_parameter()], rule, backend="kernel")
    Custom([_parameter()], rule).step()


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "clamp"])
def test_a_rule_of_other_operations_has_no_kernel_and_steps_by_torchs(name: str) -> None:
    def apply(g: Any) -> Any:
        return g.clamp(-0.5, 0.5) if name == "clamp" else getattr(torch, name)(g)

    @dataclass(frozen=True, kw_only=True)
    class Other(Rule[Any]):
        def init(self, p: Any) -> Any:
            return ()

        def at(self, t: int) -> Any:
            return Scalars()

        def update(self, g: Any, state: Any, p: Any, k: Any) -> Any:
            return apply(g), ()

    p = nn.Parameter(torch.ones(400, 300))
    p.grad = torch.linspace(0.1, 2.0, 120_000).view(400, 300)
    rule = chain(Other(), ScaleByLr(lr=0.1))
    with pytest.raises(RecipeError, match=f"'kernel': {name} is none of the operators"):
        Custom([p], rule, backend="kernel")
    optimizer = Custom([p], rule)
    optimizer.step()
    assert optimizer.plan().rows[0].backend == "eager"
    torch.testing.assert_close(p.detach(), 1.0 - 0.1 * apply(p.grad))
