"""A trunk with several heads: shapes, one trunk pass, the gradient of the sum, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.depth import units
from downslope.core.errors import InputError
from downslope.models import multi_task
from downslope.training.depth import depths_of

HEADS = {"digit": 10, "odd": 1}


def test_every_head_gives_its_own_shape_from_one_pass_of_the_trunk() -> None:
    model = multi_task("mlp", HEADS, inputs=64, shared=12, width=16, depth=1)
    calls: list[int] = []
    model.trunk.register_forward_hook(lambda *_: calls.append(1))
    out = model(torch.randn(5, 64))
    assert {task: tuple(z.shape) for task, z in out.items()} == {"digit": (5, 10), "odd": (5, 1)}
    assert calls == [1]
    assert model.heads["odd"].in_features == 12


@pytest.mark.parametrize(
    "trunk",
    [nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.Tanh()), nn.LSTM(8, 6, batch_first=True)],
)
def test_a_trunk_of_ones_own_gets_heads_of_its_width(trunk: nn.Module) -> None:
    x = torch.randn(20, 8, 8)
    problem = ds.Problem(
        model=lambda: multi_task(trunk, {"a": 3}),
        objective=lambda out, y: out["a"].square().mean(),
        train=(x, x),
    )
    out = problem.build()(x)["a"]
    assert out.shape[-1] == 3


def data() -> tuple[Tensor, dict[str, Tensor]]:
    x, y = ds.data.digits(scale=16).train
    return x[:200], {"digit": y[:200], "odd": (y[:200] % 2).float()}


def loss(out: Any, target: Any) -> dict[str, Tensor]:
    return {
        "digit": nn.functional.cross_entropy(out["digit"], target["digit"]),
        "odd": nn.functional.binary_cross_entropy_with_logits(out["odd"].squeeze(1), target["odd"]),
    }


def both(out: Any, target: Any) -> float:
    return float((out["digit"].argmax(1) == target["digit"]).float().mean())


def test_a_run_on_two_tasks_is_the_torch_loop_on_the_sum_and_logs_each_task() -> None:
    how = {"trunk": "mlp", "heads": HEADS, "inputs": 64, "shared": 8, "width": 8, "depth": 1}
    problem = ds.Problem(model=multi_task, arguments=how, objective=loss, train=data(), metric=both)
    recipe = ds.Recipe(optimizer="gd", lr=0.5, steps=20)
    run = ds.fit(problem, recipe, folder=False, progress=False)
    model = problem.build(0)
    sgd = torch.optim.SGD(model.parameters(), lr=0.5)
    x, y = data()
    for _ in range(20):
        sgd.zero_grad()
        sum(loss(model(x), y).values()).backward()
        sgd.step()
    for key, value in run.state("last").items():
        torch.testing.assert_close(value, model.state_dict()[key])
    last = loss(run.model()(x), y)
    assert run.summary["train_loss"] == pytest.approx(float(sum(last.values()).detach()), rel=1e-5)
    assert len(run.history.series("train_odd").values) == 20


def test_heads_lie_side_by_side_at_the_top() -> None:
    how = {"trunk": "mlp", "heads": HEADS, "inputs": 64, "shared": 8, "width": 8, "depth": 1}
    problem = ds.Problem(model=multi_task, arguments=how, objective=loss, train=data())
    found = depths_of(problem, ds.Recipe(layer_decay=0.5), problem.build())
    assert [unit.name for unit in found] == ["trunk.0.1", "trunk.0.3", "heads.digit, heads.odd"]
    assert len(units(problem.build())) == 4  # without a look at a pass, one behind the other


@pytest.mark.parametrize(
    ("trunk", "heads", "more", "said"),
    [
        ("mlp", {}, {}, "heads is empty"),
        ("mlp", {"a": 0}, {"inputs": 4}, r"heads\[a\]=0: must be a whole number"),
        ("mlp", {"a.b": 2}, {"inputs": 4}, "no name of a task"),
        ("mlp", {"a": 2}, {"inputs": 4, "shared": 0}, "shared=0"),
        ("mlpp", {"a": 2}, {"inputs": 4}, "did you mean 'mlp'"),
        ("mlp", {"a": 2}, {"input": 4}, "could not be made"),
        (nn.Linear(4, 4), {"a": 2}, {"width": 4}, "is made already"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(trunk: Any, heads: Any, more: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        multi_task(trunk, heads, **more)
