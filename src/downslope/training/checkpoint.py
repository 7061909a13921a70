"""Resume state: weights, optimizer state, place in the data, stopping rule. Tensors and plain values only."""

from __future__ import annotations

import json
import logging
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.errors import RunFolderError
from downslope.core.history import History
from downslope.core.method import optimizer_defaults
from downslope.core.plain import plain
from downslope.core.recipe import Lost, Recipe
from downslope.core.run import Run
from downslope.core.spelling import is_code
from downslope.core.stated import without_module
from downslope.core.weights import load_tensors, save_tensors

_log = logging.getLogger("downslope")

NAME = "resume.safetensors"

RESUMED_BEST = "best-before.safetensors"
"""Best weights as they stood before an interrupted run was measured once more; a resumed run takes them."""

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 30.0
"""When the resume state goes to disk for the first time, and the longest that is waited from then on."""

SHARE = 0.02
"""Share of the time that writing may take: a model that takes seconds to write is written less often."""


class SaveTimes:
    """When a run that goes on writes its resume state: early, then at twice the time, then every half minute.

    So a kill loses at most as much as was there before it, and never more than `LONGEST_SECONDS` of a model
    that is written quickly. At its end a run is always written.
    """

    def __init__(self) -> None:
        self._wait, self._saved = FIRST_SECONDS, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._saved > self._wait

    def saved(self, seconds: float) -> None:
        """Take note that the state was written just now, which took `seconds`."""
        self._wait = max(min(2 * self._wait, LONGEST_SECONDS), seconds / SHARE)
        self._saved = time.monotonic()


def save_resume(
    folder: Path,
    models: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    place: Mapping[str, Any],
) -> None:
    """Write everything that a resumed run needs to go on as if it had never stopped.

    Randomness needs no entry: every draw has an address (`downslope.core.randomness`).

    Args:
        folder: The run's folder.
        models: Name to model: the one in training, and the averaged one if there is one.
        optimizer: Its state by parameter, and its groups.
        place: Plain values: step, epoch, position, stopping rule.

    Raises:
        RunFolderError: the file cannot be written; the former one stays.
    """
    tensors: dict[str, Any] = {}
    for name, model in models.items():
        tensors |= {f"{name}/{key}": value for key, value in model.state_dict().items()}
    saved = optimizer.state_dict()
    plain_state: dict[str, dict[str, Any]] = {}
    for index, entries in cast("dict[int, dict[str, Any]]", saved["state"]).items():
        for key, value in entries.items():
            plain_state.setdefault(str(index), {})[key] = _parted(value, f"optimizer/{index}/{key}", tensors)
    notes = {"place": dict(place), "state": plain_state, "groups": saved["param_groups"]}
    notes |= {key: saved[key] for key in WHOSE if key in saved}
    try:
        json.dumps(notes)
    except TypeError as error:  # its weights are kept all the same
        _log.warning(
            "%s cannot be resumed: its state holds what no file can (%s)", type(optimizer).__name__, error
        )
        return
    save_tensors(folder / "checkpoints" / NAME, tensors, notes)


WHOSE = ("optimizer",)
"""Of an optimizer's state_dict: whose it is, where it tells (`downslope.optim.saved`)."""

TENSOR = "tensor"
"""Key of a plain mapping that stands for a tensor of the file, with the tensor's name."""


def _parted(value: Any, name: str, tensors: dict[str, Any]) -> Any:
    """`value` as plain values, its tensors put into `tensors` under names that begin with `name`.

    Some rules keep lists of tensors: L-BFGS its former steps and gradients.
    """
    if isinstance(value, Tensor):
        tensors[name] = value
        return {TENSOR: name}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        return [_parted(each, f"{name}/{i}", tensors) for i, each in enumerate(items)]
    return value


def _joined(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `_parted` took apart."""
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        # A copy lies in memory as torch aligns it: sums over it then have the same order, and the same bits.
        return tensors[mapping[TENSOR]].clone() if TENSOR in mapping else mapping
    if isinstance(value, list):
        return [_joined(each, tensors) for each in cast("list[Any]", value)]
    return value


def is_kept(folder: Path) -> bool:
    """Whether the run in `folder` kept a state that it can go on from."""
    return (folder / "checkpoints" / NAME).exists()


def check_resume(folder: Path, history: History) -> None:
    """Refuse, before anything is written, to go on from a resume state broken or ahead of the history.

    Raises:
        RunFolderError: which of the two, and what to do.
    """
    path = folder / "checkpoints" / NAME
    if not path.exists():
        return
    try:
        step = int(load_tensors(path)[1]["place"]["step"])
    except RunFolderError as error:
        raise RunFolderError(
            f"{error}; its weights may still be good: load_run(folder).model('last')"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"{path} is no resume state: {error!r}; start anew with fit") from None
    steps = history.series("train_loss").steps
    if len(steps) < step or (step and steps[step - 1] != step):
        raise RunFolderError(
            f"{folder / 'history.jsonl'} ends before step {step} of the resume state, or has gaps: "
            "start anew with fit"
        )


LONGER = ("epochs", "steps", "patience", "device", "backend", "groups")
"""What may be another when a run goes on: its length, where and by what it runs, and groups, which become
data in it."""


def check_same(former: Run, recipe: Recipe, described: Mapping[str, Any]) -> None:
    """Refuse to go on with a run as if it had been another: two recipes, or two losses, in one history.

    Raises:
        RunFolderError: naming what differs, there and here.
    """
    differs = [] if former.recipe is None else _differences(former.recipe, recipe)
    for key in ("objective", "metric", "train", "valid", "augment", "constraint"):
        old, new = former.described.get(key), plain(described.get(key))
        code = is_code(old) or is_code(new)
        named = key in ("augment", "constraint") or not code  # of these the text tells all there is
        if key in former.described and named and old != new:
            old, new = (without_module(str(each)) for each in (old, new))
            differs.append(f"{key} {old} there and {new} here")
    there, here = (each.get("weights") or {} for each in (former.described, described))
    if there.get("fingerprint") != here.get("fingerprint"):
        differs.append(f"weights {there.get('source')} there and {here.get('source')} here")
    if differs:
        raise RunFolderError(
            f"{former.folder} holds another run ({'; '.join(differs)}): resume it as it was, or give another "
            "folder"
        )


def _differences(there: Recipe, here: Recipe) -> list[str]:
    """What two recipes say otherwise of a run's path, settings of the optimizer too; code is not compared."""
    former, now = there.plain_fields(), here.plain_fields()
    if former.get("optimizer") == now.get("optimizer"):
        said = [*there.settings, *(key for key in here.settings if key not in there.settings)]
        usual = optimizer_defaults(here.optimizer) if said else {}
        former |= {key: there.settings.get(key, usual.get(key)) for key in said}
        now |= {key: here.settings.get(key, usual.get(key)) for key in said}
    keys = [key for key in {**now, **former} if key not in LONGER]
    pairs = [(key, former.get(key), now.get(key)) for key in keys]
    return [
        f"{key} {old!r} there and {new!r} here"
        for key, old, new in pairs
        if not (isinstance(old, Lost) or callable(old) or callable(new)) and plain(old) != plain(new)
    ]


def load_resume(
    folder: Path, models: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Put models and optimizer back to where `save_resume` left them; gives the place, None if never saved.

    Raises:
        RunFolderError: the file is broken or belongs to another model or optimizer.
    """
    path = folder / "checkpoints" / NAME
    if not path.exists():
        _log.warning("%s: no step of it was kept, so the run starts again at step 0", folder)
        return None
    tensors, notes = load_tensors(path)
    state = {
        int(i): {key: _joined(value, tensors) for key, value in entries.items()}
        for i, entries in notes["state"].items()
    }
    own = optimizer.state_dict()["param_groups"]
    groups = [_typed_like(new, old) for new, old in zip(notes["groups"], own, strict=False)]
    try:
        for name, model in models.items():
            prefix = f"{name}/"
            model.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        whose = {key: notes[key] for key in WHOSE if key in notes}
        optimizer.load_state_dict({"state": state, "param_groups": groups, **whose})
    except (RuntimeError, ValueError, KeyError) as error:
        raise RunFolderError(f"{path} belongs to another model or optimizer: {_one_line(error)}") from error
    return notes["place"]


def _typed_like(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """A group read from a file, lists made tuples again where the optimizer has tuples."""
    tuples = {key for key, value in old.items() if isinstance(value, tuple)}
    return {key: tuple(value) if key in tuples else value for key, value in new.items()}


def _one_line(error: BaseException) -> str:
    return textwrap.shorten(str(error), 300, placeholder=" ...") or type(error).__name__
