"""A journal as tests begin it, and as plain Optuna opens it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from downslope.core import space
from downslope.tuning.storage import Storage, open_storage
from downslope.tuning.trials import Trials

SPACE = {"lr": space.log(1e-5, 1e-1), "optimizer": space.choice("sgd", "adam")}
RANDOM = optuna.samplers.RandomSampler(seed=0)


def points(n: int) -> list[dict[str, Any]]:
    return [{"lr": 1e-4 * (i + 1), "optimizer": "adam"} for i in range(n)]


def search(storage: Storage) -> Trials:
    return Trials(storage, SPACE, signature={})


@contextlib.contextmanager
def begun(folder: Path, n: int = 3) -> Iterator[Trials]:
    """A search of which the first trial is done and the others run."""
    with open_storage(folder, wait=0.2) as storage:
        trials = search(storage)
        batch = trials.begin(points(n))
        trials.done(batch[0], 0.5, seconds=1.0)
        yield trials


def plain(folder: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    return optuna.load_study(
        study_name="tune", storage=optuna.storages.JournalStorage(backend), sampler=RANDOM
    )
