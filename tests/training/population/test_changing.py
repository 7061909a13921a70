"""Members that keep something in Python which a forward pass changes train one by one, and as `fit` does."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.training.population import changing
from tests.training.population.test_equal_to_fit import agree, problem, recipe


class Keeps(nn.Module):
    """Divides by what `counts` says of the calls; subclasses count."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

    def counts(self, x: Tensor) -> Any:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x) / self.counts(x)))


class Counter(Keeps):
    """A temperature that falls every fourth call: the first batch does not tell."""

    calls = 0

    def counts(self, x: Tensor) -> Any:
        self.calls += self.training
        return 1 + self.calls // 4


class Average(Keeps):
    mean: Any = None

    def counts(self, x: Tensor) -> Any:
        if self.training:
            own = x.detach().abs().mean()
            self.mean = own if self.mean is None else 0.9 * self.mean + 0.1 * own
        return self.mean


class Anchored(Keeps):
    """Held near the weights of its first call."""

    start: Tensor | None = None

    def counts(self, x: Tensor) -> Any:
        if self.start is None:
            self.start = self.a.weight.detach().clone()
        return 1 + (self.a.weight - self.start).square().sum()


class Within(Keeps):
    """Counts in an object of its own, a list in it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = SimpleNamespace(calls=[0])

    def counts(self, x: Tensor) -> Any:
        self.seen.calls[0] += self.training
        return 1 + self.seen.calls[0] // 4


class Draws(Keeps):
    """From a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = random.Random(3)

    def counts(self, x: Tensor) -> Any:
        return 1 + self.draws.random() if self.training else 1.5


class Modes(Keeps):
    """Counts epochs by how often it is taken back to training."""

    epochs = 0

    def train(self, mode: bool = True) -> Modes:
        self.epochs += mode and not self.training
        return super().train(mode)

    def counts(self, x: Tensor) -> Any:
        return 1 + self.epochs


class Counting:
    """A cross-entropy that grows with its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return functional.cross_entropy(output, target) * (1 + 0.01 * self.calls)


class CountingModule(nn.Module):
    """The same as a module."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return functional.cross_entropy(output, target) * (1 + 0.01 * self.calls)


class Growing:
    """An augmentation that grows with its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Any) -> Any:
        self.calls += 1
        return batch[0] * (1 + 0.01 * self.calls), batch[1]


CASES: dict[str, tuple[Callable[[], ds.Problem], str]] = {
    "counter": (lambda: problem(model=Counter), "model.calls"),
    "average": (lambda: problem(model=Average), "model.mean"),
    "anchor": (lambda: problem(model=Anchored), "model.start"),
    "object": (lambda: problem(model=Within), "model.seen"),
    "generator": (lambda: problem(model=Draws), "model.draws"),
    "modes": (lambda: problem(model=Modes), "model.epochs"),
    "within": (lambda: problem(model=lambda: nn.Sequential(nn.Identity(), Counter())), "model.1.calls"),
    "objective": (lambda: problem(objective=Counting()), "objective.calls"),
    "method": (lambda: problem(objective=Counting().__call__), "objective"),
    "partial": (lambda: problem(objective=functools.partial(Counting())), "objective"),
    "module": (lambda: problem(objective=CountingModule()), "objective.calls"),
    "augmentation": (lambda: problem(augment=Growing()), "augment"),
}


@pytest.mark.parametrize("way", ["auto", "together", "one by one"])
@pytest.mark.parametrize("name", list(CASES))
def test_what_a_forward_pass_changes_parts_members_and_each_is_as_alone(name: str, way: Any) -> None:
    make, said = CASES[name]
    hows = [recipe(seed=seed, batch_size=15, steps=10) for seed in (0, 1, 2)]
    runs = ds.fit_population(make(), hows, progress=False, way=way)
    for run, how in zip(runs, hows, strict=True):
        alone = ds.fit(make(), how, folder=False, progress=False, observe=0.0)
        assert run.summary["train_loss"] == alone.summary["train_loss"]
        assert (
            run.history.series("train_loss").values.tolist()
            == alone.history.series("train_loss").values.tolist()
        )
        if way != "one by one":
            assert run.choices["population"].startswith(f"one by one: a forward pass changes {said}")


def test_members_of_which_the_trial_finds_other_numbers_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what changes is not seen, the trial may have moved it: the members are built again."""
    monkeypatch.setattr("downslope.training.population.changing.changed", lambda before, after: None)
    hows = [recipe(seed=seed, steps=10) for seed in (0, 1, 2)]

    class Each(Keeps):
        calls = 0

        def counts(self, x: Tensor) -> Any:
            self.calls += self.training
            return 1 + self.calls

    runs = ds.fit_population(problem(model=Each), hows, progress=False, way="together")
    for run, how in zip(runs, hows, strict=True):
        assert run.choices["population"].startswith("one by one: side by side the loss")
        alone = ds.fit(problem(model=Each), how, folder=False, progress=False, observe=0.0)
        assert run.summary["train_loss"] == alone.summary["train_loss"]


class Buffers(nn.Module):
    """Reads in training what it has written into its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)
        self.mean: Tensor
        self.calls: Tensor
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.calls += 1
                self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return self.a(x - self.mean) / (1 + self.calls / 10)


def test_buffers_that_training_reads_and_writes_go_together() -> None:
    agree(problem(model=Buffers), [recipe(seed=seed) for seed in (0, 1)])


def test_what_stays_as_it_is_is_kept_and_looking_at_it_ends() -> None:
    model: Any = Keeps()
    model.long, model.array, model.big = list(range(5000)), np.arange(3), torch.zeros(5000)
    model.itself = [model]
    one = problem(model=Keeps)
    before = changing.kept(one, model)
    assert changing.changed(before, changing.kept(one, model)) is None
    for change, name in [
        (lambda: model.long.append(1), "model.long"),
        (lambda: model.array.__setitem__(0, 9), "model.array"),
        (lambda: model.big.add_(1.0), "model.big"),
        (model.eval, "model.training"),
        (lambda: delattr(model, "itself"), "model.itself"),
    ]:
        change()
        now = changing.kept(one, model)
        assert changing.changed(before, now) == name
        before = now


class Hostile:
    """Fails at whatever it is asked but for its class."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Hostile
        raise RuntimeError(name)


def test_an_object_that_fails_when_it_is_looked_at_is_like_itself_alone() -> None:
    model: Any = Keeps()
    model.odd = Hostile()
    one = problem(model=Keeps)
    before = changing.kept(one, model)
    assert changing.changed(before, changing.kept(one, model)) is None
    model.odd = Hostile()
    assert changing.changed(before, changing.kept(one, model)) == "model.odd"
