"""The later element-wise rules under the contract."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.testing import Descent, RuleContract
from tests.optim import expressions_element as expressions
from tests.optim import recurrences_element as recurrences
from tests.optim.test_rules import BY_ELEMENT, LINEAR, as_, case

FREE = ("scale", *BY_ELEMENT)
"""Symmetries of a method without decay that divides by the gradient's size, at eps 0."""


def down(quadratic, rosenbrock, lr=None, steps=500):
    """How far f comes down, from 24 and 24.2."""
    return (
        Descent("quadratic", steps, quadratic, lr=lr),
        Descent("rosenbrock", 2 * steps, rosenbrock, lr=lr),
    )


def averaged(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.averaged, **(more or {})}
    return case(name, optim.AveragedMomentum, recurrences.averaged, None, proofs, lr=0.1, **settings)


class TestAveragedMomentum(RuleContract):
    cases = (
        averaged(
            "default",  # m = .2, .08
            0.98,
            0.972,
            more={
                "invariances": LINEAR,
                "equals": {"momentum at a tenth of the rate": as_(optim.Momentum, lr=0.01)},
                "descents": (Descent("quadratic", 300, 1e-3), Descent("rosenbrock", 1000, 0.5, lr=2e-3)),
            },
        ),
        averaged(
            "debiased",  # .2/.1, .08/.19
            0.8,
            0.7578947368,
            more={"equals": {"radam that never scales": as_(optim.RAdam, lr=0.1, betas=(0.9, 2 / 3))}},
            debias=True,
        ),
        averaged("all", momentum=0.95, weight_decay=0.1, debias=True, maximize=True),
    )


def adadelta(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adadelta, **(more or {})}
    return case(name, optim.Adadelta, recurrences.adadelta, torch.optim.Adadelta, proofs, **settings)


class TestAdadelta(RuleContract):
    cases = (
        adadelta(
            "default",
            0.9968377263,
            0.9989228669,
            more={"invariances": BY_ELEMENT, "descents": down(1e-2, 1.5, lr=3.0)},
        ),
        adadelta("all", lr=0.5, rho=0.95, eps=1e-4, weight_decay=0.1, maximize=True),
    )


def adamax(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adamax, **(more or {})}
    return case(name, optim.Adamax, recurrences.adamax, torch.optim.Adamax, proofs, **settings)


class TestAdamax(RuleContract):
    cases = (
        adamax(
            "eps 0",  # u = 2, 1.998
            0.9,
            0.8789262947,
            more={"invariances": FREE, "descents": down(1e-9, 1.0)},
            lr=0.1,
            eps=0.0,
        ),
        adamax("all", lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, maximize=True),
    )


def torchs_nadam(params, **settings):
    """Torch's, with the product of its momenta in float64: it makes one of float32, which is 1e-7 off."""
    optimizer = torch.optim.NAdam(params, **settings)
    for p in params:
        means = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        product = torch.ones((), dtype=torch.float64)
        optimizer.state[p] = {"step": torch.zeros(()), "mu_product": product, **means}
    return optimizer


def nadam(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.nadam, **(more or {})}
    return case(name, optim.NAdam, recurrences.nadam, torchs_nadam, proofs, **settings)


class TestNAdam(RuleContract):
    cases = (
        nadam(
            "eps 0",
            0.8943548222,
            0.9354657951,
            more={"invariances": FREE, "descents": down(1e-4, 0.5, lr=0.02)},
            lr=0.1,
            eps=0.0,
        ),
        nadam("coupled", lr=0.01, betas=(0.8, 0.95), weight_decay=0.1, momentum_decay=0.1),
        nadam("decoupled", lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    )


def radam(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.radam, **(more or {})}
    return case(name, optim.RAdam, recurrences.radam, torch.optim.RAdam, proofs, **settings)


class TestRAdam(RuleContract):
    cases = (
        radam(
            "default",  # m / .1, m / .19: it scales from step 6 on
            0.8,
            0.7578947368,
            more={"invariances": BY_ELEMENT, "descents": down(0.5, 1.0, lr=5e-3)},
            lr=0.1,
        ),
        radam("coupled", lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1, maximize=True),
        radam("decoupled", lr=0.01, betas=(0.9, 0.8), weight_decay=0.1, decoupled_weight_decay=True),
    )


def adabelief(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adabelief, **(more or {})}
    return case(name, optim.AdaBelief, recurrences.adabelief, None, proofs, **settings)


class TestAdaBelief(RuleContract):
    cases = (
        adabelief(
            "eps 0",  # the first step is lr / b1
            0.8888888889,
            0.8605188096,
            more={"invariances": FREE, "descents": down(1e-4, 0.5, lr=0.02)},
            lr=0.1,
            eps=0.0,
        ),
        adabelief("rectified", lr=0.01, betas=(0.9, 0.9), rectify=True, weight_decay=0.1, maximize=True),
        adabelief(
            "coupled", lr=0.01, eps=1e-6, eps_root=1e-8, weight_decay=0.1, decoupled_weight_decay=False
        ),
    )


def adan(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adan, **(more or {})}
    return case(name, optim.Adan, recurrences.adan, None, proofs, **settings)


class TestAdan(RuleContract):
    cases = (
        adan(
            "eps 0",
            0.9,
            0.9315900351,
            more={"invariances": FREE, "descents": down(1e-4, 0.5, lr=0.05)},
            lr=0.1,
            eps=0.0,
        ),
        adan("decayed", lr=0.01, betas=(0.9, 0.8, 0.95), weight_decay=2.0, eps=1e-3),
        adan("as AdamW decays", lr=0.01, weight_decay=0.5, no_prox=True, maximize=True),
    )


def ademamix(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.ademamix, **(more or {})}
    return case(name, optim.AdEMAMix, recurrences.ademamix, None, proofs, **settings)


class TestAdEMAMix(RuleContract):
    cases = (
        ademamix("default", 0.8999800005, 0.8733336482, more={"descents": down(1e-2, 1.0, lr=0.02)}, lr=0.1),
        ademamix("warmed up", lr=0.01, alpha=8.0, beta3_warmup=70, alpha_warmup=40, weight_decay=0.1),
        ademamix("eps 0", more={"invariances": FREE}, lr=0.01, beta3_warmup=9, eps=0.0),
    )


def lion(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.lion, "sixteen_bits": False, **(more or {})}
    return case(name, optim.Lion, recurrences.lion, None, proofs, **settings)


class TestLion(RuleContract):
    cases = (
        lion("default", more={"invariances": FREE, "descents": down(1e-2, 1.0, lr=0.01)}, lr=0.01),
        lion("decayed", 0.89, 0.9811, lr=0.1, weight_decay=0.1),  # 1 - .1 (1 + .1), .89 - .1 (-1 + .089)
    )


def signum(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.signum, "sixteen_bits": False, **(more or {})}
    return case(name, optim.Signum, recurrences.signum, None, proofs, **settings)


class TestSignum(RuleContract):
    cases = (
        signum(
            "default",  # m = .2, .08: still up after a gradient down
            0.9,
            0.8,
            more={"invariances": FREE, "descents": down(1e-2, 1.0, lr=0.01)},
            lr=0.1,
        ),
        signum("signSGD", 0.9, 1.0, more={"invariances": ("sign", *FREE)}, lr=0.1, momentum=0.0),
        signum("coupled", lr=0.01, momentum=0.5, weight_decay=0.1, maximize=True),
    )


@pytest.mark.parametrize("backend", ["reference", "eager", None])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.9, 0.0)])
def test_radam_does_not_look_at_a_square_that_overflows_before_it_is_trusted(backend, betas):
    ours, theirs = (nn.Parameter(torch.tensor([1.0, 2.0, 3.0])) for _ in range(2))
    optimizers = (
        optim.RAdam([ours], lr=0.1, betas=betas, backend=backend),
        torch.optim.RAdam([theirs], lr=0.1, betas=betas),
    )
    for g in ([1e20, 1e-3, -1e25], *[[1.0, 2.0, -3.0]] * 7):
        ours.grad, theirs.grad = torch.tensor(g), torch.tensor(g)
        for each in optimizers:
            each.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)


def test_rectified_adabelief_does_not_look_at_a_square_that_overflows_before_it_is_trusted():
    p = nn.Parameter(torch.tensor([1.0]))
    optimizer = optim.AdaBelief([p], lr=0.1, rectify=True)
    p.grad = torch.tensor([1e25])
    optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([-1e24]))


def test_radam_scales_from_the_step_on_from_which_its_mean_square_can_be_trusted():
    rest = [optim.ScaleByRectified(eps=0.0).at(t).rest for t in range(1, 9)]
    assert rest == [1.0] * 5 + [0.0] * 3


@pytest.mark.parametrize("cls", [optim.Lion, optim.Signum])
def test_a_sign_moves_every_element_by_lr_and_one_without_gradient_not_at_all(cls):
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = cls([p], lr=0.5)
    p.grad = torch.tensor([1e-30, 0.0, -1e30], dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.0, 0.5]
