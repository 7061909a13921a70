"""The contract: a rule of one's own passes by inheriting, and each proof fails on a rule that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from downslope.optim import Custom, Rule, Scalars, ScaleByLr, chain
from downslope.testing import Case, Descent, RuleContract
from downslope.testing.rules.proofs import stepped


class Mean(NamedTuple):
    m: Tensor


@dataclass(frozen=True, kw_only=True)
class Average(Rule[Mean]):
    """m = beta m + (1 - beta) g, debiased, as a user would write it."""

    memory: ClassVar[type[tuple[Tensor, ...]]] = Mean
    keys: ClassVar[tuple[str, ...]] = ("mean",)
    counts: ClassVar[bool] = True
    beta: float = 0.9

    def init(self, p):
        return Mean(torch.zeros_like(p))

    def at(self, t):
        return Scalars(beta=self.beta, gain=1.0 - self.beta, unbias=1.0 / (1.0 - self.beta**t))

    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        return k.unbias * m, Mean(m)


def averaged(p, gradients):
    p, m = np.array(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        p = p - 0.1 * m / (1 - 0.9**t)
    return p


def paper(x):
    m = x.beta * x.m + (1 - x.beta) * x.g
    return {"m": m, "p": x.p - x.lr * m / (1 - x.beta**x.t)}


def of(link, **fields):
    """A case for `link` with lr .1; `fields` come before what a debiased average has."""
    right = {
        # m = .2, .2 / .1; then m = .18 - .1, .08 / .19.
        "hand": (0.8, 0.8 - 0.008 / 0.19),
        "recurrence": averaged,
        "paper": paper,
        "invariances": ("odd", "rotation", "translation"),
        "equals": {"itself": lambda p, b: Custom(p, chain(Average(), ScaleByLr(lr=0.1)), backend=b)},
        "descents": (Descent("quadratic", 100, 1e-2), Descent("rosenbrock", 500, 2.5, lr=1e-3)),
    }
    return Case(
        fields.pop("name", type(link).__name__),
        lambda params, backend: Custom(params, chain(link, ScaleByLr(lr=0.1)), backend=backend),
        **{**right, **fields},
    )


class TestAverage(RuleContract):
    cases = (of(Average()), of(Average(), name="one matrix", shapes=((4, 3),)))


class Undebiased(Average):
    def at(self, t):
        return Scalars(beta=self.beta, gain=1.0 - self.beta, unbias=1.0)


class Forgetful(Average):
    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        return k.unbias * m, Mean(m.detach().round(decimals=3) if isinstance(m, Tensor) else m)


class Slow(Average):
    def eager(self, flow, state, p, k):
        return super().eager(flow, state, p, k).scaled(0.8)


class OfOneDtype(Average):
    def update(self, g, state, p, k):
        step, after = super().update(g, state, p, k)
        return step if getattr(g, "dtype", None) == torch.float64 else 0.8 * step, after


class Position(Average):
    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        return k.unbias * m + 0.01 * p, Mean(m)


class Biggest(Average):
    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        return k.unbias * torch.maximum(m, 0.1 * g), Mean(m)


class Flattened(Average):
    """Puts the elements in another order where the memory is: wrong for what is transposed."""

    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        return (k.unbias * m).flatten().as_strided(
            p.shape, p.stride()
        ) if p.ndim == 2 else k.unbias * m, Mean(m)


class Doubling(Average):
    """Right, but for what it leaves behind."""

    def update(self, g, state, p, k):
        m = k.beta * state.m + k.gain * g
        g.mul_(2.0)
        return k.unbias * m, Mean(m)


class StepOfItsOwn(Custom):
    def __init__(self, params, rule, *, backend=None):
        super().__init__(params, rule, backend=backend)
        self.own = 0

    def step(self, closure=None):
        self.own += 1
        self.param_groups[0]["lr"] = 0.1 / self.own**0.5
        return super().step(closure)


STEPS_OF_ITS_OWN = replace(
    of(Average()),
    make=lambda p, b: StepOfItsOwn(p, chain(Average(), ScaleByLr(lr=0.1)), backend=b),
)

FLOAT64 = {"dtype": torch.float64}
WRONG = [
    ("test_first_steps_are_those_calculated_by_hand", of(Undebiased()), {"backend": "reference"}),
    ("test_update_is_the_papers_expression", of(Undebiased()), {}),
    ("test_update_is_the_papers_expression", of(Position()), {}),
    ("test_update_is_the_papers_expression", of(Biggest()), {}),
    ("test_hundred_steps_equal_the_papers_recurrence_and_the_peer", of(Forgetful()),
     {"backend": "reference", **FLOAT64}),
    ("test_backend_equals_the_reference", of(Slow()), {"backend": "eager", **FLOAT64}),
    ("test_steps_follow_the_symmetry_of_the_method", of(Biggest()), {"item": "odd"}),
    ("test_steps_follow_the_symmetry_of_the_method", of(Biggest()), {"item": "rotation"}),
    ("test_steps_follow_the_symmetry_of_the_method", of(Position()), {"item": "translation"}),
    ("test_steps_follow_the_symmetry_of_the_method", of(Average()), {"item": "scale"}),
    ("test_steps_follow_the_symmetry_of_the_method", of(Average()), {"item": "sign"}),
    ("test_identity_of_the_method_holds", of(Position()), {"item": "itself"}),
    ("test_layout_in_memory_does_not_matter", of(Flattened()), {"backend": "eager"}),
    ("test_bfloat16_steps_within_its_rounding", of(OfOneDtype()), {"backend": "eager"}),
    ("test_gradients_stay_as_they_were", of(Doubling()), {"backend": "reference"}),
    ("test_parameter_without_gradient_waits", of(Undebiased()), {"backend": "reference"}),
    ("test_learning_rate_set_by_a_torch_scheduler_counts",
     replace(STEPS_OF_ITS_OWN, peer=lambda p: of(Average()).make(p, "reference")), {"backend": "reference"}),
    ("test_resumed_run_equals_the_uninterrupted_one_bit_for_bit", STEPS_OF_ITS_OWN,
     {"backend": "reference"}),
    ("test_comes_down_a_function_with_a_known_minimum", of(Average()),
     {"item": Descent("quadratic", 100, 1e-12)}),
    ("test_case_names_something_independent", of(Average(), recurrence=None), {}),
]  # fmt: skip


@pytest.mark.parametrize(("proof", "case", "given"), WRONG, ids=[f"{w[0]} {w[1].name}" for w in WRONG])
def test_proof_fails_on_a_rule_that_is_wrong(proof: str, case: Case, given: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        getattr(RuleContract(), proof)(case=case, **given)


@dataclass(frozen=True, kw_only=True)
class Normalised(Rule[tuple[()]]):
    """g / |g| + raw / 2, over all parameters, times a product of betas: all that a rule may ask for."""

    scope: ClassVar[Any] = "global"
    counts: ClassVar[bool] = True
    tally: ClassVar[Mapping[str, float]] = {"product": 1.0}
    measures: ClassVar[tuple[str, ...]] = ("squares",)
    wants_raw: ClassVar[bool] = True
    share: float = 0.5

    def init(self, p):
        return ()

    def advance(self, t, tally):
        product = tally["product"] * self.share
        return Scalars(share=self.share, part=1.0 - product), {"product": product}

    def measure(self, g, state, p, k):
        return (g * g,)

    def settle(self, t, k, totals, tally):
        norm = torch.sqrt(torch.as_tensor(totals.squares))
        return Scalars(share=k.share, part=k.part, over=torch.where(norm > 1.0, 1.0 / norm, 1.0)), tally

    def update(self, g, state, p, k):
        return k.part * (k.over * g) + k.share * k.raw, ()


def normalised(params, rows):
    params, product = [np.array(p) for p in params], 1.0
    for row in rows:
        there = [i for i, g in enumerate(row) if g is not None]
        norm = np.sqrt(sum((row[i] ** 2).sum() for i in there))
        product *= 0.5
        for i in there:
            params[i] = params[i] - 0.1 * ((1 - product) * row[i] / max(norm, 1.0) + 0.5 * row[i])
    return params


def normalised_paper(x):
    product = x.product * x.share
    over = x.where(x.sqrt(x.g**2) > 1, 1 / x.sqrt(x.g**2), 1)
    return {"product": product, "p": x.p - x.lr * ((1 - product) * over * x.g + x.share * x.g)}


class TestNormalised(RuleContract):
    """With a tally, a sum over everything and the raw gradient; its recurrence takes them all together."""

    cases = (
        of(
            Normalised(),
            recurrence=None,
            joint=normalised,
            paper=normalised_paper,
            hand=(0.85, 0.975),  # 1 - .1 (.5 + 1); + .1 (.75 + .5)
            invariances=("odd", "rotation", "translation"),
            equals={},
            descents=(Descent("quadratic", 200, 1e-2),),
        ),
    )


def test_a_proof_without_its_field_is_not_collected():
    class TestPlain(RuleContract):
        cases = (Case("plain", of(Average()).make, averaged),)

    assert TestPlain.test_update_is_the_papers_expression is None
    assert TestPlain.test_backend_equals_the_reference is not None
    assert RuleContract.test_update_is_the_papers_expression is not None


def test_nan_is_never_close():
    case = of(Average(), recurrence=lambda p, g: np.full_like(p, np.nan))
    with pytest.raises(AssertionError):
        RuleContract().test_hundred_steps_equal_the_papers_recurrence_and_the_peer(
            case, "reference", torch.float64
        )
    assert all(torch.isfinite(p).all() for p in stepped(case, "reference", torch.float64))
