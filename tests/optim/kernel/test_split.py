"""Loops around a link that takes matrices in batches: beside torch, and beside the rules as written."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim import batches, muon
from downslope.optim.kernel.split import Split, SplitStep, split_of
from downslope.optim.kernel.store import missing
from downslope.optim.muon import MeanMomentum, Muon, Orthogonalise
from downslope.optim.rule import Scalars

pytestmark = pytest.mark.skipif(missing() is not None, reason="numba makes kernels")

SHAPES = ((24, 40), (33, 17), (24, 40), (8, 3, 3, 3), (24, 40), (1, 7), (8, 3, 3, 3), (200, 150))


def parameters(shapes: Any = SHAPES, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw, dtype=dtype)) for shape in shapes]


def walk(*steppers: tuple[list[nn.Parameter], torch.optim.Optimizer], steps: int = 5) -> None:
    draw = torch.Generator().manual_seed(1)
    for _ in range(steps):
        grads = [torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in steppers[0][0]]
        for params, optimizer in steppers:
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone().view(p.shape)
            optimizer.step()


def near(ours: list[nn.Parameter], theirs: list[nn.Parameter], bound: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b.view(a.shape), rtol=bound, atol=bound)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("most", [1 << 20, 2000])
def test_steps_and_states_are_torchs(most: int, nesterov: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where matrices of one shape come in several batches; a convolution as a matrix."""
    monkeypatch.setattr(batches, "MATRICES", most)
    keys: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    ours = parameters()
    theirs = [nn.Parameter(p.detach().clone().flatten(1)) for p in ours]
    same = Muon(ours, **keys, backend="kernel", ns_precision="bfloat16")
    other = torch.optim.Muon(theirs, **keys, adjust_lr_fn="match_rms_adamw")
    walk((ours, same), (theirs, other))
    assert {row.backend for row in same.plan().rows} == {"kernel"}
    near(ours, theirs, 4e-6)
    found = [same.state[p]["momentum_buffer"] for p in ours]
    near(found, [other.state[p]["momentum_buffer"] for p in theirs], 1e-6)


def test_memory_that_is_not_kept_serves_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, kept = parameters(), parameters()
    walk((kept, Muon(kept, backend="kernel")))
    monkeypatch.setattr(muon, "KEPT", 0)
    monkeypatch.setattr(muon, "_SPACES", threading.local())
    walk((ours, Muon(ours, backend="kernel")))
    assert not vars(muon._SPACES)
    assert all(map(torch.equal, ours, kept))


@dataclass(frozen=True, kw_only=True)
class Agreeing(optim.Rule[Any]):
    """Where the step goes with the gradient, and nowhere else."""

    wants_raw: ClassVar[bool] = True

    def init(self, p: Tensor) -> tuple[()]:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Any, p: Tensor, k: Scalars) -> tuple[Tensor, tuple[()]]:
        return torch.where(g * k.raw > 0.0, g, 0.0), ()


AROUND = {
    "alone": (Orthogonalise(),),
    "a sum over all before it": (optim.ClipNorm(max_norm=0.5), MeanMomentum(), Orthogonalise()),
    "a sum over each tensor before it": (
        optim.ClipTensor(max_tensor_norm=0.5),
        MeanMomentum(),
        Orthogonalise(),
    ),
    "states on both sides": (
        optim.CoupledDecay(weight_decay=0.1),
        MeanMomentum(momentum=0.8),
        Orthogonalise(),
        optim.SignOfMean(betas=(0.7, 0.8)),
        optim.ScaleByLr(lr=0.1),
    ),
    "the raw gradient behind it": (MeanMomentum(), Orthogonalise(), Agreeing(), optim.ScaleByLr(lr=0.1)),
}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("links", AROUND.values(), ids=list(AROUND))
def test_any_chain_around_such_a_link_steps_as_its_rules(links: tuple[Any, ...], maximize: bool) -> None:
    made: list[list[nn.Parameter]] = []
    for backend in ("kernel", "reference"):
        params = parameters(dtype=torch.float64)
        optimizer = optim.Custom(params, optim.chain(*links), backend=backend, maximize=maximize)
        walk((params, optimizer))
        made.append(params)
    near(*made, 1e-9)
    for ours, start in zip(made[0], parameters(dtype=torch.float64), strict=True):
        assert not torch.equal(ours, start)


def test_sums_do_not_hang_on_the_threads() -> None:
    found: list[list[nn.Parameter]] = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            params = parameters(((300, 400), (300, 400)))
            walk(
                (params, Muon(params, backend="kernel", ns_steps=1, ns_coefficients=(1.0, 0.0, 0.0))), steps=2
            )
            found.append(params)
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


def test_a_rate_that_changes_keeps_the_loops_and_another_eps_counts() -> None:
    ours, theirs = parameters(dtype=torch.float64), parameters(dtype=torch.float64)
    rules = optim.chain(MeanMomentum(), Orthogonalise(), optim.ScaleByLr())
    pairs = (
        (ours, optim.Custom(ours, rules, backend="kernel")),
        (theirs, optim.Custom(theirs, rules, backend="reference")),
    )
    steps: list[Any] = []
    for lr, eps in ((0.02, 1e-7), (0.01, 1e-7), (0.01, 1e3), (0.01, 1e3)):
        for _, optimizer in pairs:
            optimizer.param_groups[0].update(lr=lr, eps=eps)
        walk(*pairs, steps=1)
        steps.append(pairs[0][1]._layouts[0].buckets[0].kernel)
    assert all(isinstance(each, SplitStep) for each in steps)
    assert steps[0] is steps[1]
    assert steps[1] is not steps[2]
    assert steps[2] is steps[3]
    near(ours, theirs, 1e-9)


def test_a_convolution_of_one_pixel_whose_strides_are_those_of_channels_last() -> None:
    shape = (6, 5, 1, 1)
    ours, theirs = parameters((shape,)), parameters((shape,))
    ours[0].data = ours[0].data.to(memory_format=torch.channels_last)
    assert ours[0].stride() != theirs[0].stride()
    walk(*((params, Muon(params, backend="kernel")) for params in (ours, theirs)))
    assert torch.equal(ours[0], theirs[0])


def test_matrices_that_do_not_lie_row_by_row_are_stepped_by_torchs_operations() -> None:
    turned = [nn.Parameter(torch.randn(400, 300).t())]
    [row] = Muon(turned).plan().rows
    assert row.backend == "eager"
    assert "not contiguous" in row.reason
    turned[0].grad = torch.ones(300, 400)
    with pytest.raises(RecipeError, match="not contiguous"):
        Muon(turned, backend="kernel").step()


def test_bfloat16_is_stepped_and_where_it_is_rounded_by_chance_left_to_torchs_operations() -> None:
    params = parameters(((400, 300),), torch.bfloat16)
    start = params[0].detach().clone()
    [plain], [chance] = (Muon(params, **keys).plan().rows for keys in ({}, {"rounding": "stochastic"}))
    assert (plain.backend, chance.backend) == ("kernel", "eager")
    with pytest.raises(RecipeError, match="around Orthogonalise cannot step bfloat16"):
        Muon(params, backend="kernel", rounding="stochastic").plan()
    other = parameters(((400, 300),), torch.bfloat16)
    walk((params, Muon(params, lr=0.5)), (other, Muon(other, lr=0.5, backend="reference")))
    apart, way = (params[0] - other[0]).detach().float(), (other[0] - start).detach().float()
    assert float(apart.norm() / way.norm()) < 3e-2


def test_large_groups_take_the_loops_by_themselves_and_the_plan_says_so() -> None:
    [large], [small] = (Muon(parameters((shape,))).plan().rows for shape in ((400, 300), (40, 30)))
    assert (large.backend, small.backend) == ("kernel", "eager")
    assert large.reason.endswith("a pair of loops made of the rules around Orthogonalise")


def test_what_measures_behind_the_matrices_or_sees_two_of_them_has_no_such_loops() -> None:
    behind = optim.chain(Orthogonalise(), optim.ClipNorm(max_norm=1.0))
    twice = optim.chain(Orthogonalise(), optim.Centralise())
    assert split_of(behind) is None
    assert split_of(twice) is None
    assert isinstance(split_of(optim.chain(Orthogonalise())), Split)
