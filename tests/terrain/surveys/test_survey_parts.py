"""What a survey is made of: layers, noise of the gradient, stable rates, profiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.errors import ObjectiveError
from downslope.terrain.ground import Ground, ModelGround, ground_of
from downslope.terrain.layerwise import layerwise, of_matrix
from downslope.terrain.surveys.ends import ends
from downslope.terrain.surveys.jitter import jitter
from downslope.terrain.surveys.profile import Profile, profile
from downslope.terrain.surveys.rates import adam_rate, plain_rates

EXAMPLES = 64


def problem(objective: Any = "squared_error") -> ds.Problem:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, 5, generator=draw, dtype=torch.float64)
    y = torch.randn(EXAMPLES, 2, generator=draw, dtype=torch.float64)
    net = lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()  # noqa: E731
    return ds.Problem(model=net, objective=objective, train=(x, y))


def matrix_of(ground: ModelGround) -> Tensor:
    (piece,) = ground.pieces
    x, y = piece.batch
    names, params = ground.names, ground.params

    def loss(*parts: Tensor) -> Tensor:
        output = torch.func.functional_call(ground.model, dict(zip(names, parts, strict=True)), (x,))
        return (output - y).square().mean()

    rows = torch.autograd.functional.hessian(loss, tuple(p.detach() for p in params))
    return torch.cat(
        [
            torch.cat([block.reshape(p.numel(), -1) for block in row], 1)
            for row, p in zip(rows, params, strict=True)
        ]
    )


def test_layers_are_the_blocks_of_the_dense_hessian() -> None:
    ground = ground_of(problem())
    dense = matrix_of(ground)
    blocks = {"0": dense[:24, :24], "2": dense[24:, 24:]}
    _, gradient = ground.slope()
    whole = of_matrix(ground, ends(ground.hessian(), gradient))
    probed = layerwise(ground, ground.hessian(), gradient, probes=64)
    for exact, estimate in zip(whole.layers, probed.layers, strict=True):
        true = blocks[exact.name]
        assert exact.trace == pytest.approx(float(true.trace()))
        assert exact.sharpness == pytest.approx(float(torch.linalg.eigvalsh(true)[-1]))
        assert abs(estimate.trace - exact.trace) < 4 * estimate.trace_error
        assert abs(estimate.sharpness - exact.sharpness) <= estimate.sharpness_error + 1e-9
    assert whole.trace == pytest.approx(float(dense.trace()))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_noise_of_the_gradient_is_that_of_its_examples(reduction: str) -> None:
    ground = ground_of(problem(nn.MSELoss(reduction=reduction)))
    loss, gradient = ground.slope()
    found = jitter(ground, EXAMPLES, loss)
    assert not isinstance(found, str)
    assert torch.allclose(found.gradients.mean(0), gradient)
    (piece,) = ground.pieces
    x, y = piece.batch
    single: list[Tensor] = []
    for row, goal in zip(x, y, strict=True):
        value = ground.run((row[None], goal[None])).value * (EXAMPLES if reduction == "sum" else 1)
        single.append(torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, ground.params)]))
    spread = float(torch.stack(single).var(0).sum())
    assert found.noise.trace == pytest.approx(spread, rel=0.5)


def test_at_a_stable_rate_a_quadratic_converges_and_just_above_it_does_not() -> None:
    sharp = 5.0
    methods: dict[str, dict[str, Any]] = {
        "gd": {}, "momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True},
    }  # fmt: skip
    for name, rate in plain_rates(sharp).items():
        for share, stays in ((0.98, True), (1.02, False)):
            p = nn.Parameter(torch.ones(1, dtype=torch.float64))
            optimizer = torch.optim.SGD([p], lr=share * rate, **methods[name])
            for _ in range(600):
                p.grad = sharp * p.detach()
                optimizer.step()
            assert (float(p.detach().abs()) < 1.0) == stays, (name, share)
    assert plain_rates(-1.0) == {}


def test_adams_rate_sees_the_hessian_through_its_second_moment() -> None:
    ground = ground_of(problem())
    loss, _ = ground.slope()
    found = jitter(ground, EXAMPLES, loss)
    assert not isinstance(found, str)
    scale = 1 / (found.gradients.square().mean(0).sqrt() + 1e-8)
    seen = scale.sqrt()[:, None] * matrix_of(ground) * scale.sqrt()
    rate, _ = adam_rate(ground.hessian(), found.gradients)
    assert rate == pytest.approx(38 / float(torch.linalg.eigvalsh(seen)[-1]), rel=0.02)


def test_a_profile_is_the_loss_along_the_line_and_leaves_the_point_where_it_was() -> None:
    ground = ground_of(problem())
    before, (loss, gradient) = ground.where(), ground.slope()
    line = profile(ground, gradient, 0.1, loss)
    assert torch.equal(ground.where(), before)
    assert line.at < 0 < line.fall
    for length, value in zip(line.lengths, line.losses, strict=True):
        ground.put(before + length * gradient / gradient.norm())
        assert ground.loss() == pytest.approx(value, rel=1e-12)
    assert line.reversed().at == -line.at
    assert line.negated().fall == pytest.approx(line.rise)


def test_where_the_loss_is_not_finite_along_a_line_the_rest_of_it_counts() -> None:
    line = Profile(lengths=(-1.0, 0.0, 1.0), losses=(float("inf"), 1.0, 0.5))
    assert (line.fall, line.at, line.rise) == (0.5, 1.0, 0.0)
    lost = Profile(lengths=(-1.0, 0.0, 1.0), losses=(float("nan"), 1.0, float("inf")))
    assert (lost.fall, lost.at) == (0.0, 0.0)


class Diagonal:
    """An operator whose eigenvalues are its entries."""

    exact = True

    def __init__(self, entries: Tensor) -> None:
        self.entries, self.size = entries, len(entries)

    def product(self, vector: Tensor) -> Tensor:
        return self.entries * vector


def test_the_lower_end_is_settled_only_where_it_has_converged() -> None:
    wide: Any = Diagonal(torch.linspace(-1, 3, 400, dtype=torch.float64))
    few, many = (ends(wide, torch.zeros(1).double(), steps=steps, tol=1e-6) for steps in (4, 120))
    assert not few.settled
    assert many.settled
    assert abs(float(many.values[-1]) + 1) <= float(many.errors[-1])
    assert not few.complete


def test_what_a_matrix_lacks_in_symmetry_is_an_error_of_its_eigenvalues() -> None:
    class Askew(Diagonal):
        def product(self, vector: Tensor) -> Tensor:
            return vector + torch.tensor([1e-3 * float(vector[1]), 0.0]).to(vector)

    found = ends(Askew(torch.ones(2).double()), torch.zeros(1).double())  # type: ignore[arg-type]
    assert found.errors.tolist() == pytest.approx([5e-4, 5e-4])


def test_where_nothing_bends_up_any_rate_of_adam_is_stable() -> None:
    p = nn.Parameter(torch.ones(2, dtype=torch.float64))
    hill = Ground.of_closure(lambda: -p.square().sum(), [p]).hessian()
    assert adam_rate(hill, torch.ones(3, 2, dtype=torch.float64))[0] == float("inf")


def test_products_that_are_differences_have_their_own_rounding_and_none_may_be_lost() -> None:
    rough = Diagonal(torch.tensor([4.0, 1.0]).double())
    rough.exact = False
    found = ends(rough, torch.zeros(1).double())  # type: ignore[arg-type]
    eps = torch.finfo(torch.float64).eps
    assert found.errors.tolist() == pytest.approx([20 * eps ** (2 / 3) * 4] * 2)
    for size in (2, 400):
        nothing: Any = Diagonal(torch.full((size,), float("nan"), dtype=torch.float64))
        with pytest.raises(ObjectiveError, match="the curvature is not finite"):
            ends(nothing, torch.zeros(1).double())


def test_the_noise_takes_fewer_parts_and_smaller_ones_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from downslope.terrain.surveys import jitter as module

    ground = ground_of(problem())
    loss, _ = ground.slope()
    assert jitter(ground, 3, loss) == "3 examples: too few to tell the noise of the gradient"
    whole = jitter(ground, EXAMPLES, loss)
    assert not isinstance(whole, str)
    assert (len(whole.gradients), whole.size) == (16, 4)
    plain, calls = module._gradients, iter(range(10))

    def short(*given: Any) -> Any:
        if next(calls) == 0:
            raise MemoryError
        return plain(*given)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_gradients", short)
        less = jitter(ground, EXAMPLES, loss)
    assert not isinstance(less, str)
    assert less.size == 2
    monkeypatch.setattr(module, "ROOM", 1)
    few = jitter(ground, EXAMPLES, loss)
    assert not isinstance(few, str)
    assert (len(few.gradients), few.size) == (4, 16)


def test_at_an_exact_fit_the_way_down_from_the_start_is_the_scale_and_adam_has_no_rate() -> None:
    draw = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, 3, generator=draw).double(), torch.randn(3, 1, generator=draw).double()
    task = ds.Problem(
        model=lambda: nn.Linear(3, 1, bias=False).double(), objective="squared_error", train=(x, x @ w)
    )
    fitted = task.build()
    fitted.weight.data = w.T.clone()
    start, end = ds.survey(task, progress=False), ds.survey(task, fitted, progress=False)
    assert end.loss < 1e-30
    assert end.scale == pytest.approx(start.loss)
    assert "adam" in start.stable_rates
    assert "Adam's rate is that of the second moment that batches of 4 would leave here" in start.notes
    assert "adam" not in end.stable_rates


def test_what_the_time_does_not_allow_and_what_is_left_out_is_told() -> None:
    late = ds.survey(problem(), progress=False, seconds=1e-9)
    assert any(each.startswith("out of time: not measured are ") for each in late.notes)
    assert late.layers == ()
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 200, generator=draw), torch.randn(40, 2, generator=draw)
    wide = ds.Problem(model=lambda: nn.Linear(200, 2), objective="squared_error", train=(x, y))
    found = ds.survey(wide, progress=False, seconds=1e-9)
    assert "the time allows for 4 products of 60, so residuals are larger" in found.notes
    bounded = problem().edit(constraint="non_negative")
    assert any("the constraint is left out" in each for each in ds.survey(bounded, progress=False).notes)
