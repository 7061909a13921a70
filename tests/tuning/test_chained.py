"""A search that goes on from another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from downslope.core.edits import SetArgument, load
from downslope.core.errors import RunFolderError, SpaceError, StorageError
from downslope.core.space import integer, log, parse, settled
from downslope.reporting.search_rows import next_rows
from downslope.tuning.plan import planned
from downslope.tuning.tune import check_place, tune
from tests.tuning.searches import LR, problem, sgd
from tests.tuning.test_small_budgets import ASKED

HOW = {"folder": False, "progress": False}


def test_a_file_holds_one_edit_of_an_argument_the_last(tmp_path):
    space = LR | {"model.width": integer(2, 5)}
    found = tune(problem(), sgd(epochs=2), space, trials=3, confirm=0, **HOW)
    path = found.save(tmp_path / "best.toml", [SetArgument("width", 124), SetArgument("bias", True)])
    _, edits = load(path)
    assert edits == (SetArgument("bias", True), SetArgument("width", found.best.values["model.width"]))


def test_the_next_search_is_confirmed_with_seeds_that_this_one_has_not_seen():
    found = tune(problem(), sgd(epochs=3), LR, trials=12, confirm=1, fresh=2, **HOW)
    rows = [row.text for row in next_rows(found, "task.py", Path("best.toml"), None)]
    assert found.best.seeds == (5, 6)
    assert any("--recipe best.toml --set seed=7 --lr" in row for row in rows)


def test_a_seed_that_gives_something_else_than_fresh_ones_is_told(tmp_path):
    found = tune(problem(), sgd(epochs=3), LR, trials=6, confirm=1, fresh=2, **HOW)
    sure = found.confirmed[0]
    fresh = (sure.seen + 1, sure.seen + 1.001)
    told = replace(found, confirmed=(replace(sure, fresh=fresh),))
    line = f"4, which the recipe keeps, gives {sure.seen:.4g} again: luckier than fresh ones"
    assert dict(told.told())["seed"] == line
    assert f"# seed: {line}" in told.save(tmp_path / "best.toml").read_text()


def test_a_setting_of_an_init_that_is_not_there_says_how_it_would_be():
    with pytest.raises(SpaceError, match=r"'init.scale' needs an init that has it.*set init=he"):
        settled(problem(), sgd(), {"init.scale": log(0.1, 3)})
    assert settled(problem(), sgd().edit(init="he"), {"init.scale": log(0.1, 3)})


def test_a_condition_is_spelt_on_the_command_line():
    space = {
        "optimizer": parse("choice:sgd,momentum"),
        "weight_decay": parse("log:1e-6:1e-1 when optimizer=sgd"),
    }
    found = settled(problem(), sgd(), space)
    assert found["weight_decay"].text() == "log:1e-06:0.1 when optimizer=sgd"
    assert parse(found["weight_decay"].text()) == found["weight_decay"]


def test_a_place_of_another_search_is_refused_beforehand(tmp_path):
    tune(problem(), sgd(epochs=1), LR, trials=1, confirm=0, folder=tmp_path / "one", progress=False)
    plan = planned(problem(), sgd(epochs=1), LR, **ASKED)
    with pytest.raises(RunFolderError, match="another --folder begins one"):
        check_place(plan, tmp_path / "one", None)
    other = planned(problem(), sgd(epochs=2), LR, **ASKED)
    with pytest.raises(StorageError, match="holds another search"):
        check_place(other, None, tmp_path / "one")
    check_place(plan, tmp_path / "new", tmp_path / "none" / "journal.log")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "none").exists()
