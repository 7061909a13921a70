"""What a race is asked for: every wrong word in one line, before a step is taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope.core.errors import DownslopeError, InputError, UnknownNameError
from downslope.racing import course
from downslope.racing.race import race

OWN = """
import torch
class Signs(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad.sign())
"""


def problem(**changes: Any) -> ds.Problem:
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0)).double()
    y = (x[:, 0] > 0).long()
    own: dict[str, Any] = {
        "model": lambda: torch.nn.Linear(3, 2).double(), "objective": "cross_entropy",
        "train": (x[:16], y[:16]), "valid": (x[16:], y[16:]), "metric": "accuracy", "name": "line",
    }  # fmt: skip
    return ds.Problem(**own | changes)


SHORT: dict[str, Any] = {
    "recipe": ds.Recipe(batch_size=8, epochs=2), "seeds": 2, "trials": 2, "progress": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trial": 3}, "trial=3: a race has no such argument; did you mean 'trials'"),
        ({"on_evaluation": 1}, "a race has no such argument; known: alpha"),
        ({"workers": 0}, "workers=0"),
        ({"way": "fast"}, "way='fast': must be one of 'auto'"),
        ({"target": 97}, "target=97: accuracy lies between 0 and 1"),
        ({"target": {"lin": 0.5}}, "target is given for 'lin', on which nobody races; did you mean 'line'"),
        ({"recipe": {"lin": ds.Recipe()}}, "recipe is given for 'lin'"),
        ({"recipe": {}}, "recipe says nothing for 'line'"),
        ({"space": 3}, "space=3: must be a dict"),
        ({"space": {}}, "space={}: must be a dict"),
        ({"space": {"adm": {"lr": ds.log(1e-3, 1)}}}, "space has one for 'adm', who does not race; did you"),
        ({"alpha": "5 %"}, "alpha='5 %': must lie in"),
        ({"fraction": None}, "fraction=None: must lie in"),
        ({"seconds": math.nan}, "seconds=nan"),
        ({"folder": 3}, "folder=3: must be a path"),
    ],
)
def test_what_a_race_cannot_be_asked_for_is_told_before_a_step_is_taken(
    options: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "first_look", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(DownslopeError) as error:
        race(problem(), ["sgd", "adam"], **SHORT | options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_contestant_without_a_name_is_refused() -> None:
    with pytest.raises(InputError, match="a contestant without a name"):
        race(problem(), {" ": "sgd", "b": "adam"}, **SHORT)


def test_an_unknown_name_tells_where_torchs_own_works() -> None:
    with pytest.raises(UnknownNameError, match=r"torch's own is 'torch\.optim:ASGD'"):
        race(problem(), ["sgd", "asgd"], **SHORT)


def test_no_limit_may_be_said_as_infinite() -> None:
    assert race(problem(), ["sgd", "adam"], **SHORT | {"seconds": math.inf}).trials == 2


def test_where_one_alone_can_be_trained_nothing_is_raced() -> None:
    with pytest.raises(InputError, match=r"only sgd can be trained, and a race needs two: .*2D"):
        race(problem(), ["sgd", "torch.optim:Muon"], **SHORT)


def test_an_optimizer_of_ones_own_races_out_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    found = race(problem(), ["sgd", f"{tmp_path}/mine.py:Signs"], **SHORT)
    assert found.racing == ["sgd", "Signs"]
    assert found.entry("Signs").recipe.optimizer == f"{tmp_path}/mine.py:Signs"
    alone = ds.fit(problem(), found.entry("Signs").recipe.edit(seed=1), folder=False, progress=False)
    assert alone.summary["valid_metric"] == found.entry("Signs").raced[0].level


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = (", "SyntaxError"),
    ],
)
def test_a_file_without_that_optimizer_is_told_in_one_line(
    text: str | None, said: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "broken.py").write_text(text)
    with pytest.raises(UnknownNameError, match=said) as error:
        race(problem(), ["sgd", f"{tmp_path}/broken.py:Signs"], **SHORT)
    assert "\n" not in str(error.value)


def test_one_broken_problem_is_left_out_and_the_others_are_raced_on() -> None:
    bad = torch.full((16, 3), math.nan).double(), torch.zeros(16).long()
    found = race({"line": problem(), "broken": problem(train=bad)}, ["sgd", "adam"], **SHORT)
    assert found.problems == ["line"]
    assert found.seeds == 2
    assert any(note.startswith("broken is left out: nobody can be trained on it: ") for note in found.notes)


def test_a_metric_that_fails_leaves_its_problem_out() -> None:
    def failing(output: torch.Tensor, target: torch.Tensor) -> float:
        raise ValueError("no such thing")

    found = race({"line": problem(), "broken": problem(metric=failing)}, ["sgd", "adam"], **SHORT)
    assert found.problems == ["line"]
    assert any("broken is left out" in note and "no such thing" in note for note in found.notes)


def test_a_target_that_nobody_gets_to_or_that_all_start_at_is_told() -> None:
    loss = problem(metric=None)
    never = race(loss, ["sgd", "adam"], **SHORT | {"target": -1.0})
    assert any("nobody got to the target -1 of line" in note for note in never.notes)
    at_once = race(loss, ["sgd", "adam"], **SHORT | {"target": 50.0, "by": "steps"})
    assert any("the target 50 of line is reached before the first step" in note for note in at_once.notes)
    assert at_once.winner is None


def test_a_reference_that_never_got_better_gives_no_target() -> None:
    """An accuracy of its start would be reached by all before the first step."""
    slow = ds.Recipe(optimizer="sgd", lr=1e-12, batch_size=8, epochs=2)
    options = SHORT | {"trials": 0, "by": "steps", "recipe": None}
    found = race(problem(), {"a": slow, "b": slow.edit(lr=2e-12)}, **options)
    assert math.isnan(found.entry("a").target.level)
    assert "never got better than its start" in found.table()
    assert any("no steps to compare" in note for note in found.notes)


def test_where_all_diverge_nobody_wins_and_it_is_told() -> None:
    wild = ds.Recipe(optimizer="sgd", lr=1.7e308, batch_size=8, epochs=2)
    options = SHORT | {"trials": 3, "recipe": None, "space": {"lr": ds.log(1.6e308, 1.7e308)}}
    found = race(problem(metric=None), {"a": wild, "b": wild.edit(lr=1.6e308)}, **options)
    assert found.winner is None
    assert any("a was lost on 2 of 2 seeds of line: diverged" in note for note in found.notes)
    assert found.ranking().same == 0.5  # which of the two is left open
    assert "nan" not in found.table().lower()
