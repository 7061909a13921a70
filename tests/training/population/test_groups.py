"""Which members train together: what has one shape does, what computes something else does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.training.loop import Loop
from downslope.training.population import apart, way
from downslope.training.population.company import Company
from downslope.training.progress import Progress
from tests.training.population.test_equal_to_fit import TRAIN, VALID, agree, problem, recipe


def told(problems: Any, hows: list[ds.Recipe] | None = None, **given: Any) -> list[str]:
    """How each member was trained."""
    hows = hows or [recipe(steps=2, seed=seed) for seed in range(len(problems))]
    runs = ds.fit_population(problems, hows, progress=False, **{"way": "together"} | given)
    return [run.choices["population"].partition(":")[0] for run in runs]


class Scaled(nn.Module):
    """Hangs on a number that no tensor holds."""

    def __init__(self, by: float = 1.0) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)
        self.by: Callable[[Tensor], Tensor] = lambda x: by * x

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.by(x))


def test_a_number_in_a_closure_or_an_attribute_parts_members_and_a_rate_of_dropout_does_not() -> None:
    one = problem(model=Scaled)
    assert told([one.edit(**{"model.by": by}) for by in (1.0, 2.0, 1.0)]) == [
        "together with 1 others", "one by one", "together with 1 others",
    ]  # fmt: skip

    def norm(eps: float = 1e-5, p: float = 0.0) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(6, eps=eps), nn.Dropout(p), nn.Linear(6, 3))

    eps = problem(model=norm)
    assert told([eps.edit(**{"model.eps": each}) for each in (1e-5, 1e-3)]) == ["one by one"] * 2
    assert told([eps.edit(**{"model.p": each}) for each in (0.0, 0.5)]) == ["together with 1 others"] * 2


def test_widths_buffers_and_what_is_held_fixed_part_members() -> None:
    def net(width: int = 4, normed: bool = False, held: bool = False) -> nn.Module:
        model = nn.Sequential(nn.Linear(6, width), nn.Identity(), nn.Linear(width, 3))
        if normed:
            model[1] = nn.BatchNorm1d(width, affine=False)
        model[0].weight.requires_grad_(not held)
        return model

    one = problem(model=net)
    others: list[dict[str, Any]] = [{"model.width": 5}, {"model.normed": True}, {"model.held": True}]
    ways = told([one, *(one.edit(**each) for each in others), one])
    assert ways == ["together with 1 others", *["one by one"] * 3, "together with 1 others"]


def test_problems_of_the_same_data_made_apart_go_together_and_those_of_others_do_not() -> None:
    other = (TRAIN[0].clone(), TRAIN[1].clone())
    made = [problem(), problem(), problem(train=other)]
    assert told(made) == ["together with 1 others", "together with 1 others", "one by one"]


def test_objectives_and_batches_part_members() -> None:
    hows = [recipe(steps=2, batch_size=size) for size in (25, 25, 15)]
    assert told([problem()] * 3, hows)[2] == "one by one"
    weighted = problem(objective="cross_entropy(weight=[1, 2, 1])")
    assert told([problem(), problem(), weighted])[2] == "one by one"


class Tied(nn.Module):
    """One weight under two names, one that no gradient reaches, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.b.weight = self.a.weight
        self.unused = nn.Parameter(torch.ones(4, 2))
        self.a.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_tied_frozen_and_unreached_weights_are_as_alone(optimizer: str) -> None:
    how = {"optimizer": optimizer, "lr": 0.01, "weight_decay": 0.1}
    runs = agree(problem(model=Tied), [recipe(**how, seed=seed) for seed in (0, 1)])
    assert torch.equal(runs[0].weights["last"]["unused"], torch.ones(4, 2, dtype=torch.float64))


class Wrong(torch.autograd.Function):
    """Right alone, and wrong for members side by side."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor) -> tuple[Tensor, int]:
        return 1.001 * x, in_dims[0]


class Wrongly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return Wrong.apply(self.a(x))


def test_what_gives_other_numbers_side_by_side_is_found_before_the_first_step() -> None:
    one = problem(model=Wrongly)
    runs = ds.fit_population(one, recipe(steps=2), seeds=[0, 1], progress=False, way="together")
    assert "side by side the loss" in runs[0].choices["population"]
    alone = ds.fit(one, recipe(steps=2), folder=False, progress=False, observe=0.0)
    assert runs[0].summary["train_loss"] == alone.summary["train_loss"]


def test_members_go_one_by_one_where_that_was_measured_to_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for ratio, what in ((1.2, "one by one"), (0.3, "together with 1 others")):
        monkeypatch.setattr(way.choices, "remembered", lambda key, measure, ratio=ratio: [ratio, 1.0])
        monkeypatch.setattr(way.choices, "recalled", lambda key: None)
        assert told([problem()] * 2, way="auto") == [what] * 2
    monkeypatch.setattr(way.choices, "recalled", lambda key: [1.2, 1.0])  # then nothing is tried again
    assert told([problem()] * 2, way="auto") == ["one by one"] * 2


@pytest.mark.parametrize(
    ("ratio", "steps", "passes"), [(0.4, 60, 2), (3.0, 60, 2), (1.0, 60, 3), (1.0, 9, 2)]
)
def test_what_is_clear_after_two_passes_or_too_short_to_matter_is_not_measured_again(
    ratio: float, steps: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def seconds(device: torch.device, busy: bool, act: Any) -> float:
        act()
        asked.append(ratio * 2 if len(asked) % 2 == 0 else 1.0)
        return asked[-1]

    monkeypatch.setattr(way.choices, "remembered", lambda key, measure: measure())
    monkeypatch.setattr(way.choices, "recalled", lambda key: None)
    monkeypatch.setattr(way, "_seconds", seconds)
    runs = ds.fit_population(problem(), recipe(steps=steps), seeds=[0, 1], progress=False, way="auto")
    assert len(asked) == 2 * passes
    assert str(runs[0].choices["population"]).startswith("together" if ratio < way.PAYS else "one by one")


@pytest.mark.parametrize(
    ("alone", "awake", "sent"), [(0.03, 0, True), (0.01, 0, False), (0.01, 2, True), (1e-5, 2, False)]
)
def test_crews_are_sent_where_they_save_more_than_the_start_of_their_processes(
    alone: float, awake: int, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way.choices, "recalled", lambda key: [0.5, alone])  # 400 passes
    monkeypatch.setattr(way.choices, "cores", lambda: 2)
    monkeypatch.setattr(apart, "_idle", [None] * awake)
    members = [(problem(), recipe(steps=100, seed=seed)) for seed in range(8)]
    company = Company(
        members, [False] * 8, observe=0.0, strict=True, until=None, way="auto", workers=2, on_evaluation=None,
        bar=Progress("population", 8, shown=False),
    )  # fmt: skip
    given: list[list[int]] = []

    def taken(jobs: Any) -> Any:
        given.extend([each.index for each in job.each] for job in jobs)
        yield from ()

    monkeypatch.setattr(company, "_sent", taken)
    monkeypatch.setattr(company, "_together", lambda made, abreast: None)
    company.train()
    assert given == ([[0, 1, 2, 3], [4, 5, 6, 7]] if sent else [])


def test_the_measurement_leaves_no_trace_in_the_run() -> None:
    problems = [problem(valid=VALID)] * 2
    hows = [recipe(seed=seed) for seed in (0, 1)]
    auto = ds.fit_population(problems, hows, progress=False)
    for run, how in zip(auto, hows, strict=True):
        alone = ds.fit(problem(), how, folder=False, progress=False, observe=0.0)
        assert run.summary["train_loss"] == pytest.approx(alone.summary["train_loss"], rel=1e-12)


def test_members_are_looked_at_side_by_side_and_not_each_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    own = Loop.evaluation

    def alone(self: Loop, *given: Any, **more: Any) -> Any:
        looks.append(self.state.step)
        return own(self, *given, **more)

    monkeypatch.setattr(Loop, "evaluation", alone)
    for model in (None, Tied):  # a chain of layers, and what vmap takes
        one = problem() if model is None else problem(model=model)
        ds.fit_population(one, recipe(epochs=2, steps=None), [0, 1], progress=False, way="together")
    assert looks == []


TOKENS = torch.randint(0, 8, (60, 5), generator=torch.Generator().manual_seed(0))
WORDS = (TOKENS, (TOKENS == 3).sum(1).clamp(max=2))


class Words(nn.Module):
    """The mean of embeddings, of which `padding_idx` is none; attention between them if wanted."""

    def __init__(self, padding_idx: int | None = 3, attend: bool = False) -> None:
        super().__init__()
        self.rows = nn.Embedding(8, 4, padding_idx=padding_idx)
        self.attend = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True) if attend else None
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rows(x)
        return self.head((h if self.attend is None else self.attend(h, h, h)[0]).mean(1))


@pytest.mark.parametrize("padding_idx", [0, 3, -1])
def test_no_gradient_reaches_the_row_of_the_padding_of_any_member(padding_idx: int) -> None:
    one = problem(model=lambda: Words(padding_idx), train=WORDS, valid=WORDS)
    runs = agree(one, [recipe(seed=seed, optimizer="adam", lr=0.05) for seed in (0, 1, 2)])
    for run, seed in zip(runs, (0, 1, 2), strict=True):
        start = one.build(seed).double().rows.weight[padding_idx]
        assert torch.equal(run.weights["last"]["rows.weight"][padding_idx], start)


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.mean() > -9 else x[:, :3] + self.a(x)


class Own(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class Through(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return Own.apply(self.a(x))


class Item(Decides):
    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) / (1 + self.a.weight.norm().item())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"model": lambda: Words(attend=True), "train": WORDS, "valid": None},
            "it draws in its forward pass",
        ),
        ({"model": Decides}, "decides in Python"),
        ({"model": Item}, "takes a number out of a tensor"),
        ({"model": Through}, "has no setup_context"),
    ],
)
def test_why_members_go_one_by_one_is_said_in_words_of_the_model(given: dict[str, Any], said: str) -> None:
    runs = ds.fit_population(problem(**given), recipe(steps=2), [0, 1], progress=False, way="together")
    assert said in runs[0].choices["population"]


def test_a_gradient_that_is_another_side_by_side_is_said_to_be_the_gradient() -> None:
    same = torch.ones(3)
    assert "the gradient of the first batch is off by 0.5" in way._told(1.0, 1.5 * same, 1.0, same)
    assert "the loss of the first batch is 1.5, alone 1" in way._told(1.5, same, 1.0, same)
