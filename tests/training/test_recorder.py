"""Many steps recorded at once are what they are one by one, in memory and in the folder."""

from __future__ import annotations

from pathlib import Path

import downslope as ds
from downslope.core.run import Run
from downslope.training.recorder import Recorder
from tests.training.problems import same_history


def recorded(folder: Path, *, at_once: bool) -> Run:
    run = Run(recipe=ds.Recipe(), folder=folder, status="done", weights={}, summary={"steps": 5})
    recorder = Recorder(run)
    recorder.now(0, valid_loss=3.0, valid_step=0.0)
    recorder.step(1, train_loss=2.0, lr=0.1)
    values = {"train_loss": [1.5, 1.25, float("nan")], "lr": [0.1, 0.05, 0.025]}
    if at_once:
        recorder.rows([2, 3, 4], values)
    else:
        for place, step in enumerate((2, 3, 4)):
            recorder.step(step, **{name: column[place] for name, column in values.items()})
    recorder.now(4, valid_loss=1.0)
    recorder.close()
    return run


def test_rows_at_once_are_the_rows_of_the_steps(tmp_path: Path) -> None:
    one, many = (recorded(tmp_path / str(at_once), at_once=at_once) for at_once in (False, True))
    assert same_history(one, many)
    assert same_history(ds.load_run(tmp_path / "True"), many)
