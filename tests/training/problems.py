"""Small problems that the tests of training share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core import randomness
from downslope.training.step import Step

N, D = 50, 4


def data(n: int = N, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, 4) and a noisy nonlinear target (n, 1)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, generator=generator, dtype=dtype)
    noise = torch.randn(n, 1, generator=generator, dtype=dtype)
    return x, x[:, :1] * x[:, 1:2] + x.sum(1, keepdim=True) + 0.1 * noise


@contextlib.contextmanager
def after_steps(act: Callable[[nn.Module], None]) -> Iterator[None]:
    """A block in which `act` is called with the model after every step; the run knows nothing of it."""
    own = Step.move

    def move(self: Step, batch: Any) -> None:
        own(self, batch)
        act(self.state.model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "move", move)
        yield


def labels(n: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (n, 4) in float32 and two classes."""
    x, y = data(n, torch.float32, seed)
    return x, (y.squeeze(1) > 0).long()


def mlp(width: int = 8, dropout: float = 0.0, outputs: int = 1) -> nn.Module:
    """Two layers, in torch's default type."""
    return nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, outputs))


def regression(**changes: Any) -> ds.Problem:
    """Squared error on `data`, with validation."""
    given: dict[str, Any] = {
        "model": mlp, "objective": "squared_error", "metric": "r2",
        "train": data(), "valid": data(20, seed=1),
    } | changes  # fmt: skip
    return ds.Problem(**given)


def classification(**changes: Any) -> ds.Problem:
    """Cross-entropy on `labels`, with validation."""
    given: dict[str, Any] = {
        "model": lambda dropout=0.0: mlp(dropout=dropout, outputs=2), "objective": "cross_entropy",
        "train": labels(), "valid": labels(20, seed=1), "metric": "accuracy",
    } | changes  # fmt: skip
    return ds.Problem(**given)


def by_hand(
    problem: ds.Problem,
    recipe: ds.Recipe,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    before_step: Callable[[nn.Module, int], None] = lambda model, step: None,
    after_step: Callable[[nn.Module], None] = lambda model: None,
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda m, x, y: nn.functional.mse_loss(m(x), y),
) -> tuple[nn.Module, list[float]]:
    """A plain torch loop over `data`: the model and the loss of every step."""
    model = problem.build(recipe.seed, recipe.init)
    model = model.double() if recipe.precision == "float64" else model
    dtype = next(model.parameters()).dtype
    x, y = (each.to(dtype) if each.is_floating_point() else each for each in problem.train.batch)
    optimizer = make(list(model.parameters()))
    size = len(x) if recipe.batch_size == "full" else int(recipe.batch_size)
    losses: list[float] = []
    for epoch in range(recipe.epochs or 10**9):
        order = randomness.permutation(len(x), recipe.seed, epoch) if size < len(x) else torch.arange(len(x))
        for index in order.split(size):
            if len(losses) == recipe.steps:
                return model.eval(), losses
            optimizer.zero_grad()
            loss = loss_of(model, x[index], y[index])
            loss.backward()
            losses.append(loss.item())
            before_step(model, len(losses))
            optimizer.step()
            after_step(model)
    return model.eval(), losses


def same_state(a: Any, b: Any) -> bool:
    """Whether two state dicts hold the same bits under the same names."""
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def same_history(a: ds.Run, b: ds.Run) -> bool:
    """Whether two runs recorded the same numbers at the same steps."""
    if set(a.history) != set(b.history):
        return False
    pairs = [(a.history.series(name), b.history.series(name)) for name in a.history if name != "step"]
    return all(
        p.steps.tolist() == q.steps.tolist() and p.values.tobytes() == q.values.tobytes() for p, q in pairs
    )
