"""A search that is looked at by somebody who takes no part in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from downslope.core.errors import StorageError
from downslope.tuning.distributions import reader
from downslope.tuning.storage import look
from downslope.tuning.trial import Trial, trial_of

if TYPE_CHECKING:
    from downslope.core.space import Space


def read_trials(place: str | Path, space: Space, *, name: str = "tune") -> list[Trial]:
    """The trials of a search, without taking part in it: nothing is written.

    Args:
        place: As in `open_storage`.
        space: What was searched.
        name: Of the search within its storage.

    Raises:
        StorageError: there is no such search.
    """
    storage = look(place)
    try:
        with storage.telling():
            try:
                study = storage.optuna.get_study_id_from_name(name)
            except KeyError:
                raise StorageError(
                    f"{storage.place} holds no search {name!r}: give another folder or storage"
                ) from None
            found = storage.optuna.get_all_trials(study, deepcopy=False)
    finally:
        storage.close()
    values = reader(space)
    return [trial_of(values, each) for each in found]
