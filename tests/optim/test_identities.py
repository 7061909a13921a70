"""Methods that coincide, trajectories known to the digit, and one rule serving a population."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.optim.rmsprop import Squares
from downslope.testing import gradients, parameters, run

BACKENDS = ["reference", "eager", None]


def after(make, dtype=torch.float64, steps=50):
    params = parameters(dtype)
    run(make(params), gradients(dtype, steps))
    return params


def assert_same(first, second, rtol=1e-12):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("backend", BACKENDS)
class TestIdentities:
    def test_momentum_zero_is_plain_gradient_descent(self, backend):
        plain = after(lambda p: optim.GD(p, lr=0.1, backend=backend))
        for other in (
            lambda p: optim.SGD(p, lr=0.1, momentum=0.0, dampening=0.5, backend=backend),
            lambda p: optim.Momentum(p, lr=0.1, momentum=0.0, backend=backend),
            lambda p: optim.Nesterov(p, lr=0.1, momentum=0.0, backend=backend),
        ):
            assert_same(after(other), plain)

    def test_momentum_and_nesterov_are_settings_of_sgd(self, backend):
        assert_same(
            after(lambda p: optim.Momentum(p, lr=0.1, momentum=0.7, weight_decay=0.1, backend=backend)),
            after(lambda p: optim.SGD(p, lr=0.1, momentum=0.7, weight_decay=0.1, backend=backend)),
        )
        assert_same(
            after(lambda p: optim.Nesterov(p, lr=0.1, momentum=0.7, backend=backend)),
            after(lambda p: optim.SGD(p, lr=0.1, momentum=0.7, nesterov=True, backend=backend)),
        )

    def test_adamw_without_decay_is_adam(self, backend):
        assert_same(
            after(lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.0, backend=backend)),
            after(lambda p: optim.Adam(p, lr=0.01, backend=backend)),
        )

    def test_adam_without_first_moment_is_debiased_rmsprop(self, backend):
        """Debiasing divides n by 1 - alpha**t: at eps 0 that is lr sqrt(1 - alpha**t) in RMSProp."""
        params = parameters(torch.float64)
        rms = optim.RMSprop(params, lr=0.01, alpha=0.95, eps=0.0, backend=backend)
        for t, grads in enumerate(gradients(torch.float64, 50), start=1):
            rms.param_groups[0]["lr"] = 0.01 * (1 - 0.95**t) ** 0.5
            run(rms, [grads])
        assert_same(
            params, after(lambda p: optim.Adam(p, lr=0.01, betas=(0.0, 0.95), eps=0.0, backend=backend))
        )

    def test_decays_agree_for_plain_descent(self, backend):
        def decoupled(p):
            links = optim.chain(optim.DecoupledDecay(weight_decay=0.3), optim.ScaleByLr(lr=0.1))
            return optim.Custom(p, links, backend=backend)

        assert_same(
            after(decoupled), after(lambda p: optim.SGD(p, lr=0.1, weight_decay=0.3, backend=backend))
        )

    def test_maximize_is_descent_on_the_negative(self, backend):
        params = parameters(torch.float64)
        optimizer = optim.RMSprop(params, lr=0.01, momentum=0.5, maximize=True, backend=backend)
        run(optimizer, [[-g for g in grads] for grads in gradients(torch.float64, 50)])
        assert_same(params, after(lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, backend=backend)))


def descend(make, start, gradient, steps):
    x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = make([x])
    for _ in range(steps):
        x.grad = gradient(x.detach())
        optimizer.step()
    return x.detach().tolist()


@dataclass(frozen=True, kw_only=True)
class BookRms(optim.Rule[Squares]):
    """RMSProp as the textbook has it, eps under the root; a rule of a user's own, without fast backends."""

    memory: ClassVar[type[tuple[torch.Tensor, ...]]] = Squares
    keys: ClassVar[tuple[str, ...]] = ("squares",)
    gamma: float = 0.9

    def init(self, p):
        return Squares(torch.zeros_like(p))

    def at(self, t):
        return optim.Scalars(gamma=self.gamma, gain=1 - self.gamma)

    def update(self, g, state, p, k):
        n = k.gamma * state.n + k.gain * g * g
        return g / (n + 1e-6).sqrt(), Squares(n)


@pytest.mark.parametrize("backend", [*BACKENDS, *(["kernel"] if find_spec("numba") else [])])
class TestTrajectories:
    """f = 0.1 x1**2 + 2 x2**2 from (-5, -2) in 20 steps, and x**2 from 10 in 10: the textbook's pictures."""

    @pytest.mark.parametrize(
        ("make", "end", "digits"),
        [
            (lambda p, b: optim.GD(p, lr=0.4, backend=b), (-0.943467, -7.31e-5), (6, 7)),
            (lambda p, b: optim.GD(p, lr=0.6, backend=b), (-0.387814, -1673.3651), (6, 4)),
            # b = .5 b + g, x = x - .6 b in Python's floats: .0071878667, which the book rounds to .007188.
            (
                lambda p, b: optim.Momentum(p, lr=0.6, momentum=0.5, backend=b),
                (0.0071878667, 0.00255327),
                (10, 8),
            ),
            # The book has eps under the root: that is where the sum starts, with eps 0 outside of it.
            (
                lambda p, b: optim.Adagrad(p, lr=0.4, eps=0.0, initial_accumulator_value=1e-6, backend=b),
                (-2.382563, -0.158591),
                (6, 6),
            ),
            (
                lambda p, b: optim.Custom(p, optim.chain(BookRms(), optim.ScaleByLr(lr=0.4)), backend=b),
                (-0.010599, 0.0),
                (6, 6),
            ),
        ],
        ids=["gd .4", "gd .6 diverges", "momentum", "adagrad", "rmsprop"],
    )
    def test_valley(self, make, end, digits, backend):
        scale = torch.tensor([0.2, 4.0], dtype=torch.float64)
        found = descend(lambda p: make(p, backend), [-5.0, -2.0], lambda x: scale * x, 20)
        for value, target, places in zip(found, end, digits, strict=True):
            assert abs(value - target) <= 0.5 * 10**-places

    @pytest.mark.parametrize(("lr", "end"), [(0.2, 0.060466), (1.1, 61.917364)])
    def test_parabola(self, lr, end, backend):
        (found,) = descend(lambda p: optim.GD(p, lr=lr, backend=backend), [10.0], lambda x: 2 * x, 10)
        assert round(found, 6) == end


MEMBERS = (
    (
        optim.chain(
            optim.CoupledDecay(weight_decay=torch.tensor([0.0, 0.1, 0.2])),
            optim.HeavyBall(momentum=torch.tensor([0.0, 0.5, 0.9]), dampening=torch.tensor([0.0, 0.1, 0.0])),
            optim.ScaleByLr(lr=torch.tensor([0.1, 0.2, 0.3])),
        )
    ),
    optim.chain(optim.LookAhead(momentum=torch.tensor([0.0, 0.5, 0.9])), optim.ScaleByLr(lr=0.1)),
    optim.chain(
        optim.ScaleBySum(initial_accumulator_value=torch.tensor([0.0, 0.1, 1.0])),
        optim.InverseTimeLr(lr=0.1, lr_decay=torch.tensor([0.0, 0.1, 0.2])),
    ),
    optim.chain(optim.ScaleByRms(alpha=torch.tensor([0.5, 0.9, 0.99])), optim.ScaleByLr(lr=0.01)),
    optim.chain(
        optim.ScaleByStd(alpha=torch.tensor([0.5, 0.9, 0.99]), eps=torch.tensor([1e-8, 1e-4, 1e-2])),
        optim.ScaleByLr(lr=0.01),
    ),
    optim.chain(
        optim.ScaleByAmsgrad(betas=(0.9, torch.tensor([0.5, 0.9, 0.999]))),
        optim.ScaleByLr(lr=0.01),
    ),
    optim.chain(
        optim.ScaleByAdam(betas=(torch.tensor([0.0, 0.8, 0.9]), torch.tensor([0.9, 0.99, 0.999]))),
        optim.DecoupledDecay(weight_decay=torch.tensor([0.0, 0.1, 0.2])),
        optim.ScaleByLr(lr=torch.tensor([0.1, 0.01, 0.001])),
    ),
)


def of_member(value, i):
    if isinstance(value, tuple):
        return tuple(of_member(part, i) for part in value)
    return float(value[i]) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("rule", MEMBERS, ids=lambda rule: "+".join(type(link).__name__ for link in rule))
def test_one_rule_serves_a_population_of_three(rule):
    given = gradients(torch.float64, 40)
    together = [
        nn.Parameter(torch.stack([p.detach(), 2 * p.detach(), -p.detach()]))
        for p in parameters(torch.float64)
    ]
    optimizer = optim.Custom(together, rule)
    assert {row.backend for row in optimizer.plan().rows} == {"reference"}
    run(optimizer, [[torch.stack([g, 3 * g, g * g]) for g in grads] for grads in given])
    for i in range(3):
        alone = [nn.Parameter(p.detach() * (1, 2, -1)[i]) for p in parameters(torch.float64)]
        single = rule.replace(**{name: of_member(value, i) for name, value in rule.fields().items()})
        run(
            optim.Custom(alone, single, backend="reference"),
            [[(g, 3 * g, g * g)[i] for g in grads] for grads in given],
        )
        assert_same([p[i] for p in together], alone)


def test_population_keeps_float32_parameters_and_state_in_float32():
    p = nn.Parameter(torch.ones(2, 3))
    optimizer = optim.Custom(
        [p],
        MEMBERS[-1].replace(
            lr=torch.tensor([0.1, 0.2]), weight_decay=0.0, betas=(torch.tensor([0.1, 0.2]), 0.9)
        ),
    )
    run(optimizer, [[torch.ones(2, 3)]])
    assert p.dtype == torch.float32
    assert optimizer.state[p]["exp_avg"].dtype == torch.float32
