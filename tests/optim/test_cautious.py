"""Cautious steps: the paper's mask, around any chain and any class."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope.core.errors import RecipeError
from downslope.optim import (
    LAMB,
    LARS,
    SGD,
    Adam,
    AdamW,
    Caution,
    Cautious,
    CautiousAdamW,
    CautiousLion,
    Custom,
    DecoupledDecay,
    HeavyBall,
    ScaleByAdam,
    ScaleByLr,
    cautious,
    chain,
)
from downslope.testing.rules import Case, Descent, RuleContract, gradients, parameters, run
from tests.optim import joint_recurrences as paper


class CautiousSGD(Caution, SGD):
    """One line, as the documentation says."""


def adamw(name, more=None, **settings):
    return Case(
        name,
        lambda params, backend: CautiousAdamW(params, **settings, backend=backend),
        lambda p, g: paper.cautious_adamw(p, g, **settings),
        sixteen_bits=False,  # an element whose mean is near 0 falls on the other side of the mask
        **(more or {}),
    )


class TestCautiousAdamW(RuleContract):
    cases = (
        adamw("default", {"descents": (Descent("rosenbrock", 600, 0.5, lr=0.03),)}, lr=0.01),
        adamw("strong decay", lr=0.01, betas=(0.8, 0.95), weight_decay=1.0, maximize=True),
        adamw("scale", {"invariances": ("scale", "odd")}, lr=0.01, eps=0.0, weight_decay=0.0),
        adamw(
            "no decay",
            {
                "hand": (0.9000000005, 0.9000000005),
                "equals": {
                    "the links in a chain": lambda params, backend: Custom(
                        params, chain(ScaleByAdam(), Cautious(), ScaleByLr(lr=0.1)), backend=backend
                    ),
                    "cautious(Adam)": lambda params, backend: Custom(
                        params,
                        cautious(
                            Adam.compose(
                                {
                                    "lr": 0.1,
                                    "betas": (0.9, 0.999),
                                    "eps": 1e-8,
                                    "weight_decay": 0.0,
                                    "amsgrad": False,
                                }
                            )
                        ),
                        backend=backend,
                    ),
                },
            },
            lr=0.1,
            weight_decay=0.0,
        ),
    )


class TestCautiousLion(RuleContract):
    cases = (
        Case(
            "decay",
            lambda params, backend: CautiousLion(params, lr=0.01, weight_decay=0.1, backend=backend),
            lambda p, g: paper.cautious_lion(p, g, lr=0.01, weight_decay=0.1),
            invariances=("scale", "odd"),
            sixteen_bits=False,
        ),
    )


class TestCautiousHeavyBall(RuleContract):
    cases = (
        Case(
            "the paper's xi",
            lambda params, backend: Custom(
                params,
                cautious(chain(HeavyBall(), ScaleByLr(lr=0.05)), least_share=0.0, xi=1.0),
                backend=backend,
            ),
            lambda p, g: paper.cautious_heavy_ball(p, g, lr=0.05),
            invariances=("translation",),
            sixteen_bits=False,
        ),
        Case(
            "a share of .7",
            lambda params, backend: Custom(
                params, cautious(chain(HeavyBall(), ScaleByLr(lr=0.05)), least_share=0.7), backend=backend
            ),
            lambda p, g: paper.cautious_heavy_ball(p, g, lr=0.05, least_share=0.7, xi=0.0),
            sixteen_bits=False,
        ),
    )


@pytest.mark.parametrize(("base", "careful"), [(AdamW, CautiousAdamW), (SGD, CautiousSGD)])
def test_on_a_steady_gradient_it_is_the_base(base, careful):
    settings = {"lr": 0.01, "weight_decay": 0.0} | ({"momentum": 0.9} if base is SGD else {})
    first, second = parameters(torch.float64), parameters(torch.float64)
    steady = [gradients(torch.float64, 1)[0]] * 20
    run(base(first, **settings), steady)
    run(careful(second, **settings), steady)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_step_that_is_masked_never_climbs_the_batch():
    params = parameters(torch.float64)
    optimizer = CautiousAdamW(params, lr=0.01, weight_decay=0.0)
    for row in gradients(torch.float64, 25):
        before = [p.detach().clone() for p in params]
        run(optimizer, [row])
        for p, start, g in zip(params, before, row, strict=True):
            assert ((p.detach() - start) * g <= 0.0).all()


def test_small_gradients_are_masked_by_sign_not_by_a_product_that_underflows():
    p = nn.Parameter(torch.ones(2))
    run(Custom([p], cautious(chain(HeavyBall(), ScaleByLr(lr=1e30)))), [[torch.full((2,), 1e-30)]])
    assert p.tolist() == pytest.approx([0.0, 0.0])


def test_what_is_no_number_is_not_masked_away():
    p = nn.Parameter(torch.ones(2))
    run(CautiousAdamW([p]), [[torch.tensor([float("nan"), 1.0])]])
    assert p[0].isnan()


def test_link_stands_before_decay_ratio_and_rate():
    def names(rule):
        return [type(link).__name__ for link in cautious(rule).links]

    params = [nn.Parameter(torch.ones(2))]
    assert names(chain(ScaleByAdam(), DecoupledDecay(), ScaleByLr())) == [
        "ScaleByAdam",
        "Cautious",
        "DecoupledDecay",
        "ScaleByLr",
    ]
    assert names(LAMB.compose(LAMB(params).param_groups[0]))[:2] == ["ScaleByAdam", "Cautious"]
    assert names(LARS.compose(LARS(params).param_groups[0]))[-2:] == ["HeavyBall", "Cautious"]
    assert names(SGD.compose(SGD(params, momentum=0.9).param_groups[0]))[-2:] == ["Cautious", "ScaleByLr"]


def test_chain_that_is_cautious_already_is_refused():
    with pytest.raises(RecipeError, match="has a Cautious link already"):
        cautious(cautious(chain(ScaleByAdam(), ScaleByLr())))


def test_share_outside_its_domain_is_refused():
    with pytest.raises(RecipeError, match="least_share=2: must lie in"):
        Cautious(least_share=2.0)
