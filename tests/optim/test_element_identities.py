"""Where the later element-wise rules coincide with others, and what leaves their steps as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import downslope as ds
from downslope import optim
from downslope.core.errors import RecipeError
from downslope.testing import gradients, parameters, run
from tests.optim import test_identities
from tests.optim.test_identities import after, assert_same


def late(make, steps=3):
    """The steps of a method that has made a hundred million, from means of no gradient."""
    params = parameters(torch.float64)
    optimizer = make(params)
    run(optimizer, gradients(torch.float64, 1))
    for p in params:
        state = optimizer.state[p]
        state["step"] = torch.tensor(1e8)
        for key, value in state.items():
            if key != "step" and value.ndim == p.ndim and key != "mu_product":
                state[key] = torch.zeros_like(p)
        if "mu_product" in state:
            state["mu_product"] = torch.zeros((), dtype=torch.float64)
    optimizer.load_state_dict(optimizer.state_dict())
    before = [p.detach().clone() for p in params]
    run(optimizer, gradients(torch.float64, steps, seed=7))
    return [p.detach() - start for p, start in zip(params, before, strict=True)]


def made(cls, **settings):
    return lambda p: cls(p, **{"lr": 0.01, **settings})


SAME = {
    "an average over nothing is plain descent": (
        made(optim.AveragedMomentum, momentum=0.0, debias=True),
        made(optim.GD),
    ),
    "an average decays as momentum does": (
        made(optim.AveragedMomentum, lr=0.1, weight_decay=0.1),
        made(optim.Momentum, weight_decay=0.1),
    ),
    "AdEMAMix without its slow mean is AdamW": (
        made(optim.AdEMAMix, betas=(0.5, 0.9, 0.99), alpha=0.0, weight_decay=0.1, maximize=True),
        made(optim.AdamW, betas=(0.5, 0.9), weight_decay=0.1, maximize=True),
    ),
    "Adan that keeps no means of gradients is AdamW": (
        made(optim.Adan, betas=(0.0, 0.0, 0.9), weight_decay=0.1, no_prox=True),
        made(optim.AdamW, betas=(0.0, 0.9), weight_decay=0.1),
    ),
    "Lion with one decay is Signum": (
        made(optim.Lion, betas=(0.9, 0.9), weight_decay=0.1),
        made(optim.Signum, weight_decay=0.1, decoupled_weight_decay=True),
    ),
}


class TestIdentities:
    @pytest.mark.parametrize("name", SAME)
    def test_methods_that_are_one(self, name):
        first, second = SAME[name]
        assert_same(after(first), after(second))

    def test_an_average_differs_from_dampened_momentum_by_its_first_gradient_alone(self):
        """Torch's first buffer is g, not (1 - b) g: all that is left of it after t steps is b**t g."""
        ours, theirs = parameters(torch.float64), parameters(torch.float64)
        average = optim.AveragedMomentum(ours, lr=0.1, momentum=0.9)
        dampened = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, dampening=0.9)
        given = gradients(torch.float64, 6)
        run(average, given)
        run(dampened, given)
        for p, q, g in zip(ours, theirs, given[0], strict=True):
            left = dampened.state[q]["momentum_buffer"] - average.state[p]["exp_avg"]
            torch.testing.assert_close(left, 0.9**6 * g, rtol=1e-12, atol=1e-12)

    def test_radam_late_in_a_run_is_adam(self):
        assert_same(
            late(lambda p: optim.RAdam(p, lr=0.1, eps=0.3)),
            late(lambda p: optim.Adam(p, lr=0.1, eps=0.3)),
            rtol=1e-9,
        )

    def test_nadam_with_a_steady_momentum_is_adam_one_step_ahead(self):
        """At an infinite pace mu is b1 from the first step on: ``(1 - b1) g + b1 m`` in place of m."""
        steady = late(lambda p: optim.NAdam(p, lr=0.1, eps=0.3, momentum_decay=1e6), steps=1)
        adam = late(lambda p: optim.Adam(p, lr=0.1, eps=0.3), steps=1)
        assert_same(steady, [1.9 * step for step in adam], rtol=1e-12)  # m = .1 g, ahead .1 g + .9 m

    def test_adans_decays_agree_to_first_order_in_lr(self):
        prox, plain = (
            after(lambda p, n=n: optim.Adan(p, lr=1e-5, weight_decay=1.0, no_prox=n), steps=20)
            for n in (False, True)
        )
        for a, b, start in zip(prox, plain, parameters(torch.float64), strict=True):
            assert (a - b).abs().max() < 1e-2 * (a - start).abs().max()
            assert not torch.equal(a, b)

    def test_adabelief_steps_by_lr_over_b1_at_first(self):
        for p, start, g in zip(
            after(lambda p: optim.AdaBelief(p, lr=0.1, eps=1e-30, betas=(0.8, 0.9)), steps=1),
            parameters(torch.float64), gradients(torch.float64, 1)[0], strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(start - p, 0.125 * g.sign(), rtol=1e-9, atol=0)

    @pytest.mark.parametrize("decoupled", [False, True])
    @pytest.mark.parametrize("name", ["NAdam", "RAdam", "AdaBelief", "Signum"])
    def test_no_decay_is_neither_coupled_nor_decoupled(self, name, decoupled):
        cls = getattr(optim, name)
        assert_same(
            after(lambda p: cls(p, lr=0.01, decoupled_weight_decay=decoupled)),
            after(lambda p: cls(p, lr=0.01)),
            rtol=0,
        )


THREE = torch.tensor([0.5, 0.9, 0.99])
MEMBERS = (
    optim.chain(optim.MovingAverage(beta=THREE, debias=True), optim.ScaleByLr(lr=0.1)),
    optim.chain(optim.ScaleByDelta(rho=THREE, eps=torch.tensor([1e-6, 1e-4, 1e-2])), optim.ScaleByLr(lr=1.0)),
    optim.chain(optim.ScaleByLargest(betas=(0.9, THREE)), optim.ScaleByLr(lr=0.01)),
    optim.chain(optim.ScaleByRectified(betas=(THREE, THREE)), optim.ScaleByLr(lr=0.01)),
    optim.chain(optim.ScaleByBelief(betas=(0.9, THREE), rectify=True), optim.ScaleByLr(lr=0.01)),
    optim.chain(
        optim.ScaleByAdan(betas=(THREE, 0.9, THREE)),
        optim.ProximalLr(lr=torch.tensor([0.1, 0.01, 0.001]), weight_decay=THREE),
    ),
    optim.chain(
        optim.ScaleByTwoMeans(betas=(0.0, 0.9, THREE), beta3_warmup=20, alpha=torch.tensor([0.0, 2.0, 8.0])),
        optim.ScaleByLr(lr=0.01),
    ),
    optim.chain(optim.SignOfMean(betas=(THREE, 0.9)), optim.ScaleByLr(lr=0.01)),
    optim.chain(optim.ScaleByNadam(), optim.ScaleByLr(lr=torch.tensor([0.1, 0.01, 0.001]))),
)


@pytest.mark.parametrize("rule", MEMBERS, ids=lambda rule: type(rule.links[0]).__name__)
def test_one_rule_serves_a_population_of_three(rule):
    test_identities.test_one_rule_serves_a_population_of_three(rule)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (optim.Adadelta, {"rho": 1.5}, r"rho=1.5: must lie in \[0, 1\]"),
        (optim.NAdam, {"momentum_decay": -1}, r"momentum_decay=-1: must lie in \[0, inf\)"),
        (optim.NAdam, {"decoupled_weight_decay": 1}, "decoupled_weight_decay=1: must be True or False"),
        (optim.AdaBelief, {"eps_root": -1.0}, r"eps_root=-1: must lie in \[0, inf\)"),
        (optim.AdaBelief, {"rectify": "yes"}, "rectify='yes': must be True or False"),
        (optim.Adan, {"betas": (0.9, 0.9)}, r"betas=\(0.9, 0.9\): must be three numbers"),
        (optim.Adan, {"betas": (0.9, 0.9, 1.0)}, r"betas\[2\]=1: must lie in \[0, 1\)"),
        (optim.AdEMAMix, {"alpha": -1.0}, "alpha=-1: must lie in"),
        (optim.AdEMAMix, {"beta3_warmup": 0}, "beta3_warmup=0: must be a whole number from 1"),
        (optim.AdEMAMix, {"alpha_warmup": 2.5}, "alpha_warmup=2.5: must be a whole number from 1"),
        (optim.Lion, {"betas": (0.9, 1.1)}, r"betas\[1\]=1.1: must lie in \[0, 1\)"),
        (optim.Signum, {"momentum": 1.0}, r"momentum=1: must lie in \[0, 1\)"),
        (optim.AveragedMomentum, {"debias": 1}, "debias=1: must be True or False"),
    ],
)
def test_a_setting_outside_its_domain_is_refused(cls, settings, message):
    with pytest.raises(RecipeError, match=message):
        cls([nn.Parameter(torch.zeros(1))], **settings)
    with pytest.raises(RecipeError, match=message):
        ds.Recipe(optimizer=cls.__name__ if cls is not optim.AveragedMomentum else "ema_momentum", **settings)


NAMES = {
    "averaged_momentum": 0.5, "adadelta": 20.0, "adamax": 0.2, "nadam": 0.2, "radam": 0.2, "adabelief": 0.2,
    "adan": 0.2, "ademamix": 0.2, "lion": 0.1, "signum": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_by_the_name_and_its_file_trains_again(name):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=draw)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]])
    problem = ds.Problem(model="linear", objective="squared_error", train=(x, y))
    recipe = ds.Recipe(
        optimizer=name, lr=NAMES[name], batch_size=16, epochs=20, schedule="cosine", precision="float32"
    )
    first = ds.fit(problem, recipe, folder=False, progress=False)
    again = ds.fit(problem, ds.Recipe.from_toml(recipe.to_toml()), folder=False, progress=False)
    assert first.summary["train_loss"] == again.summary["train_loss"]
    losses = first.history.series("train_loss").values
    assert losses[-1] < 0.05 * losses[0]
