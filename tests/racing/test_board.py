"""The leaderboard: what was measured comes back, others can add, mixed protocols cannot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import InputError
from downslope.racing.board import Board, add
from downslope.racing.profile import profile
from downslope.racing.race import race


def _problem() -> ds.Problem:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(48, 3)))
    y = (x[:, 0] > x[:, 1]).long()
    return ds.Problem(
        model=lambda: torch.nn.Linear(3, 2).double(), objective="cross_entropy", train=(x[:32], y[:32]),
        valid=(x[32:], y[32:]), name="line",
    )  # fmt: skip


def _race(contestants: Any, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "seeds": 3, "trials": 2, "target": 0.6, "early": False, "progress": False,
        "recipe": ds.Recipe(batch_size=8, epochs=3),
    }  # fmt: skip
    return race(_problem(), contestants, **options | changes)


WILD = ds.Recipe(optimizer="sgd", lr=1.7e308, batch_size=8, epochs=3)


def test_a_board_is_read_back_as_it_was_written_diverged_seeds_too(tmp_path: Path) -> None:
    found = _race({"wild": WILD, "adam": "adam"}, trials=0)
    board = add(tmp_path / "deep" / "board.toml", found, by="me")
    again = Board.load(tmp_path / "deep" / "board.toml")
    assert again.protocol == board.protocol
    assert again.problems == board.problems
    assert any(map(math.isnan, again.rows[0]["levels"]))
    np.testing.assert_array_equal(again.rows[0]["levels"], found.entry("wild").levels)
    assert again.rows[1]["levels"] == found.entry("adam").levels
    assert again.rows[1]["by"] == "me"
    assert again.table() == board.table()
    assert again.rows[1]["tuning_steps"] == 0


def test_others_add_their_races_and_places_are_computed_anew(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    first, second = _race(["sgd", "adam"]), _race(["rmsprop", "momentum"])
    add(path, first)
    board = add(path, second)
    assert {row["contestant"] for row in board.rows} == {"sgd", "adam", "rmsprop", "momentum"}
    steps = [race.entry(name).steps_to_target for race in (first, second) for name in race.contestants]
    by_hand = profile(["sgd", "adam", "rmsprop", "momentum"], np.transpose(steps)).score()
    assert board.score() == pytest.approx(by_hand)
    assert board.contestants[0] == max(by_hand, key=lambda name: (by_hand[name], [-ord(c) for c in name]))
    assert board.targets == {"line": 0.6}
    row = next(row for row in board.rows if row["contestant"] == "rmsprop")
    assert row["tuning_runs"] == 2
    assert ds.Recipe(**row["recipe"]).optimizer == "rmsprop"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 4}, "seeds is 3 here and 4 there"),
        ({"trials": 3}, "trials is 2 here and 3 there"),
        ({"target": 0.5}, "target of line is 0.6 here and 0.5 there"),
    ],
)
def test_a_mixed_protocol_is_refused_and_the_file_stays(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "board.toml"
    add(path, _race(["sgd", "adam"]))
    before = path.read_text()
    with pytest.raises(InputError, match=said):
        add(path, _race(["rmsprop", "momentum"], **changes))
    assert path.read_text() == before


def test_the_same_race_twice_changes_nothing_and_another_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    found = _race(["sgd", "adam"])
    add(path, found)
    again = add(path, found)
    assert len(again.rows) == 2
    assert "nothing is added: on it already, with the same levels: sgd, adam" in again.table()
    with pytest.raises(InputError, match="'sgd' is on the board of line already"):
        add(path, _race({"sgd": "momentum", "adam": "rmsprop"}))


def test_a_reference_raced_again_elsewhere_stays_as_it_was_and_the_new_one_is_added(tmp_path: Path) -> None:
    """Another machine rounds otherwise: who races against `sgd` there must not lose the race for that."""
    path = tmp_path / "board.toml"
    first = add(path, _race(["sgd", "adam"]))
    board = add(path, _race({"sgd": "momentum", "rmsprop": "rmsprop"}))
    assert [row["contestant"] for row in board.rows] == ["sgd", "adam", "rmsprop"]
    assert board.rows[0]["levels"] == first.rows[0]["levels"]
    assert "which stay: sgd" in board.table()


def test_a_board_of_before_a_rule_agrees_with_races_that_do_without_it(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    add(path, _race(["sgd", "adam"]))
    path.write_text(path.read_text().replace("widen = false\n", ""))
    add(path, _race(["rmsprop", "momentum"]))
    with pytest.raises(InputError, match="widen is False here and True there"):
        add(path, _race(["nesterov", "adagrad"], widen=True))


def test_a_race_that_stopped_early_is_not_for_a_board() -> None:
    found = _race({"wild": WILD, "adam": "adam"}, trials=0, early=True, seeds=20)
    assert found.seeds < 20
    with pytest.raises(InputError, match="early=False"):
        Board.of(found)


def test_one_who_was_not_on_a_problem_did_not_reach_its_target() -> None:
    found = Board.of(_race(["sgd", "adam"]))
    found.problems["other"] = {"measure": "valid_loss", "name": "loss", "up": False, "target": 1.0}
    found.rows.append(found.rows[0] | {"problem": "other", "steps_to_target": [4.0, 4.0, 4.0]})
    assert found.profile().ratios[1].tolist() == [1.0, math.inf]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format = 1\n[[entry]]\ncontestant = 'a'\n", "entry 1 has no problem"),
        ("format = 9\n", "format 9"),
        ("nothing at all", "is no board"),
        ("format = 1\n[[entry]]\ncontestant='a'\nproblem='p'\nlevels=[1.0]\n", "does not describe"),
    ],
)
def test_a_file_that_is_no_board_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "board.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        Board.load(tmp_path / "board.toml")


def test_on_one_problem_a_board_scores_the_seeds_as_its_race_does() -> None:
    """Half of the seeds do not arrive: medians would leave everybody at zero."""
    found = _race(["sgd", "adam"], seeds=4)
    board = Board.of(found)
    assert board.score() == pytest.approx(found.score_in("steps"))
    assert board.score("seconds") == pytest.approx(found.score_in("seconds"))
    for row, steps in zip(
        board.rows, ([4.0, math.inf, math.inf, 8.0], [math.inf, 4.0, math.inf, 4.0]), strict=True
    ):
        row["steps_to_target"] = steps
    assert board.score() == pytest.approx({"sgd": (1 + 2 / 3) / 4, "adam": 2 / 4})
    assert "scores are over the seeds of line, the one problem" in board.table()
    board.problems["other"] = board.problems["line"]
    board.rows += [row | {"problem": "other"} for row in board.rows]
    assert board.score() == {"sgd": 0.0, "adam": 0.0}
    assert "scores are over the median times on 2 problems" in board.table()


def test_seconds_of_several_machines_are_not_compared() -> None:
    board = Board.of(_race(["sgd", "adam"]))
    board.rows[0]["machine"] = "another"
    assert "cannot be compared" in board.table()


def test_a_board_says_before_a_race_which_targets_it_wants_and_refuses_another_measure(
    tmp_path: Path,
) -> None:
    board = add(tmp_path / "board.toml", _race(["sgd", "adam"]))
    assert board.targets_for({"line": _problem()}) == {"line": 0.6}
    assert board.targets_for({"line": _problem(), "other": _problem()}, {"other": 0.5}) == {
        "line": 0.6,
        "other": 0.5,
    }
    with pytest.raises(InputError, match=r"target of line is 0\.6 here and 0\.7 there"):
        board.targets_for({"line": _problem()}, 0.7)
    with pytest.raises(InputError, match="measure of line is valid_loss here and valid_metric there"):
        board.targets_for({"line": _problem().edit(metric="accuracy")})
