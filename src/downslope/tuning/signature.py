"""Whether what is kept under a name is this search or another one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from downslope.core.errors import StorageError
from downslope.core.plain import plain

if TYPE_CHECKING:
    from downslope.core.space import Space
    from downslope.tuning.storage import Storage

KEY = "search"
"""The attribute of Optuna's study that holds the signature."""


def signed(storage: Storage, name: str, direction: str, space: Space, signature: Mapping[str, Any]) -> int:
    """Optuna's number of the study `name`, made and signed if there is none; within `Storage.batch`.

    Optuna itself opens any study under a name, of another direction too, and says nothing.

    Raises:
        StorageError: the study is of another search: what differs first is told.
    """
    given = plain({**signature, "direction": direction, "space": {k: d.text() for k, d in space.items()}})
    study = _found(storage, name, direction)
    kept = storage.optuna.get_study_user_attrs(study).get(KEY)
    if kept is None and not storage.optuna.get_n_trials(study):
        storage.optuna.set_study_user_attr(study, KEY, given)
        return study
    if kept is None:
        raise StorageError(
            f"{storage.place} holds a study {name!r} that was not made by Downslope: give another folder "
            "or storage"
        )
    for key in (*given, *(each for each in kept if each not in given)):
        if given.get(key) != kept.get(key):
            was, now = _difference(kept.get(key), given.get(key))
            raise StorageError(
                f"{storage.place} holds another search: its {key} is {was}, here it is {now}; give another "
                "folder or storage, or resume that one as it was"
            )
    return study


def _found(storage: Storage, name: str, direction: str) -> int:
    from optuna import logging
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    made = storage.optuna
    try:
        return made.get_study_id_from_name(name)
    except KeyError:
        pass
    level = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)  # it tells of every new study otherwise
    try:
        return made.create_new_study([StudyDirection[direction.upper()]], name)
    except DuplicatedStudyError:  # somebody was quicker
        return made.get_study_id_from_name(name)
    finally:
        logging.set_verbosity(level)


def _difference(was: Any, now: Any) -> tuple[str, str]:
    """The two as text; of two tables only what differs."""
    if isinstance(was, dict) and isinstance(now, dict):
        old, new = cast("dict[str, Any]", was), cast("dict[str, Any]", now)
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        return _told(old, keys), _told(new, keys)
    return f"{was}", f"{now}"


def _told(table: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key} {table.get(key, 'absent')}" for key in keys)
