"""Schedule-Free beside its three sequences kept apart, as the paper writes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import CoupledDecay, Custom, ScheduleFree, chain
from downslope.testing import Case, Descent, RuleContract, gradients, parameters, run


def three_sequences(
    p, grads, *, lr, beta=0.9, b2=None, eps=1e-8, l2=0.0, decay=0.0, warmup=0, r=0.0, power=2.0, inner=0.0,
    shown=False,
):  # fmt: skip
    """Defazio et al. 2024, eq. 3-5 with all of x, y and z; AdamW's scale where there is a b2.

    beta and b2 may be functions of the step.
    """
    x, y, z = (np.array(p, dtype=np.float64) for _ in range(3))
    v, m, total, top = np.zeros_like(z), np.zeros_like(z), 0.0, 0.0
    for t, g in enumerate(grads, start=1):
        gamma = lr * min(1.0, t / warmup) if warmup else lr
        top = max(top, gamma)
        w = t**r * top**power
        total += w
        c = w / total if total else 0.0
        g = g + l2 * y
        if b2 is not None:
            decay2 = b2(t) if callable(b2) else b2
            v = decay2 * v + (1 - decay2) * g**2
            m = inner * m + (1 - inner) * g
            g = m / (1 - inner**t) / (np.sqrt(v / (1 - decay2**t)) + eps)
        z = z - gamma * (g + decay * y)
        x = (1 - c) * x + c * z
        weight = beta(t) if callable(beta) else beta
        y = (1 - weight) * z + weight * x
    return x if shown else y


def sgd(name, given, settings, **more):
    return Case(
        name,
        lambda params, backend: optim.ScheduleFreeSGD(params, **given, backend=backend),
        lambda p, grads: three_sequences(p, grads, **settings),
        **more,
    )


def adamw(name, given, settings, **more):
    return Case(
        name,
        lambda params, backend: optim.ScheduleFreeAdamW(params, **given, backend=backend),
        lambda p, grads: three_sequences(p, grads, **settings),
        **more,
    )


class TestScheduleFreeSGD(RuleContract):
    cases = (
        sgd(
            "plain",
            {"lr": 0.1},
            {"lr": 0.1},
            hand=(0.8, 0.855),
            invariances=("odd", "rotation", "translation"),
            descents=(Descent("quadratic", 300, 1e-2), Descent("rosenbrock", 1000, 0.5, lr=2e-3)),
        ),
        sgd(
            "all set",
            {
                "lr": 0.05, "momentum": 0.7, "weight_decay": 0.1, "warmup_steps": 7, "r": 0.5,
                "weight_lr_power": 1.0,
            },
            {"lr": 0.05, "beta": 0.7, "l2": 0.1, "warmup": 7, "r": 0.5, "power": 1.0},
        ),
        sgd("rate 0", {"lr": 0.0}, {"lr": 0.0}, hand=(1.0, 1.0)),
    )  # fmt: skip


class TestScheduleFreeAdamW(RuleContract):
    cases = (
        adamw(
            "plain",
            {"lr": 0.1},
            {"lr": 0.1, "b2": 0.999},
            hand=(0.9000000005, 0.9347902761),
            descents=(Descent("quadratic", 300, 1e-2), Descent("rosenbrock", 1000, 0.5, lr=0.1)),
        ),
        adamw(
            "all set",
            {
                "lr": 0.01, "betas": (0.95, 0.99), "eps": 1e-6, "weight_decay": 0.1, "warmup_steps": 10,
                "r": 1.0, "inner_momentum": 0.8,
            },
            {"lr": 0.01, "beta": 0.95, "b2": 0.99, "eps": 1e-6, "decay": 0.1, "warmup": 10, "r": 1.0,
             "inner": 0.8},
        ),
    )  # fmt: skip


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9, 0.98])
def test_weights_to_evaluate_are_the_average_x(beta: float) -> None:
    params, given = parameters(torch.float64), gradients(torch.float64)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1, momentum=beta, warmup_steps=5)
    run(optimizer, given)
    for i, (p, first) in enumerate(zip(params, start, strict=True)):
        x = three_sequences(first, [g[i].numpy() for g in given], lr=0.1, beta=beta, warmup=5, shown=True)
        assert torch.allclose(optimizer.evaluated(p), torch.from_numpy(np.asarray(x)), rtol=1e-12, atol=1e-13)


def test_beta_near_zero_is_plain_descent_and_shows_the_mean_of_its_weights() -> None:
    ours, plain, given = parameters(torch.float64), parameters(torch.float64), gradients(torch.float64)
    free = optim.ScheduleFreeSGD(ours, lr=0.1, momentum=1e-9)
    run(free, given)
    run(optim.GD(plain, lr=0.1), given)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-8)


def test_beta_near_one_takes_gradients_at_the_average_itself() -> None:
    params, given = parameters(torch.float64), gradients(torch.float64)
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1, momentum=1.0 - 1e-12)
    run(optimizer, given)
    for p in params:
        assert torch.allclose(optimizer.evaluated(p), p, rtol=0, atol=1e-10)


def test_no_momentum_is_refused_in_one_line() -> None:
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(RecipeError, match=r"must lie in \(0, 1\).*0\.9 is usual"):
        optim.ScheduleFreeSGD([p], momentum=0.0)
    with pytest.raises(RecipeError, match="must lie in"):
        optim.ScheduleFreeAdamW([p], betas=(0.0, 0.9))
    with pytest.raises(RecipeError, match="warmup_steps"):
        optim.ScheduleFreeSGD([p], warmup_steps=-1)
    with pytest.raises(RecipeError, match="takes one number"):
        optim.ScheduleFreeSGD([p], lr=torch.tensor([0.1, 0.2]))


def test_the_average_goes_on_where_beta_changes() -> None:
    betas = [0.9, 0.85, 0.5, 0.7, 0.95] * 4
    params, given = parameters(torch.float64), gradients(torch.float64, 20)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1)
    for beta, grads in zip(betas, given, strict=True):
        optimizer.param_groups[0]["momentum"] = beta
        run(optimizer, [grads])
    optimizer.param_groups[0]["momentum"] = 0.3  # not what the weights were made with
    copied = optim.ScheduleFreeSGD([nn.Parameter(p.detach().clone()) for p in params])
    copied.load_state_dict(optimizer.state_dict())
    for i, (p, first) in enumerate(zip(params, start, strict=True)):
        given_p = [g[i].numpy() for g in given]
        y, x = (
            torch.from_numpy(
                np.asarray(three_sequences(first, given_p, lr=0.1, beta=lambda t: betas[t - 1], shown=shown))
            )
            for shown in (False, True)
        )
        torch.testing.assert_close(p.detach(), y, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(optimizer.evaluated(p).detach(), x, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(
            copied.evaluated(copied.param_groups[0]["params"][i]).detach(), x, rtol=1e-12, atol=1e-13
        )


def test_torchs_one_cycle_of_the_momentum_leaves_the_average_what_it_is() -> None:
    params, given = parameters(torch.float64), gradients(torch.float64, 20)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 20, div_factor=1.0, final_div_factor=1.0)
    betas: list[float] = []
    for grads in given:
        betas.append(optimizer.param_groups[0]["momentum"])
        run(optimizer, [grads])
        scheduler.step() if len(betas) < 20 else None
    assert len(set(betas)) > 10
    for i, (p, first) in enumerate(zip(params, start, strict=True)):
        grads = [g[i].numpy() for g in given]
        x = three_sequences(first, grads, lr=0.1, beta=lambda t: betas[t - 1], shown=True)
        assert torch.allclose(optimizer.evaluated(p), torch.from_numpy(np.asarray(x)), rtol=1e-12, atol=1e-13)


def test_betas_changed_in_the_group_change_both_links() -> None:
    params, given = parameters(torch.float64), gradients(torch.float64, 8)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = optim.ScheduleFreeAdamW(params, lr=0.1)
    run(optimizer, given[:1])
    optimizer.param_groups[0]["betas"] = (0.5, 0.6)
    run(optimizer, given[1:])
    for i, (p, first) in enumerate(zip(params, start, strict=True)):
        y = three_sequences(
            first,
            [g[i].numpy() for g in given],
            lr=0.1,
            beta=lambda t: 0.9 if t == 1 else 0.5,
            b2=lambda t: 0.999 if t == 1 else 0.6,
        )
        assert torch.allclose(p, torch.from_numpy(np.asarray(y)), rtol=1e-12, atol=1e-13)


def test_numbers_of_the_average_are_saved_and_resumed() -> None:
    given = gradients(torch.float64, 20)
    params = parameters(torch.float64)
    optimizer = optim.ScheduleFreeSGD(params, lr=0.1, warmup_steps=8, r=1.0)
    run(optimizer, given)
    state = optimizer.state_dict()["state"][0]
    weights = [t * (0.1 * min(1.0, t / 8)) ** 2 for t in range(1, 21)]
    assert float(state["weight_sum"]) == pytest.approx(sum(weights), rel=1e-14)
    assert float(state["lr_max"]) == 0.1


def test_the_link_takes_the_place_of_the_rate_in_any_chain() -> None:
    ours, theirs, given = parameters(torch.float64), parameters(torch.float64), gradients(torch.float64)
    made = chain(CoupledDecay(weight_decay=0.1), ScheduleFree(lr=0.1, momentum=0.8))
    run(Custom(ours, made), given)
    run(optim.ScheduleFreeSGD(theirs, lr=0.1, momentum=0.8, weight_decay=0.1), given)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
