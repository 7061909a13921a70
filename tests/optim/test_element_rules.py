"""The later element-wise rules under the contract, and two steps of each by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.testing.rule_contract import RuleContract
from tests.optim import recurrences_element as recurrences
from tests.optim.test_rules import case


class TestAveragedMomentum(RuleContract):
    cases = (
        case("default", optim.AveragedMomentum, recurrences.averaged, lr=0.1),
        case("debiased", optim.AveragedMomentum, recurrences.averaged, lr=0.1, debias=True, momentum=0.95),
        case("all", optim.AveragedMomentum, recurrences.averaged, lr=0.1, weight_decay=0.1, maximize=True),
    )


def adadelta(name, **settings):
    return case(name, optim.Adadelta, recurrences.adadelta, torch.optim.Adadelta, **settings)


class TestAdadelta(RuleContract):
    cases = (
        adadelta("default"),
        adadelta("all", lr=0.5, rho=0.95, eps=1e-4, weight_decay=0.1, maximize=True),
    )


def adamax(name, **settings):
    return case(name, optim.Adamax, recurrences.adamax, torch.optim.Adamax, **settings)


class TestAdamax(RuleContract):
    cases = (
        adamax("default", lr=0.01),
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


def nadam(name, **settings):
    return case(name, optim.NAdam, recurrences.nadam, torchs_nadam, **settings)


class TestNAdam(RuleContract):
    cases = (
        nadam("default", lr=0.01),
        nadam("coupled", lr=0.01, betas=(0.8, 0.95), weight_decay=0.1, momentum_decay=0.1),
        nadam("decoupled", lr=0.01, weight_decay=0.1, decoupled_weight_decay=True, maximize=True),
    )


def radam(name, **settings):
    return case(name, optim.RAdam, recurrences.radam, torch.optim.RAdam, **settings)


class TestRAdam(RuleContract):
    cases = (
        radam("default", lr=0.01),
        radam("coupled", lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
        radam("never scales", lr=0.01, betas=(0.9, 2 / 3), maximize=True),
        radam("decoupled", lr=0.01, betas=(0.9, 0.8), weight_decay=0.1, decoupled_weight_decay=True),
    )


def adabelief(name, **settings):
    return case(name, optim.AdaBelief, recurrences.adabelief, **settings)


class TestAdaBelief(RuleContract):
    cases = (
        adabelief("default", lr=0.01),
        adabelief("no root", lr=0.01, betas=(0.8, 0.95), eps=1e-8, eps_root=0.0, weight_decay=0.1),
        adabelief("rectified", lr=0.01, betas=(0.9, 0.9), rectify=True, maximize=True),
        adabelief("coupled", lr=0.01, eps=1e-6, weight_decay=0.1, decoupled_weight_decay=False),
    )


def adan(name, **settings):
    return case(name, optim.Adan, recurrences.adan, **settings)


class TestAdan(RuleContract):
    cases = (
        adan("default", lr=0.01),
        adan("decayed", lr=0.01, betas=(0.9, 0.8, 0.95), weight_decay=2.0, eps=1e-3),
        adan("as AdamW decays", lr=0.01, weight_decay=0.5, no_prox=True, maximize=True),
    )


def ademamix(name, **settings):
    return case(name, optim.AdEMAMix, recurrences.ademamix, **settings)


class TestAdEMAMix(RuleContract):
    cases = (
        ademamix("default", lr=0.01),
        ademamix("warmed up", lr=0.01, alpha=8.0, beta3_warmup=70, alpha_warmup=40, weight_decay=0.1),
        ademamix("ascent", lr=0.01, betas=(0.5, 0.9, 0.99), beta3_warmup=200, eps=1e-3, maximize=True),
    )


class TestLion(RuleContract):
    cases = (
        case("default", optim.Lion, recurrences.lion, lr=0.01),
        case("all", optim.Lion, recurrences.lion, lr=0.01, betas=(0.5, 0.9), weight_decay=0.3, maximize=True),
    )


def signum(name, **settings):
    return case(name, optim.Signum, recurrences.signum, lr=0.01, **settings)


class TestSignum(RuleContract):
    cases = (
        signum("default"),
        signum("signSGD", momentum=0.0, maximize=True),
        signum("coupled", momentum=0.5, weight_decay=0.1),
        signum("decoupled", weight_decay=0.1, decoupled_weight_decay=True),
    )


BY_HAND = [
    (optim.AveragedMomentum, {}, 0.98, 0.972),  # m = .2, .08
    (optim.AveragedMomentum, {"debias": True}, 0.8, 0.7578947368),  # .2/.1, .08/.19
    (optim.Adadelta, {"lr": 1.0}, 0.9968377263, 0.9989228669),
    (optim.Adamax, {}, 0.9000000005, 0.8789262953),  # u = 2, 1.998
    (optim.NAdam, {}, 0.8943548227, 0.9354657954),
    (optim.RAdam, {}, 0.8, 0.7578947368),  # m / .1, m / .19: it scales from step 6 on
    (optim.AdaBelief, {}, 0.8888888889, 0.8605188096),  # the first step is lr / b1
    (optim.Adan, {}, 0.9000000005, 0.9315900355),
    (optim.AdEMAMix, {}, 0.8999800005, 0.8733336482),
    (optim.Lion, {"weight_decay": 0.1}, 0.89, 0.9811),  # 1 - .1 (1 + .1), .89 - .1 (-1 + .089)
    (optim.Signum, {}, 0.9, 0.8),  # m = .2, .08: still up after a gradient down
]


@pytest.mark.parametrize(("cls", "settings", "first", "second"), BY_HAND)
def test_two_steps_computed_by_hand(cls, settings, first, second):
    """From 1 with gradients 2 and -1 at lr 0.1."""
    p = nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = cls([p], **{"lr": 0.1, **settings})
    for g, wanted in ((2.0, first), (-1.0, second)):
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        assert p.item() == pytest.approx(wanted, abs=6e-11)


def test_radam_scales_from_the_step_on_from_which_its_mean_square_can_be_trusted():
    on = [optim.ScaleByRectified().at(t).on for t in range(1, 9)]
    assert on == [0.0] * 5 + [1.0] * 3


@pytest.mark.parametrize("cls", [optim.Lion, optim.Signum])
def test_a_sign_moves_every_element_by_lr_and_one_without_gradient_not_at_all(cls):
    p = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = cls([p], lr=0.5)
    p.grad = torch.tensor([1e-30, 0.0, -1e30], dtype=torch.float64)
    optimizer.step()
    assert p.tolist() == [-0.5, 0.0, 0.5]
