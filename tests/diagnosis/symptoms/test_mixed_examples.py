"""Examples that are mixed in the forward pass are named where it costs; where it is meant they are not."""

from __future__ import annotations

import contextlib
import io
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits import Advice, BatchFirst, Edit, OverClasses, PermuteView
from downslope.core.run import Run
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.measure import mixed as measured
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms import mixed_examples
from tests.diagnosis import runs
from tests.diagnosis.in_company import MEANT, MIXED, script
from tests.diagnosis.symptoms.problems import Pair, diagnosed, found, problem, recipe

NAME = "mixed-examples"
STUCK = 1e-6
"""A rate at which nothing is learnt."""


def told(body: str, folder: Path, rate: float = 5e-3) -> tuple[Diagnosis, str]:
    path = folder / "train.py"
    path.write_text(script(body, rate), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        found, status = watch_script(path, trials=0.0)
    assert found is not None
    assert status == 0
    return found, out.getvalue()


# -- in a loop of one's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXED)
def test_a_script_that_mixes_examples_and_fails_is_told(name: str, tmp_path: Path) -> None:
    result, _ = told(MIXED[name], tmp_path)
    assert result.root is not None
    assert (result.root.symptom, result.healthy) == (NAME, False)
    assert isinstance(result.root.remedies[0], Advice)
    word = "transpose" if "view" in name else "batch_first=True"
    assert word in str(result.root.remedies[0])


@pytest.mark.parametrize("name", MEANT)
def test_what_looks_at_several_examples_on_purpose_is_not_blamed_even_where_it_fails(
    name: str, tmp_path: Path
) -> None:
    result, _ = told(MEANT[name], tmp_path, STUCK)
    own = found(result, NAME)
    assert own is None or own.severity == "info"
    assert result.root is None or result.root.symptom != NAME


@pytest.mark.parametrize("name", ["transposed inside", "the mean of the batch taken off", "nodes of a graph"])
def test_what_looks_at_several_examples_and_learns_is_healthy(name: str, tmp_path: Path) -> None:
    result, _ = told(MEANT[name], tmp_path)
    assert result.healthy


@pytest.mark.parametrize(
    "body", [MIXED["an LSTM along the batch"], MEANT["noise of its own in eval mode"],
             MEANT["a state that is kept from batch to batch"]],
    ids=["mixed", "noise", "state"],
)  # fmt: skip
def test_the_script_prints_what_it_prints_alone(body: str, tmp_path: Path) -> None:
    _, out = told(body, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as alone:
        runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    assert out == alone.getvalue()


def test_a_loop_that_goes_on_after_its_diagnosis_trains_as_if_nobody_had_asked() -> None:
    x = torch.randn(256, 6, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 2, 0] > 0).long()

    def train(*, asked: bool) -> tuple[list[Tensor], Diagnosis | None]:
        torch.manual_seed(0)
        model = Sequence("LSTM", first=False, norm=True)
        rule = torch.optim.Adam(model.parameters(), lr=5e-3)
        monitor = ds.watch(model, rule) if asked else None
        result = None
        for step in range(80):
            at = torch.randint(256, (32,))
            loss = functional.cross_entropy(model(x[at]), y[at])
            rule.zero_grad()
            loss.backward()
            rule.step()
            if monitor is not None:
                monitor.step(loss)
                result = monitor.diagnose() if step % 20 == 10 else result
        return [*model.state_dict().values(), torch.rand(3)], result

    (alone, _), (asked, result) = train(asked=False), train(asked=True)
    assert all(torch.equal(a, b) for a, b in zip(alone, asked, strict=True))
    assert result is not None
    assert found(result, NAME) is not None


# -- with a problem at hand ----------------------------------------------------------------------------------


class Sequence(nn.Module):
    """As people write it: torch's own recurrence or attention, and the last step of what it gives."""

    def __init__(self, kind: str, *, first: bool = True, norm: bool = False, tokens: int = 0) -> None:
        super().__init__()
        self.up = nn.Embedding(tokens, 16) if tokens else nn.Linear(5, 16)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.kind = kind
        self.reads = (nn.MultiheadAttention(16, 2, batch_first=first) if kind == "attention"
                      else getattr(nn, kind)(16, 16, batch_first=first))  # fmt: skip
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.norm(x))
        return self.head(self.reads(*[x] * (3 if self.kind == "attention" else 1))[0][:, -1])


def halved(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    half = len(x) // 2
    return (x[:half], y[:half]), (x[half:], y[half:])


def sequences(n: int = 1000) -> tuple[Pair, Pair]:
    x = torch.randn(n, 6, 5, generator=torch.Generator().manual_seed(0))
    return halved(x, (x[:, :, 0].sum(1) > 0).long())


def tokens(n: int = 1000) -> tuple[Pair, Pair]:
    x = torch.randint(6, (n, 6), generator=torch.Generator().manual_seed(0))
    return halved(x, (x.sum(1) > 15).long())


class Own(nn.Module):
    """A custom forward that is handed over."""

    def __init__(self, turn: Any, inner: Any) -> None:
        super().__init__()
        self.turn, self.inner = turn, inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.turn(x))


class Weighs(nn.Module):
    """Weights written out that share a sum over the steps, or over the examples."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.score, self.up, self.head = nn.Linear(5, 1), nn.Linear(5, 16), nn.Linear(16, 2)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        weights = functional.softmax(self.score(x)[..., 0], dim=self.axis)
        return self.head((weights[..., None] * functional.relu(self.up(x))).sum(1))


FAULTS: dict[str, tuple[Any, Any, type[Edit]]] = {
    "LSTM": (sequences, lambda: Sequence("LSTM", first=False), BatchFirst),
    "GRU of tokens": (tokens, lambda: Sequence("GRU", first=False, tokens=6), BatchFirst),
    "RNN behind batch norm": (sequences, lambda: Sequence("RNN", first=False, norm=True), BatchFirst),
    "attention": (sequences, lambda: Sequence("attention", first=False), BatchFirst),
    "view": (sequences, lambda: Own(lambda x: x.view(6, -1, 5).transpose(0, 1), lambda: Sequence("GRU")),
             PermuteView),
    "reshape, and back": (sequences, lambda: Own(lambda x: x.reshape(5, -1, 6).permute(1, 2, 0),
                                                 lambda: Sequence("LSTM")), PermuteView),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_proved_by_the_edit_that_puts_it_right(name: str) -> None:
    data, model, kind = FAULTS[name]
    task = problem(data(), model, "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(lr=1e-2, epochs=8))
    assert result.root is not None
    assert result.root.symptom == NAME
    edit = result.root.remedies[0]
    assert isinstance(edit, kind)
    assert result.root.also[0].value > 0.2
    cured = task.edit(edit)
    assert measured.measure(cured, recipe())["share"] == 0
    run = ds.fit(cured, recipe(lr=1e-2, epochs=8), folder=False, progress=False)
    assert run.summary["valid_metric"] > 0.85


def test_examples_that_are_cut_up_in_the_code_are_blamed_where_nothing_is_learnt() -> None:
    def turn(x: Tensor) -> Tensor:
        return x.reshape(-1, 2, 6, 5).flip(2).permute(0, 2, 1, 3).reshape(x.shape) if len(x) % 2 == 0 else x

    task = problem(sequences(), lambda: Own(turn, lambda: Sequence("LSTM")), "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(lr=1e-2, epochs=8))
    own = found(result, NAME)
    assert own is not None
    assert own.severity in ("warning", "critical")
    assert isinstance(own.remedies[0], Advice)


MEANT_HERE: dict[str, Any] = {
    "the mean of the batch taken off": lambda: Own(lambda x: x - x.mean(0), lambda: Sequence("LSTM")),
    "batch norm": lambda: Sequence("GRU", norm=True),
    "batch statistics in eval mode": lambda: Own(
        lambda x: functional.batch_norm(x, None, None, training=True), lambda: Sequence("GRU")),
    "transposed and back": lambda: Own(lambda x: x.transpose(0, 1).transpose(0, 1), lambda: Sequence("GRU")),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANT_HERE)
def test_a_mix_that_costs_little_is_no_warning(name: str) -> None:
    task = problem(sequences(), MEANT_HERE[name], "cross_entropy", "accuracy")
    result = diagnosed(task, recipe(lr=1e-2, epochs=8))
    own = found(result, NAME)
    assert own is None or own.severity == "info"
    assert result.root is None or result.root.symptom != NAME


def test_weights_over_the_examples_are_put_right_by_the_other_axis() -> None:
    task = problem(sequences(), lambda: Weighs(0), "cross_entropy", "accuracy")
    assert measured.measure(task, recipe())["by"] == "softmax"
    assert measured.measure(task.edit(OverClasses()), recipe())["share"] == 0


# -- as a function of what is recorded -----------------------------------------------------------------------


def mixed(**changes: Any) -> dict[str, Any]:
    return {"share": 0.3, "rows": 32, "by": "batch_first", "where": "reads", "function": "LSTM",
            "sizes": [[32, 6, 16]], "single": False, "whole": False, "left": 0.0,
            "edits": [{"kind": "batch-first", "modules": ["reads"], "first": True}]} | changes  # fmt: skip


def watched(run: Run) -> Run:
    run.problem = run.recipe = None
    return run


def test_what_is_not_certain_is_only_told_of() -> None:
    sizes = [[32, 6, 16], [6, 32, 16]]
    for changes in (
        {"single": True}, {"by": "other", "edits": []}, {"by": "view", "edits": [], "sizes": sizes},
        {"function": "MultiheadAttention", "whole": True}, {"function": "MultiheadAttention", "edits": []},
    ):  # fmt: skip
        verdict = mixed_examples(watched(runs.run(mixed=mixed(**changes))))
        assert verdict.severity == "info"  # type: ignore[union-attr]
        assert "meant" in verdict.message  # type: ignore[union-attr]
    assert mixed_examples(watched(runs.run(mixed=mixed()))).severity == "critical"  # type: ignore[union-attr]


def test_a_run_that_does_well_is_clear_and_one_that_left_the_numbers_is_not_blamed_on_it() -> None:
    assert isinstance(mixed_examples(watched(runs.learnt(mixed=mixed()))), Clear)
    lost = watched(runs.run(mixed=mixed(), nonfinite={"step": 9, "what": "loss", "module": None}))
    assert mixed_examples(lost).severity == "info"  # type: ignore[union-attr]


def test_a_trial_that_wins_nothing_clears_it() -> None:
    trial = {"share": 0.05, "valid_share": None, "edit": "batch_first=True", "steps": 200, "full": True}
    verdict = mixed_examples(runs.run(mixed=mixed(), trials={NAME: trial}))
    assert isinstance(verdict, Clear)
    assert "recovers 5%" in verdict.evidence
