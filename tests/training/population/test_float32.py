"""In float32 a member has the bits of `fit`, or stays within the noise of a last place; naive ones do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds

STEPS = 230
RATE, DECAY = 0.02, 0.01


def problem() -> ds.Problem:
    """Four classes with wrong labels among them, so that training does not come to rest."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(320, 8, generator=generator)
    y = (x[:, :4] + x[:, 4:].square()).argmax(1)
    y[::5] = torch.randint(0, 4, (64,), generator=generator)

    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))

    return ds.Problem(model=net, objective="cross_entropy", train=(x, y))


def recipe(**changes: Any) -> ds.Recipe:
    given: dict[str, Any] = {"optimizer": "adamw", "lr": RATE, "weight_decay": DECAY}
    return ds.Recipe(**{"batch_size": 32, "steps": STEPS, "decay": "all"} | given | changes)


def alone(how: ds.Recipe) -> ds.Run:
    return ds.fit(problem(), how, folder=False, progress=False, observe=0.0)


def scaled(by: float) -> Callable[[nn.Module], None]:
    """A start that is `by` times the model's own."""

    def start(model: nn.Module) -> None:
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(by)

    return start


def off(run: ds.Run, other: ds.Run) -> tuple[float, float]:
    """Distance of the weights, and the largest one of a loss, relative."""
    a, b = (torch.cat([v.flatten().double() for v in each.weights["last"].values()]) for each in (run, other))
    ours, theirs = (each.history.series("train_loss").values for each in (run, other))
    return float((a - b).norm() / b.norm()), float((abs(ours - theirs) / theirs).max())


class Naive(torch.optim.Optimizer):
    """AdamW as a population would have it that keeps its hyper-parameters as float32 numbers.

    ``1 - beta2`` is then 4.7e-5 too large, and so is the mean of squares, step after step.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        lr, beta1, beta2, eps, decay = torch.tensor([RATE, 0.9, 0.999, 1e-8, DECAY])
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            if not state:
                state |= {"t": 0, "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            state["t"] += 1
            state["m"].lerp_(p.grad, 1 - beta1)
            state["v"].mul_(beta2).add_((1 - beta2) * p.grad.square())
            m = state["m"] / (1 - 0.9 ** state["t"])
            v = state["v"] / (1 - 0.999 ** state["t"])
            p.mul_(1 - lr * decay).sub_(lr * m / (v.sqrt() + eps))


def layers(*between: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Two layers with others between them."""
    return lambda: nn.Sequential(nn.Linear(8, 24), *(each() for each in between), nn.Linear(24, 4))


def told(run: ds.Run) -> dict[str, Any]:
    """All that a run has to say, but for the time it took."""
    columns = {name: run.history.series(name).values.tolist() for name in run.history}
    return columns | {key: value for key, value in run.summary.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("between", "changes"),
    [
        ((nn.ReLU,), {}),
        ((nn.Tanh, lambda: nn.Linear(24, 24), lambda: nn.Dropout(0.3)), {"optimizer": "sgd"}),
        ((lambda: nn.BatchNorm1d(24), nn.ReLU), {"optimizer": "momentum", "clip_norm": 0.1}),
        ((nn.Sigmoid,), {"optimizer": "rmsprop", "average": "ema", "schedule": "cosine"}),
        ((nn.ReLU,), {"optimizer": "adagrad", "clip_value": 0.01, "batch_size": 29}),
    ],
    ids=["adamw", "dropout", "batch norm", "rmsprop", "ragged"],
)
def test_chains_of_layers_have_the_bits_of_fit(between: Any, changes: dict[str, Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    many = [torch.randn(3, *shape, generator=draw) for shape in ((32, 24), (24, 24))]
    if not torch.equal(torch.bmm(*many), torch.stack([a @ b for a, b in zip(*many, strict=True)])):
        pytest.skip("the library here rounds products of many matrices otherwise than those of each")
    given = problem()
    given = given.edit(model=layers(*between), valid=given.train, metric="accuracy")
    recipes = [recipe(**({"steps": 25, "lr": rate} | changes)) for rate in (0.02, 0.001, 0.05)]
    ways: tuple[Any, Any] = ("together", "one by one")
    members, runs = (ds.fit_population(given, recipes, progress=False, way=way) for way in ways)
    assert members[0].choices["population"] == "together with 2 others"
    for member, run in zip(members, runs, strict=True):
        assert told(member) == told(run)
        assert off(member, run) == (0.0, 0.0)


def test_members_stay_within_the_noise_of_a_last_place_and_naive_scalars_do_not() -> None:
    how = recipe()
    run = alone(how)
    ulp = torch.finfo(torch.float32).eps
    noise = [off(alone(how.edit(init=scaled(1 + k * ulp))), run) for k in (-2, -1, 1, 2)]
    floor = [max(each) for each in zip(*noise, strict=True)]
    members = ds.fit_population(
        problem(), [how, how.edit(lr=0.01), how.edit(lr=0.003)], progress=False, way="together"
    )
    assert members[0].choices["population"] == "together with 2 others"
    own = off(members[0], run)
    naive = ds.Recipe(optimizer=Naive, batch_size=32, steps=STEPS)
    drift = off(alone(naive), run)
    assert all(mine <= 3 * most for mine, most in zip(own, floor, strict=True))
    assert drift[0] > 5 * floor[0]
    assert drift[0] > 5 * own[0]
