"""Starts that no layer of torch shows: recurrences, cells, and weights that a model holds itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.diagnosis import Diagnosis
from tests.diagnosis.symptoms.problems import Pair, classes, diagnosed, found, problem, recipe


def sums(steps: int = 16) -> tuple[Pair, Pair]:
    """Sequences of noise; the class is the sign of the sum of the last few steps."""
    x = torch.randn(600, steps, 2, generator=torch.Generator().manual_seed(0))
    y = (x[:, -5:, 0].sum(1) > 0).long()
    return (x[:450], y[:450]), (x[450:], y[450:])


class Recurrent(nn.Module):
    """The last state of a recurrence of torch, run whole or as a cell in a loop."""

    def __init__(self, kind: type[nn.Module], scale: float | None) -> None:
        super().__init__()
        whole = issubclass(kind, nn.RNNBase)
        self.rnn, self.head = kind(2, 24, **({"batch_first": True} if whole else {})), nn.Linear(24, 2)
        for name, p in self.rnn.named_parameters() if scale else ():
            if name.startswith("weight"):
                nn.init.normal_(p, 0.0, scale)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.rnn, nn.RNNBase):
            return self.head(self.rnn(x)[0][:, -1])
        state = x.new_zeros(len(x), 24)
        for t in range(x.shape[1]):
            state = self.rnn(x[:, t], state)
        return self.head(state)


class Bare(nn.Module):
    """Two hidden layers without a single layer of torch."""

    def __init__(self, draw: Callable[[int, int], Tensor]) -> None:
        super().__init__()
        self.w1, self.b1 = nn.Parameter(draw(12, 32)), nn.Parameter(torch.zeros(32))
        self.w2, self.b2 = nn.Parameter(draw(32, 32)), nn.Parameter(torch.zeros(32))
        self.w3, self.b3 = nn.Parameter(draw(32, 4)), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.w1 + self.b1)
        return torch.relu(x @ self.w2 + self.b2) @ self.w3 + self.b3


def of_recurrence(kind: type[nn.Module], scale: float | None) -> Diagnosis:
    task = problem(sums(), lambda: Recurrent(kind, scale), "cross_entropy", "accuracy")
    return diagnosed(task, recipe(epochs=20, lr=5e-3))


def of_bare(draw: Callable[[int, int], Tensor], **how: object) -> Diagnosis:
    return diagnosed(problem(classes(), lambda: Bare(draw), "cross_entropy", "accuracy"), recipe(**how))


@pytest.mark.parametrize("kind", [nn.RNN, nn.RNNCell, nn.GRU])
def test_a_recurrence_with_large_weights_is_told_by_them(kind: type[nn.Module]) -> None:
    sick = of_recurrence(kind, 1.5)
    assert sick.root is not None
    assert sick.root.symptom == "init-scale", str(sick)
    assert "weight_hh" in str(sick.root.where)
    saturated = found(sick, "saturated-units")  # the states of a plain one lie at the ends of their tanh
    assert (saturated is not None) == (kind is not nn.GRU)
    assert of_recurrence(kind, None).healthy


STARTS: dict[str, tuple[Callable[[int, int], Tensor], str]] = {
    "zero": (torch.zeros, "symmetric-init"),
    "tiny": (lambda a, b: 1e-4 * torch.randn(a, b), "init-scale"),
    "huge": (lambda a, b: 20.0 * torch.randn(a, b), "init-scale"),
}


@pytest.mark.parametrize("start", STARTS)
def test_weights_that_a_model_holds_itself_are_told_and_redrawn(start: str) -> None:
    draw, expected = STARTS[start]
    sick = of_bare(draw, optimizer="sgd", lr=0.05, epochs=10)
    assert sick.root is not None
    assert sick.root.symptom == expected, str(sick)
    assert isinstance(sick.root.remedies[0], ds.edits.Reinitialise)


def test_a_sound_start_of_bare_weights_is_healthy() -> None:
    sound = of_bare(lambda a, b: torch.randn(a, b) / a**0.5, optimizer="sgd", lr=0.05, epochs=20)
    assert sound.healthy, str(sound)


def test_one_matrix_that_starts_at_zero_is_a_logistic_regression() -> None:
    class Logistic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = nn.Parameter(torch.zeros(12, 4)), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w + self.b

    made = diagnosed(problem(classes(), Logistic, "cross_entropy", "accuracy"), recipe(epochs=30))
    assert made.healthy, str(made)
