"""Every rule under the contract: the paper's recurrence, torch, resume, schedulers, memory layout."""

from __future__ import annotations

import torch

from downslope import optim
from downslope.testing.rule_contract import Case, RuleContract
from tests.optim import recurrences


def case(name, ours, recurrence, theirs=None, **settings):
    """One case with the same `settings` for all three; `recurrence` translates names where they differ."""
    return Case(
        name,
        lambda params, backend: ours(params, **settings, backend=backend),
        lambda p, gradients: recurrence(p, gradients, **settings),
        None if theirs is None else lambda params: theirs(params, **settings, foreach=False),
    )


def adam(p, gradients, weight_decay=0.0, **settings):
    return recurrences.adam(p, gradients, l2=weight_decay, **settings)


def adamw(p, gradients, weight_decay=0.01, **settings):
    return recurrences.adam(p, gradients, decay=weight_decay, **settings)


def adagrad(p, gradients, initial_accumulator_value=0.0, **settings):
    return recurrences.adagrad(p, gradients, start=initial_accumulator_value, **settings)


class TestGD(RuleContract):
    cases = (
        case("plain", optim.GD, recurrences.sgd, torch.optim.SGD, lr=0.1),
        case("decay", optim.GD, recurrences.sgd, torch.optim.SGD, lr=0.1, weight_decay=0.2, maximize=True),
    )


def sgd(name, **settings):
    return case(name, optim.SGD, recurrences.sgd, torch.optim.SGD, **settings)


class TestSGD(RuleContract):
    cases = (
        sgd("plain", lr=0.1),
        sgd("decay", lr=0.1, weight_decay=0.2),
        sgd("momentum", lr=0.1, momentum=0.9),
        sgd("dampened", lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.05),
        sgd("nesterov", lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.05),
        sgd("ascent", lr=0.01, momentum=0.8, nesterov=True, weight_decay=0.05, maximize=True),
    )


class TestMomentum(RuleContract):
    cases = (
        case("default", optim.Momentum, recurrences.sgd, torch.optim.SGD, lr=0.1, momentum=0.9),
        case(
            "ascent", optim.Momentum, recurrences.sgd, lr=0.1, momentum=0.5, weight_decay=0.1, maximize=True
        ),
    )


class TestNesterov(RuleContract):
    cases = (
        Case(
            "mu .9",
            lambda params, backend: optim.Nesterov(params, lr=0.1, momentum=0.9, backend=backend),
            lambda p, g: recurrences.sgd(p, g, lr=0.1, momentum=0.9, nesterov=True),
            lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, foreach=False),
        ),
    )


class TestAdagrad(RuleContract):
    cases = (
        case("default", optim.Adagrad, adagrad, torch.optim.Adagrad, lr=0.1),
        case(
            "all set",
            optim.Adagrad,
            adagrad,
            torch.optim.Adagrad,
            lr=0.1,
            lr_decay=0.05,
            weight_decay=0.1,
            initial_accumulator_value=0.3,
            eps=1e-3,
        ),
        case("ascent", optim.Adagrad, adagrad, torch.optim.Adagrad, lr=0.1, maximize=True),
    )


def rmsprop(name, **settings):
    return case(name, optim.RMSprop, recurrences.rmsprop, torch.optim.RMSprop, **settings)


class TestRMSprop(RuleContract):
    cases = (
        rmsprop("default", lr=0.01),
        rmsprop("centred", lr=0.01, alpha=0.9, centered=True, eps=1e-4),
        rmsprop("momentum", lr=0.01, momentum=0.9, weight_decay=0.1),
        rmsprop("all", lr=0.01, alpha=0.95, momentum=0.5, centered=True, weight_decay=0.1, maximize=True),
    )


class TestAdam(RuleContract):
    cases = (
        case("default", optim.Adam, adam, torch.optim.Adam, lr=0.01),
        case("coupled", optim.Adam, adam, torch.optim.Adam, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
        case("ascent", optim.Adam, adam, torch.optim.Adam, lr=0.01, eps=1e-3, maximize=True),
        case("amsgrad", optim.Adam, adam, torch.optim.Adam, lr=0.01, betas=(0.8, 0.9), amsgrad=True),
        case("amsgrad, coupled", optim.Adam, adam, torch.optim.Adam, lr=0.01, weight_decay=0.1, amsgrad=True),
    )


class TestAdamW(RuleContract):
    cases = (
        case("default", optim.AdamW, adamw, torch.optim.AdamW, lr=0.01),
        case("strong", optim.AdamW, adamw, torch.optim.AdamW, lr=0.01, betas=(0.8, 0.95), weight_decay=1.0),
        case("ascent", optim.AdamW, adamw, torch.optim.AdamW, lr=0.01, maximize=True),
        case("amsgrad", optim.AdamW, adamw, torch.optim.AdamW, lr=0.01, betas=(0.8, 0.9), amsgrad=True),
    )
