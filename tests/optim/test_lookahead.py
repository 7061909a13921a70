"""Slow weights: as a link of a chain, and as a wrapper around any optimizer; one formula."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import ModelError, RecipeError
from downslope.optim import Custom, HeavyBall, Lookahead, ScaleByLr, SlowWeights, chain, pull
from downslope.testing import Case, Descent, RuleContract, gradients, parameters, run


def slow_and_fast(p, grads, *, lr, momentum=0.0, k=5, alpha=0.5, slow=False):
    """Zhang et al. 2019, algorithm 1, around gradient descent with momentum that goes on."""
    theta, phi, b = np.array(p, dtype=np.float64), np.array(p, dtype=np.float64), None
    for t, g in enumerate(grads, start=1):
        b = g if b is None else momentum * b + g
        theta = theta - lr * b
        if t % k == 0:
            phi = phi + alpha * (theta - phi)
            theta = phi
    return phi if slow else theta


def paper(x):
    theta = x.p - x.lr * x.g
    if x.t % x.la_steps:
        return {"phi": x.phi, "p": theta}
    phi = x.phi + x.la_alpha * (theta - x.phi)
    return {"phi": phi, "p": phi}


def link(params, backend=None, lr=0.1, k=5, alpha=0.5, momentum=0.0):
    links = chain(HeavyBall(momentum=momentum), ScaleByLr(lr=lr), SlowWeights(la_steps=k, la_alpha=alpha))
    return Custom(params, links, backend=backend)


class TestSlowWeights(RuleContract):
    cases = (
        Case(
            "k 2",
            lambda params, backend: link(params, backend, k=2),
            lambda p, grads: slow_and_fast(p, grads, lr=0.1, k=2),
            hand=(0.8, 0.95),
            paper=paper,
            invariances=("odd", "rotation", "translation"),
            descents=(Descent("quadratic", 300, 1e-8),),
        ),
        Case(
            "k 5, momentum",
            lambda params, backend: link(params, backend, lr=0.05, momentum=0.8, alpha=0.3),
            lambda p, grads: slow_and_fast(p, grads, lr=0.05, momentum=0.8, alpha=0.3),
        ),
        Case(
            "alpha 1",
            lambda params, backend: link(params, backend, momentum=0.9, alpha=1.0),
            lambda p, grads: slow_and_fast(p, grads, lr=0.1, momentum=0.9, alpha=1.0),
            equals={"the base": lambda params, backend: optim.SGD(params, 0.1, 0.9, backend=backend)},
        ),
    )


BASES = {
    "ours": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "torch's": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("base", list(BASES))
def test_the_wrapper_takes_the_steps_of_the_paper_around_any_base(base: str) -> None:
    params, given = parameters(torch.float64), gradients(torch.float64, 23)
    start = [p.detach().numpy().copy() for p in params]
    optimizer = Lookahead(BASES[base](params), k=5, alpha=0.3)
    run(optimizer, given)
    for i, (p, first) in enumerate(zip(params, start, strict=True)):
        grads = [g[i].numpy() for g in given]
        for slow, found in ((False, p), (True, optimizer.evaluated(p))):
            wanted = slow_and_fast(first, grads, lr=0.1, momentum=0.9, alpha=0.3, slow=slow)
            assert np.allclose(found.detach().numpy(), wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(150_001,), (300, 500)])
def test_large_parameters_are_pulled_as_small_ones(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(0)
    start, *given = (torch.randn(shape, generator=draw, dtype=torch.float64) for _ in range(5))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone().t().contiguous().t())
    for p, optimizer in ((ours, Lookahead(optim.SGD([ours], lr=0.1), k=2)), (theirs, link([theirs], k=2))):
        run(optimizer, [[g] for g in given])
        assert torch.allclose(optimizer.evaluated(p), p, rtol=1e-13, atol=1e-13)
    assert torch.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


LARGE = (100_003, (3, 5), (), 0, (40, 30))


def many(dtype):
    """Parameters of one dtype that are worth a kernel; the last but one transposed, the last with gaps."""
    draw = torch.Generator().manual_seed(5)
    tensors = [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in LARGE]
    tensors.append(torch.randn(50, 2, generator=draw, dtype=torch.float64).to(dtype)[:, 0])
    tensors[4] = tensors[4].t()
    return [nn.Parameter(each) for each in tensors]


def pulled(dtype, k, alpha, backend):
    params = many(dtype)
    params += many(torch.float64)[:2]
    optimizer = Lookahead(optim.SGD(params, lr=0.1, backend=backend), k=k, alpha=alpha)
    for t in range(1, 5):
        for p in params:
            p.grad = torch.full_like(p, t)
        optimizer.step()
        for p in params:
            p.grad = torch.full_like(p, math.nan)  # what stays of a gradient is not read by a pull
    return [x.detach() for p in params for x in (p, optimizer.evaluated(p))]


@pytest.mark.parametrize(
    ("dtype", "slack"),
    [(torch.float32, 1e-6), (torch.float64, 1e-14), (torch.bfloat16, 2**-6)],
    ids=["float32", "float64", "bfloat16"],
)
def test_large_groups_are_pulled_by_one_loop_as_by_the_link(dtype, slack, monkeypatch) -> None:
    by_torch = []
    monkeypatch.setattr(pull, "_pull_by_torch", seen(pull._pull_by_torch, by_torch))
    ours = pulled(dtype, 2, 0.3, None)
    assert [tuple(p.shape) for p in by_torch] == [(50,)] * 2  # only the gaps are left to torch's operations
    theirs = pulled(dtype, 2, 0.3, "reference")
    assert len(by_torch) == 2 + 2 * (len(LARGE) + 3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=slack, atol=slack)
    for p, slow in zip(ours[::2], ours[1::2], strict=True):
        torch.testing.assert_close(p, slow, rtol=slack, atol=slack)


def seen(function, params):
    def called(links, p, *rest):
        params.append(p)
        function(links, p, *rest)

    return called


def test_without_numba_torch_pulls(monkeypatch) -> None:
    ours = pulled(torch.float32, 2, 0.3, None)
    monkeypatch.setattr(pull, "missing", lambda: "numba is not installed")
    by_torch = []
    monkeypatch.setattr(pull, "_pull_by_torch", seen(pull._pull_by_torch, by_torch))
    theirs = pulled(torch.float32, 2, 0.3, None)
    assert len(by_torch) == 2 * (len(LARGE) + 3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_alpha_one_is_the_base_bit_for_bit() -> None:
    ours, base, given = parameters(torch.float32), parameters(torch.float32), gradients(torch.float32, 30)
    run(Lookahead(optim.Adam(ours, lr=0.1), k=3, alpha=1.0), given)
    run(optim.Adam(base, lr=0.1), given)
    for a, b in zip(ours, base, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("base", list(BASES))
def test_a_saved_wrapper_goes_on_bit_for_bit_from_anywhere_between_two_pulls(base: str) -> None:
    given = gradients(torch.float32, 24)
    straight = parameters(torch.float32)
    optimizer = Lookahead(BASES[base](straight), k=5)
    run(optimizer, given[:13])
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = [nn.Parameter(p.detach().clone()) for p in straight]
    run(optimizer, given[13:])
    after = Lookahead(BASES[base](resumed), k=5)
    after.load_state_dict(saved)
    run(after, given[13:])
    for a, b in zip(resumed, straight, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(after.evaluated(a), optimizer.evaluated(b))


def test_slow_weights_are_shown_and_fast_ones_come_back_bit_for_bit() -> None:
    params, given = parameters(torch.float32), gradients(torch.float32, 13)
    optimizer = Lookahead(optim.Adam(params, lr=0.1))
    run(optimizer, given)
    fast = [p.detach().clone() for p in params]
    slow = [optimizer.evaluated(p).clone() for p in params]
    with optimizer.shown():
        assert all(torch.equal(p, phi) for p, phi in zip(params, slow, strict=True))
        with pytest.raises(ModelError, match=r"optimizer\.train\(\)"):
            optimizer.step()
        with optimizer.shown():
            pass
        assert all(torch.equal(p, phi) for p, phi in zip(params, slow, strict=True))
    assert all(torch.equal(p, theta) for p, theta in zip(params, fast, strict=True))
    optimizer.eval()
    saved = copy.deepcopy(optimizer.state_dict())
    others = [nn.Parameter(p.detach().clone()) for p in params]  # as a checkpoint of the shown weights
    resumed = Lookahead(optim.Adam(others, lr=0.1))
    resumed.load_state_dict(saved)
    resumed.train()
    assert all(torch.equal(p, theta) for p, theta in zip(others, fast, strict=True))


def test_what_has_no_gradient_stays_and_a_step_without_any_does_not_count() -> None:
    frozen, other = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = Lookahead([frozen, other], base_optimizer=optim.SGD, lr=1.0, k=5)
    for step in range(6):
        frozen.grad = -torch.ones(1) if step < 3 else None
        other.grad = None if step == 3 else -torch.ones(1)
        optimizer.step()
    assert frozen.item() == 3.0
    assert other.item() == 2.5  # five steps, the last of which pulls it back by half


def test_a_scheduler_on_the_wrapper_sets_the_rate_of_the_base() -> None:
    params = parameters(torch.float64)
    base = optim.SGD(params, lr=0.4)
    optimizer = Lookahead(base, k=2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    run(optimizer, gradients(torch.float64, 1))
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.2
    assert optimizer.param_groups is base.param_groups


def test_hooks_on_every_step_see_one_step_and_the_wrappers_own_hooks_run_around_it() -> None:
    seen: list[str] = []
    params = parameters(torch.float64)
    optimizer = Lookahead(optim.SGD(params, lr=0.1))
    from torch.optim.optimizer import register_optimizer_step_post_hook

    handle = register_optimizer_step_post_hook(lambda each, *_: seen.append(type(each).__name__))
    try:
        optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
        optimizer.register_step_post_hook(lambda *_: seen.append("after"))
        run(optimizer, gradients(torch.float64, 1))
    finally:
        handle.remove()
    assert seen == ["before", "SGD", "after"]


def test_what_cannot_be_wrapped_is_refused_in_one_line() -> None:
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(RecipeError, match=r"^alpha=1\.5"):
        Lookahead(optim.SGD([p], lr=0.1), alpha=1.5)
    with pytest.raises(RecipeError, match=r"^k=0"):
        Lookahead(optim.SGD([p], lr=0.1), k=0)
    with pytest.raises(RecipeError, match="evaluates the loss by itself"):
        Lookahead(torch.optim.LBFGS([p]))
    with pytest.raises(RecipeError, match="other weights"):
        Lookahead(optim.ScheduleFreeSGD([p]))
    with pytest.raises(RecipeError, match="momentum beside an optimizer"):
        Lookahead(optim.SGD([p], lr=0.1), momentum=0.9)


def test_a_profiler_sees_the_wrapper_and_its_base_inside() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = Lookahead([p], base_optimizer=torch.optim.Adam)
    p.grad = torch.ones(3)
    with torch.autograd.profiler.profile() as seen:
        optimizer.step()
    found = [event.name for event in seen.function_events if event.name.startswith("Optimizer.step")]
    assert found == ["Optimizer.step#Lookahead.step", "Optimizer.step#Adam.step"]
