"""Every optimizer under the contract of `downslope.testing`: by hand, by symbols, beside the paper and torch.

To add one: its recurrence in `recurrences` (or beside its class here), its step on symbols in `expressions`,
two steps by hand, and a class below. What else a case may hold is told in `downslope.testing.rules.case`.
"""

from __future__ import annotations

import torch

from downslope import optim
from downslope.testing import Case, Descent, RuleContract
from tests.optim import expressions, recurrences


def case(name, ours, recurrence, theirs=None, proofs=None, **settings):
    """One case with the same `settings` for all three; `recurrence` translates names where they differ.

    `proofs` are the other fields of `Case`: hand, paper, invariances, equals, descents, tolerance.
    """
    return Case(
        name,
        lambda params, backend: ours(params, **settings, backend=backend),
        lambda p, gradients: recurrence(p, gradients, **settings),
        None if theirs is None else lambda params: theirs(params, **settings, foreach=False),
        **(proofs or {}),
    )


def as_(ours, **settings):
    """The same method as a setting of another: a value of `Case.equals`."""
    return lambda params, backend: ours(params, **settings, backend=backend)


def adam(p, gradients, weight_decay=0.0, **settings):
    return recurrences.adam(p, gradients, l2=weight_decay, **settings)


def adamw(p, gradients, weight_decay=0.01, **settings):
    return recurrences.adam(p, gradients, decay=weight_decay, **settings)


def adagrad(p, gradients, initial_accumulator_value=0.0, **settings):
    return recurrences.adagrad(p, gradients, start=initial_accumulator_value, **settings)


LINEAR = ("odd", "rotation", "translation")
"""Symmetries of a method that is linear in the gradients and has no decay."""

BY_ELEMENT = ("odd", "translation")


class TestGD(RuleContract):
    def proofs(*hand, **more):
        return {"hand": hand, "paper": expressions.sgd, **more}

    cases = (
        case(
            "plain",
            optim.GD,
            recurrences.sgd,
            torch.optim.SGD,
            proofs(
                0.8,
                0.9,
                invariances=LINEAR,
                equals={
                    "SGD": as_(optim.SGD, lr=0.1),
                    "momentum 0": as_(optim.Momentum, lr=0.1, momentum=0.0),
                },
                descents=(Descent("quadratic", 100, 1e-8), Descent("rosenbrock", 1000, 0.5, lr=1e-3)),
            ),
            lr=0.1,
        ),
        case(
            "decay",
            optim.GD,
            recurrences.sgd,
            torch.optim.SGD,
            proofs(1.18, 1.0564),
            lr=0.1,
            weight_decay=0.2,
            maximize=True,
        ),
    )


def sgd(name, *hand, paper=expressions.heavy_ball, more=None, **settings):
    proofs = {"hand": hand, "paper": paper, **(more or {})}
    return case(name, optim.SGD, recurrences.sgd, torch.optim.SGD, proofs, **settings)


class TestSGD(RuleContract):
    cases = (
        sgd("plain", 0.8, 0.9, paper=expressions.sgd, lr=0.1),
        sgd("decay", 0.78, 0.8644, paper=expressions.sgd, lr=0.1, weight_decay=0.2),
        sgd(
            "momentum",
            0.8,
            0.72,
            more={
                "invariances": LINEAR,
                "equals": {"Momentum": as_(optim.Momentum, lr=0.1, momentum=0.9)},
                "descents": (Descent("quadratic", 300, 1e-8), Descent("rosenbrock", 1000, 0.1, lr=5e-4)),
            },
            lr=0.1,
            momentum=0.9,
        ),
        sgd("dampened", 0.795, 0.6777175, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.05),
        sgd(
            "nesterov",
            0.631,
            0.674121,
            paper=expressions.nesterov,
            lr=0.1,
            momentum=0.8,
            nesterov=True,
            weight_decay=0.05,
        ),
        sgd(
            "ascent",
            1.0351,
            1.02864841,
            paper=expressions.nesterov,
            lr=0.01,
            momentum=0.8,
            nesterov=True,
            weight_decay=0.05,
            maximize=True,
        ),
    )


class TestMomentum(RuleContract):
    cases = (
        case(
            "default",
            optim.Momentum,
            recurrences.sgd,
            torch.optim.SGD,
            {"hand": (0.8, 0.72), "paper": expressions.heavy_ball, "invariances": LINEAR},
            lr=0.1,
            momentum=0.9,
        ),
        case(
            "ascent",
            optim.Momentum,
            recurrences.sgd,
            None,
            {"hand": (1.19, 1.1731), "paper": expressions.heavy_ball},
            lr=0.1,
            momentum=0.5,
            weight_decay=0.1,
            maximize=True,
        ),
    )


class TestNesterov(RuleContract):
    cases = (
        Case(
            "mu .9",
            as_(optim.Nesterov, lr=0.1, momentum=0.9),
            lambda p, g: recurrences.sgd(p, g, lr=0.1, momentum=0.9, nesterov=True),
            lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, foreach=False),
            hand=(0.62, 0.648),
            paper=expressions.nesterov,
            invariances=LINEAR,
            equals={"SGD": as_(optim.SGD, lr=0.1, momentum=0.9, nesterov=True)},
            descents=(Descent("quadratic", 300, 1e-8), Descent("rosenbrock", 1000, 0.1, lr=5e-4)),
        ),
    )


class TestAdagrad(RuleContract):
    def proofs(*hand, **more):
        return {"hand": hand, "paper": expressions.adagrad, **more}

    cases = (
        case(
            "default",
            optim.Adagrad,
            adagrad,
            torch.optim.Adagrad,
            proofs(
                0.9,
                0.9447213596,
                invariances=BY_ELEMENT,
                descents=(Descent("quadratic", 200, 1e-6, lr=0.5), Descent("rosenbrock", 1000, 0.5, lr=0.5)),
            ),
            lr=0.1,
        ),
        case(
            "all set",
            optim.Adagrad,
            adagrad,
            torch.optim.Adagrad,
            proofs(0.9032816732, 0.9400821928),
            lr=0.1,
            lr_decay=0.05,
            weight_decay=0.1,
            initial_accumulator_value=0.3,
            eps=1e-3,
        ),
        case(
            "ascent",
            optim.Adagrad,
            adagrad,
            torch.optim.Adagrad,
            proofs(1.1, 1.0552786404),
            lr=0.1,
            maximize=True,
        ),
        case(
            "eps 0",
            optim.Adagrad,
            adagrad,
            torch.optim.Adagrad,
            proofs(0.9, 0.9447213595, invariances=("scale",)),
            lr=0.1,
            eps=0.0,
        ),
    )


def rmsprop(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.rmsprop, **(more or {})}
    return case(name, optim.RMSprop, recurrences.rmsprop, torch.optim.RMSprop, proofs, **settings)


class TestRMSprop(RuleContract):
    cases = (
        rmsprop(
            "default",
            0.9000000050,
            0.9449013285,
            more={
                "invariances": BY_ELEMENT,
                "descents": (Descent("quadratic", 300, 1e-3), Descent("rosenbrock", 1000, 0.5)),
            },
            lr=0.01,
        ),
        rmsprop("centred", 0.9666722213, 0.9815178638, lr=0.01, alpha=0.9, centered=True, eps=1e-4),
        rmsprop("momentum", 0.9000000048, 0.8499291899, lr=0.01, momentum=0.9, weight_decay=0.1),
        rmsprop(
            "all",
            1.0458831457,
            1.0458550090,
            lr=0.01,
            alpha=0.95,
            momentum=0.5,
            centered=True,
            weight_decay=0.1,
            maximize=True,
        ),
    )


def of_adam(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adam, **(more or {})}
    return case(name, optim.Adam, adam, torch.optim.Adam, proofs, **settings)


class TestAdam(RuleContract):
    cases = (
        of_adam(
            "default",
            0.99,
            0.9873366297,
            more={
                "invariances": BY_ELEMENT,
                "descents": (Descent("quadratic", 500, 1e-4), Descent("rosenbrock", 1000, 0.5, lr=0.02)),
            },
            lr=0.01,
        ),
        of_adam("coupled", 0.99, 0.9872976553, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
        of_adam("ascent", 1.0099950025, 1.0126566892, lr=0.01, eps=1e-3, maximize=True),
        of_adam("amsgrad", 0.99, 0.9878577181, lr=0.01, betas=(0.8, 0.9), amsgrad=True),
        of_adam("amsgrad, coupled", lr=0.01, weight_decay=0.1, amsgrad=True),
        of_adam("eps 0", more={"invariances": ("scale",)}, lr=0.01, eps=0.0),
    )


def of_adamw(name, *hand, more=None, **settings):
    proofs = {"hand": hand, "paper": expressions.adamw, **(more or {})}
    return case(name, optim.AdamW, adamw, torch.optim.AdamW, proofs, **settings)


class TestAdamW(RuleContract):
    cases = (
        of_adamw(
            "default",
            0.9899,
            0.9871376397,
            more={"descents": (Descent("quadratic", 500, 1e-3), Descent("rosenbrock", 1000, 0.5, lr=0.02))},
            lr=0.01,
        ),
        of_adamw("strong", 0.98, 0.9680754086, lr=0.01, betas=(0.8, 0.95), weight_decay=1.0),
        of_adamw("ascent", lr=0.01, maximize=True),
        of_adamw("amsgrad", 0.9899, 0.9876587281, lr=0.01, betas=(0.8, 0.9), amsgrad=True),
        of_adamw(
            "no decay",
            more={"invariances": BY_ELEMENT, "equals": {"Adam": as_(optim.Adam, lr=0.01)}},
            lr=0.01,
            weight_decay=0.0,
        ),
    )
