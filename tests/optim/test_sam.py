"""Sharpness-aware minimisation: two steps by hand, identities, its base's state, closures, scalers, norms."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import SAM, Ascent, Custom, ScaleByLr, chain, held_statistics
from downslope.testing import Case, RuleContract

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(32, 5, generator=DRAW, dtype=torch.float64)
Y = torch.randint(0, 3, (32,), generator=DRAW)


def model(seed: int = 0, *norms: nn.Module) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), *norms, nn.Tanh(), nn.Linear(8, 3)).double()


def closure_of(net: nn.Module, optimizer: torch.optim.Optimizer):
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(X), Y)
        loss.backward()
        return loss

    return closure


def by_hand(net: nn.Module, steps: int, *, lr: float, rho: float, momentum=0.0, adaptive=False, eta=0.0):
    """Foret et al. 2021, algorithm 1, by autograd; Kwon et al. 2021, eq. 5."""
    params = list(net.parameters())
    velocity = [torch.zeros_like(p) for p in params]
    for _ in range(steps):
        grads = torch.autograd.grad(functional.cross_entropy(net(X), Y), params)
        sizes = [p.detach().abs() + eta if adaptive else torch.ones_like(p) for p in params]
        norm = torch.cat([(t * g).flatten() for t, g in zip(sizes, grads, strict=True)]).norm()
        moves = [rho * t**2 * g / (norm + 1e-12) for t, g in zip(sizes, grads, strict=True)]
        kept = [p.detach().clone() for p in params]
        with torch.no_grad():
            for p, e in zip(params, moves, strict=True):
                p += e
        grads = torch.autograd.grad(functional.cross_entropy(net(X), Y), params)
        with torch.no_grad():
            for p, w, b, g in zip(params, kept, velocity, grads, strict=True):
                b.mul_(momentum).add_(g)
                p.copy_(w - lr * b)
    return params


def assert_same(one, other, tolerance: float = 1e-12) -> None:
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance)


def test_two_steps_on_a_parabola_by_hand() -> None:
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = SAM([p], torch.optim.SGD, rho=0.05, lr=0.1)
    for wanted in (0.79, 0.622):  # p - .1 * 2 (p + .05)
        (p**2).sum().backward()
        optimizer.first_step(zero_grad=True)
        (p**2).sum().backward()
        optimizer.second_step(zero_grad=True)
        assert p.item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("base", [optim.SGD, torch.optim.SGD, "sgd", "torch.optim:SGD"])
@pytest.mark.parametrize("own", [{}, {"adaptive": True, "eta": 0.01, "rho": 0.5}])
def test_twenty_steps_are_those_of_the_paper_around_any_base(base, own) -> None:
    ours, theirs = model(), model()
    optimizer = SAM(ours.parameters(), base, **{"rho": 0.1, **own}, lr=0.2, momentum=0.9)
    closure = closure_of(ours, optimizer)
    for _ in range(20):
        optimizer.step(closure)
    assert_same(ours.parameters(), by_hand(theirs, 20, lr=0.2, momentum=0.9, **{"rho": 0.1, **own}))


def test_rho_zero_is_the_base_bit_for_bit() -> None:
    ours, base = model(), model()
    optimizer, plain = (
        SAM(ours.parameters(), "adam", rho=0.0, lr=0.01),
        optim.Adam(base.parameters(), lr=0.01),
    )
    for _ in range(10):
        optimizer.step(closure_of(ours, optimizer))
        plain.step(closure_of(base, plain))
    for a, b in zip(ours.parameters(), base.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_way_to_call_it_takes_the_same_steps() -> None:
    """The halves; a closure in torch's manner; one after a backward pass, as davda54/sam wants it."""
    halves, closed, after = model(), model(), model()
    one, two, three = (
        SAM(each.parameters(), "sgd", lr=0.2, momentum=0.9) for each in (halves, closed, after)
    )
    for _ in range(5):
        functional.cross_entropy(halves(X), Y).backward()
        one.first_step(zero_grad=True)
        functional.cross_entropy(halves(X), Y).backward()
        one.second_step(zero_grad=True)

        before = functional.cross_entropy(closed(X), Y).item()
        assert two.step(closure_of(closed, two)).item() == before

        functional.cross_entropy(after(X), Y).backward()

        def closure() -> torch.Tensor:
            loss = functional.cross_entropy(after(X), Y)
            loss.backward()
            return loss

        three.step(closure)
        three.zero_grad()
    for other in (closed, after):
        for a, b in zip(halves.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_gradients_set_to_zero_are_none() -> None:
    ours, theirs = model(), model()
    optimizer = SAM(ours.parameters(), "sgd", lr=0.2)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        optimizer.step(closure_of(ours, optimizer))
    assert_same(ours.parameters(), by_hand(theirs, 3, lr=0.2, rho=0.05))


def test_groups_have_rho_of_their_own_and_one_norm() -> None:
    net = model()
    first, last = net[0], net[2]
    groups = [{"params": list(first.parameters()), "rho": 0.0}, {"params": list(last.parameters())}]
    optimizer = SAM(groups, "sgd", rho=0.1, lr=0.2)
    functional.cross_entropy(net(X), Y).backward()
    norm = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()
    wanted = last.weight.detach() + 0.1 * last.weight.grad / norm
    kept = first.weight.detach().clone()
    optimizer.first_step()
    assert torch.equal(first.weight, kept)
    assert torch.allclose(last.weight, wanted, rtol=1e-12)


def test_sparse_gradients_climb_and_step_as_dense_ones() -> None:
    found: list[list[torch.Tensor]] = []
    for sparse in (True, False):
        torch.manual_seed(0)
        rows, last = nn.Embedding(6, 3, sparse=sparse).double(), nn.Linear(3, 1).double()
        params = [*rows.parameters(), *last.parameters()]
        optimizer = SAM(params, "sgd", lr=0.1, rho=0.3)
        for k in range(4):

            def closure(k=k, rows=rows, last=last, optimizer=optimizer):
                optimizer.zero_grad()
                loss = (last(rows(torch.tensor([k, 2, 2]))) ** 2).sum()
                loss.backward()
                return loss

            optimizer.step(closure)
        found.append([p.detach() for p in params])
    assert_same(*found)


def test_maximising_looks_at_the_lowest_neighbour() -> None:
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = SAM([p], "sgd", rho=0.5, lr=0.1, maximize=True)
    (p**2).sum().backward()
    optimizer.first_step()
    assert p.item() == pytest.approx(0.5, rel=1e-11)


def test_the_bases_state_is_saved_and_resumed_bit_for_bit() -> None:
    straight = model()
    optimizer = SAM(straight.parameters(), "adam", lr=0.01)
    for _ in range(4):
        optimizer.step(closure_of(straight, optimizer))
    saved, resumed = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(straight)
    after = SAM(resumed.parameters(), "adam", lr=0.5, rho=0.7)
    after.load_state_dict(saved)
    assert after.param_groups[0]["rho"] == 0.05
    assert after.base_optimizer.param_groups is after.param_groups
    for _ in range(4):
        optimizer.step(closure_of(straight, optimizer))
        after.step(closure_of(resumed, after))
    for a, b in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(a, b)


def test_saved_between_the_halves_it_comes_back_to_p() -> None:
    net = model()
    optimizer = SAM(net.parameters(), "sgd", lr=0.2)
    start = [p.detach().clone() for p in net.parameters()]
    functional.cross_entropy(net(X), Y).backward()
    optimizer.first_step()
    twin = copy.deepcopy(net)
    other = SAM(twin.parameters(), "sgd", lr=0.0)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    other.param_groups[0]["lr"] = 0.0
    other.second_step()
    for a, b in zip(twin.parameters(), start, strict=True):
        assert torch.equal(a, b)


def test_a_scheduler_and_rho_changed_on_the_way_count() -> None:
    ours, theirs = model(), model()
    optimizer = SAM(ours.parameters(), torch.optim.SGD, lr=0.4, rho=0.3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for rho in (0.3, 0.1):
        optimizer.param_groups[0]["rho"] = rho
        optimizer.step(closure_of(ours, optimizer))
        scheduler.step()
    by_hand(theirs, 1, lr=0.4, rho=0.3)
    assert_same(ours.parameters(), by_hand(theirs, 1, lr=0.2, rho=0.1))


def test_rho_follows_a_schedule_beside_one_of_the_bases() -> None:
    ours, theirs = model(), model()
    factors = {"rho": lambda t: 1.0 / (1 + t), "momentum": lambda t: 0.5**t}
    optimizer = SAM(ours.parameters(), "sgd", rho=0.4, lr=0.1, momentum=0.8, schedules=factors)
    plain = SAM(theirs.parameters(), "sgd", rho=0.4, lr=0.1, momentum=0.8)
    for t in range(6):
        plain.param_groups[0] |= {"rho": 0.4 / (1 + t), "momentum": 0.8 * 0.5**t}
        plain.step(closure_of(theirs, plain))
        optimizer.step(closure_of(ours, optimizer))
        if t == 2:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = SAM(ours.parameters(), "sgd", rho=0.4, lr=0.1, momentum=0.8, schedules=factors)
            optimizer.load_state_dict(saved)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    with pytest.raises(RecipeError, match="there is no hyper-parameter 'rhoo'"):
        SAM(ours.parameters(), "sgd", schedules={"rhoo": lambda t: 1.0})


def test_statistics_of_norms_are_taken_once() -> None:
    net = model(0, nn.BatchNorm1d(8))
    optimizer = SAM(net.parameters(), "sgd", lr=0.2)
    functional.cross_entropy(net(X), Y).backward()
    optimizer.first_step(zero_grad=True)
    once = {name: each.clone() for name, each in net.named_buffers()}
    with held_statistics(net):
        loss = functional.cross_entropy(net(X), Y)
    loss.backward()  # the graph outlives the block
    optimizer.second_step()
    for name, each in net.named_buffers():
        assert torch.equal(each, once[name])
    assert int(once["1.num_batches_tracked"]) == 1


@pytest.mark.parametrize("factor", [1.0, 1024.0])
def test_a_grad_scaler_takes_the_same_steps_and_skips_what_is_not_finite(factor: float) -> None:
    ours, theirs = model(), model()
    optimizer = SAM(ours.parameters(), torch.optim.SGD, lr=0.2, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=factor, growth_interval=1000)
    for _ in range(3):
        scaler.scale(functional.cross_entropy(ours(X), Y)).backward()
        optimizer.first_step(zero_grad=True)
        scaler.scale(functional.cross_entropy(ours(X), Y)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert_same(ours.parameters(), by_hand(theirs, 3, lr=0.2, momentum=0.9, rho=0.05), 1e-10)

    before = [p.detach().clone() for p in ours.parameters()]
    scaler.scale(functional.cross_entropy(ours(X), Y)).backward()
    optimizer.first_step(zero_grad=True)
    scaler.scale(functional.cross_entropy(ours(X), Y) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    for a, b in zip(ours.parameters(), before, strict=True):
        assert torch.equal(a, b)


def test_a_step_without_a_closure_or_a_first_half_is_refused_in_one_line() -> None:
    optimizer = SAM([nn.Parameter(torch.ones(2))], "sgd", lr=0.1)
    with pytest.raises(RecipeError, match=r"looks at the loss twice.*first_step\(\) and second_step\(\)"):
        optimizer.step()
    with pytest.raises(RecipeError, match=r"rho=-1: must lie in \[0, inf\)"):
        SAM([nn.Parameter(torch.ones(2))], "sgd", rho=-1.0)
    with pytest.raises(RecipeError, match="evaluates the loss by itself"):
        SAM(SAM([nn.Parameter(torch.ones(2))], "sgd"))


def test_a_second_half_without_a_first_is_refused_in_one_line() -> None:
    p = nn.Parameter(torch.ones(2))
    optimizer = SAM([p], lr=0.1)
    p.grad = torch.ones(2)
    with pytest.raises(RecipeError, match=r"second_step\(\) without first_step\(\)"):
        optimizer.second_step()
    assert torch.equal(p.detach(), torch.ones(2))
    optimizer.first_step()
    optimizer.second_step()
    with pytest.raises(RecipeError, match=r"second_step\(\) without first_step\(\)"):
        optimizer.second_step()
    p.grad = None
    optimizer.first_step()  # of nothing, as where all is frozen for a while
    optimizer.second_step()


def test_a_base_with_a_rho_of_its_own_keeps_it() -> None:
    optimizer = SAM([nn.Parameter(torch.ones(2))], torch.optim.Adadelta, rho=0.07)
    group = optimizer.param_groups[0]
    assert (group["rho"], group["sam_rho"]) == (0.9, 0.07)
    p = group["params"][0]
    (p**2).sum().backward()
    optimizer.first_step()
    assert torch.allclose(p, 1.0 + 0.07 * torch.full((2,), 0.5**0.5))


def climbed(params, steps, *, rho, adaptive=False, eta=0.0):
    """Foret et al. 2021, eq. 2, and Kwon et al. 2021, eq. 5, one after another, in numpy."""
    params = [p.copy() for p in params]
    for grads in steps:
        sizes = [np.abs(p) + eta if adaptive else np.ones_like(p) for p in params]
        pairs = [(t, g) for t, g in zip(sizes, grads, strict=True) if g is not None]
        norm = np.sqrt(sum(((t * g) ** 2).sum() for t, g in pairs))
        params = [
            p if g is None else p + rho * t**2 * g / (norm + 1e-12)
            for p, t, g in zip(params, sizes, grads, strict=True)
        ]
    return params


def ascent(**settings):
    links = chain(Ascent(**settings), ScaleByLr(lr=1.0))
    return lambda params, backend: Custom(params, links, backend=backend)


class TestAscent(RuleContract):
    cases = (
        Case(
            "SAM",
            ascent(rho=0.05),
            joint=lambda params, steps: climbed(params, steps, rho=0.05),
            hand=(1.05, 1.0),
            paper=lambda x: {"p": x.p + x.lr * x.rho * x.g / (x.abs(x.g) + 1e-12)},
            invariances=("scale", "odd", "rotation", "translation"),
        ),
        Case(
            "ASAM",
            ascent(rho=0.05, adaptive=True, eta=0.01),
            joint=lambda params, steps: climbed(params, steps, rho=0.05, adaptive=True, eta=0.01),
            hand=(
                1.0505,
                0.997475,
            ),  # of one element the gradient is its sign: 1 + .05 * 1.01, less .05 * 1.0605
            invariances=("scale",),
        ),
    )


def test_hooks_run_once_around_both_halves_and_schedulers_hear_of_a_step(recwarn) -> None:
    """By halves, by a closure, and as a GradScaler steps."""
    p = nn.Parameter(torch.ones(2))
    optimizer = SAM([p], lr=0.1)
    heard: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: heard.append("before"))
    optimizer.register_step_post_hook(lambda *_: heard.append("after"))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    for second in (optimizer.second_step, optimizer.step):
        closure()
        optimizer.first_step(zero_grad=True)
        assert heard == ["before"]
        closure()
        second()
        assert heard == ["before", "after"]
        scheduler.step()
        heard.clear()
    optimizer.step(closure)
    assert heard == ["before", "after"]
    assert not recwarn.list


@pytest.mark.parametrize("base", [optim.SGD, torch.optim.SGD])
def test_groups_have_settings_of_the_wrapper_too(base) -> None:
    params = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = SAM(
        [{"params": params[0], "eta": 0.1, "rho": 0.2}, {"params": params[1]}], base_optimizer=base, lr=0.1
    )
    optimizer.add_param_group({"params": params[2], "eta": 0.3})
    assert [group["eta"] for group in optimizer.param_groups] == [0.1, 0.0, 0.3]
    assert [group["rho"] for group in optimizer.param_groups] == [0.2, 0.05, 0.05]
    with pytest.raises(RecipeError, match="rho"):
        SAM([{"params": params, "rho": -1.0}], base_optimizer=base, lr=0.1)
