"""What a search was begun with, so that it is told when its task or its data are others by now."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from downslope.core import batches
from downslope.core.fixed_sample import sample
from downslope.core.sources import Memory

if TYPE_CHECKING:
    from downslope.core.problem import Problem
    from downslope.tuning.trials import Trials

_log = logging.getLogger("downslope")

KEY = "marks"
"""What the storage notes of it."""

ROWS = 256
"""Examples of each part that are looked at."""

_TOLD = {"train": "the training data", "valid": "the validation data"}


def told_if_changed(trials: Trials, problem: Problem) -> None:
    """Warn of what is not as it was when the search began, here or in another process.

    The file of the task, and a sample of the data that lie in memory. A stream is not looked at: it may give
    other examples at every call.
    """
    now = _marks(problem)
    with trials.batch():
        then = cast("Mapping[str, str] | None", trials.noted(KEY))
        if then is None:
            trials.note(KEY, now)
            return
    for key, mark in now.items():
        if then.get(key, mark) != mark:
            what = _TOLD.get(key) or f"{problem.task}"
            verb = "are" if key in _TOLD else "is"
            _log.warning(
                "tune: %s %s not what this search began with: its trials may not compare", what, verb
            )


def _marks(problem: Problem) -> dict[str, str]:
    found: dict[str, str] = {}
    if problem.task and (file := Path(problem.task)).is_file():
        found["task"] = _hash(file.read_bytes())
    for key, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        if isinstance(source, Memory):
            found[key] = _of_batch(sample(source, ROWS, None))
    return found


def _of_batch(batch: Any) -> str:
    parts: list[bytes] = []
    for each in batches.tensors(batch):
        if each.layout is torch.strided:
            plain = each.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
            parts += [f"{each.dtype} {tuple(each.shape)}".encode(), plain.tobytes()]
    return _hash(b"".join(parts))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
