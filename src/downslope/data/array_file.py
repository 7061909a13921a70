"""Arrays in a file: NumPy's .npz and torch's .pt, read without ever running a pickle."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.names import did_you_mean
from downslope.core.sources import Origin
from downslope.data import target as targets
from downslope.data.split import Parts, parts
from downslope.data.table import Loaded, Pair

WHOLE = (("x", "y"), ("data", "target"), ("inputs", "targets"), ("features", "labels"), ("images", "labels"))
TRAIN = (("train_x", "train_y"), ("x_train", "y_train"))
VALID = (
    ("valid_x", "valid_y"),
    ("x_valid", "y_valid"),
    ("val_x", "val_y"),
    ("x_val", "y_val"),
    ("test_x", "test_y"),
    ("x_test", "y_test"),
)


def load_npz(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from NumPy arrays; see `downslope.data.paths.load_path`."""
    return _loaded(_arrays_of_npz, path, target, seed, valid)


def load_pt(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Inputs and target from a dict or a pair of tensors; see `downslope.data.paths.load_path`."""
    return _loaded(_arrays_of_pt, path, target, seed, valid)


def _arrays_of_npz(path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as packed:
            _refuse_beyond(path, sum(each.file_size for each in packed.infolist()))
    except (OSError, zipfile.BadZipFile):
        pass  # told below
    try:
        # NumPy leaves a file open that it has opened and that is no archive.
        with path.open("rb") as file:
            archive: Any = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path.name} holds one array; save both with numpy.savez(path, X=X, y=y)")
            return {str(key): _tensor(archive[key], key, path) for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name}: {_unread(path, error)}") from error


def _unread(path: Path, error: Exception) -> str:
    """Why an archive of arrays cannot be read; NumPy's own words would send the reader to pickles."""
    if "Object arrays" in str(error):
        return (
            "refused, an array in it holds Python objects, which are pickles that reading would run; save "
            "numbers: array.astype('float32')"
        )
    if not zipfile.is_zipfile(path):
        empty = not path.stat().st_size
        what = "is empty" if empty else "is no archive of numpy.savez, or was cut short"
        return f"not a readable .npz file: it {what}; numpy.savez(path, X=X, y=y) makes one"
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"not a readable .npz file: {reason}"


def _arrays_of_pt(path: Path) -> dict[str, Tensor]:
    _refuse_beyond(path, path.stat().st_size)
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path.name}: refused, it would run code on loading; save plain tensors: "
            "torch.save({'X': X, 'y': y}, path)"
        ) from error
    except Exception as error:  # broken bytes make the unpickler raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path.name}: not a readable .pt file: {reason}") from error
    if type(held) in (tuple, list) and len(held) == 2:
        held = {"X": held[0], "y": held[1]}
    if not isinstance(held, Mapping):
        raise DataError(f"{path.name} holds {type(held).__name__}, not {{'X': tensor, 'y': tensor}}")
    items = cast("Mapping[Any, Any]", held).items()
    return {str(key): value for key, value in items if isinstance(value, Tensor)}


def _refuse_beyond(path: Path, size: int) -> None:
    """Refuse arrays that memory would not hold as they are read, as float32, and in two parts."""
    memory.refuse_beyond(path.name, 3 * size, "save a part of it, or give a Dataset that reads it in pieces")


def _tensor(array: Any, key: str, path: Path) -> Tensor:
    if array.dtype.kind not in "biuf":
        way = "; numpy.unique(y, return_inverse=True)[1] numbers texts" if array.dtype.kind in "US" else ""
        raise DataError(f"{path.name}: array {key!r} has dtype {array.dtype}; numbers are needed{way}")
    kind = {"b": np.bool_, "u": np.int64 if array.dtype.itemsize > 1 else np.uint8}.get(array.dtype.kind)
    return torch.from_numpy(np.ascontiguousarray(array if kind is None else array.astype(kind)))


def _loaded(
    read: Callable[[Path], dict[str, Tensor]],
    path: Path,
    target: str | None,
    seed: int,
    valid: float | Path,
) -> Loaded:
    arrays = read(path)
    found = _find(arrays, TRAIN, target) or _wanted(arrays, (WHOLE,), target, path)
    held_out = None if isinstance(valid, Path) else _find(arrays, VALID, None)
    told: list[str] = []
    train = _checked(arrays, *found, path, told)
    valids = [_checked(arrays, *held_out, path, told)] if held_out else []
    decided = _decide(torch.cat([train[1], *(pair[1] for pair in valids)]), found[1])
    told.append(decided.told)
    x, y = held_out or found
    file = path
    if isinstance(valid, Path):
        file = valid
        others = read(valid)
        x, y = _wanted(others, (VALID, WHOLE), target, valid)
        second = _second(_checked(others, x, y, valid, []), decided, path, train[0], f"{valid.name}: {y!r}")
        rows = (np.arange(len(pair[1])) for pair in (train, second))
        cut = Parts((train[0], decided.values), second, *rows)
    elif held_out:
        _refuse_unlike(f"{path.name}: {held_out[0]!r}", valids[0][0], repr(found[0]), train[0])
        first, rest = decided.values.split([len(train[1]), len(valids[0][1])])
        told.append(f"validation data are {held_out[0]!r} and {held_out[1]!r}")
        rows = (np.arange(len(pair[1])) for pair in (train, *valids))
        cut = Parts((train[0], first), (valids[0][0], rest), *rows)
    else:
        stratify = decided.task == "classification" and decided.values.ndim == 1
        cut = parts(train[0], decided.values, valid=valid, seed=seed, stratify=stratify)
    features = [str(i) for i in range(train[0][0].numel())] if train[0].ndim < 3 else []
    origins = (
        Origin(path.name, "row", cut.train_rows, inputs=found[0], target=found[1]),
        Origin(file.name, "row", cut.valid_rows, inputs=x, target=y),
    )
    reading = {"kind": "arrays", "inputs": found[0], "classes": decided.classes}
    return Loaded(
        cut.train,
        cut.valid,
        decided.task,
        features,
        decided.classes,
        found[1],
        told,
        origins,
        reading=reading,
    )


def inputs_of(path: Path, name: str) -> Tensor:
    """The inputs of an archive, those called `name`, or of the one array that it holds.

    Raises:
        DataError: neither, or unreadable.
    """
    arrays = (_arrays_of_pt if path.suffix.lower() in (".pt", ".pth") else _arrays_of_npz)(path)
    spelt = {key.lower(): key for key in arrays}
    wanted = [name.lower(), *(x for pairs in (VALID, WHOLE) for x, _ in pairs)]
    found = next((spelt[key] for key in wanted if key in spelt), None)
    if found is None and len(arrays) == 1:
        found = next(iter(arrays))
    if found is None:
        raise DataError(f"{path.name}: no array {name!r}{did_you_mean(name, arrays)}")
    return _as_inputs(arrays[found])


def _refuse_unlike(what: str, inputs: Tensor, first: str, train: Tensor) -> None:
    """Refuse validation examples of another shape than those of training.

    Raises:
        DataError: naming both.
    """
    if inputs.shape[1:] != train.shape[1:]:
        raise DataError(
            f"{what}: its examples have shape {tuple(inputs.shape[1:])}, those of {first} "
            f"{tuple(train.shape[1:])}; both need the same columns in the same order"
        )


def _second(pair: Pair, like: targets.Decided, first: Path, train: Tensor, what: str) -> Pair:
    """The pair of the validation file, its target coded as the training file's.

    Raises:
        DataError: examples of another shape, or a class that the training file does not hold.
    """
    inputs, labels = pair
    _refuse_unlike(what, inputs, first.name, train)

    def unseen(row: int) -> str:
        return (
            f"{what}, row {row} (counted from 0): class {labels[row].item():g} does not occur in "
            f"{first.name}, which holds {', '.join(like.classes[:10])}"
        )

    return inputs, targets.coded(labels.numpy(), like, unseen)


def _wanted(
    arrays: dict[str, Tensor],
    kinds: tuple[tuple[tuple[str, str], ...], ...],
    target: str | None,
    path: Path,
) -> tuple[str, str]:
    """The keys of the first pair that the file holds.

    Raises:
        DataError: it holds none.
    """
    for pairs in kinds:
        found = _find(arrays, pairs, target if pairs is not VALID else None)
        if found is not None:
            return found
    wanted = repr(target) if target is not None else "'X' and 'y'"
    hint = (
        did_you_mean(target, arrays)
        if target is not None
        else f"; it holds {', '.join(sorted(arrays)) or 'nothing'}"
    )
    raise DataError(
        f"{path.name}: no arrays {wanted} (or 'train_x', 'train_y' and 'valid_x', 'valid_y'){hint}"
    )


def _find(
    arrays: dict[str, Tensor], pairs: tuple[tuple[str, str], ...], target: str | None
) -> tuple[str, str] | None:
    """The two keys, as the file spells them, of the first pair that it holds."""
    spelt = {key.lower(): key for key in arrays}
    for x, y in pairs:
        y = target if target is not None else spelt.get(y)
        if x in spelt and y in arrays:
            return spelt[x], y
    return None


def _checked(arrays: dict[str, Tensor], x: str, y: str, path: Path, told: list[str]) -> Pair:
    inputs, labels = arrays[x], arrays[y]
    if not inputs.ndim or not labels.ndim or len(inputs) != len(labels):
        raise DataError(
            f"{path.name}: {x!r} has shape {tuple(inputs.shape)} and {y!r} {tuple(labels.shape)}; examples "
            "lie on axis 0, and both need equally many"
        )
    if not inputs.numel():
        raise DataError(f"{path.name}: {x!r} has shape {tuple(inputs.shape)}: no example")
    given, inputs = inputs, _as_inputs(inputs)
    for name, wide in ((x, given), (y, labels)):
        _refuse_overflow(wide, f"{path.name}: {name!r}")
    if not inputs.is_floating_point():
        told.append(
            f"{x!r} holds whole numbers and is kept so, as indices; save it as float32 if it measures"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
        told.append(f"{y!r} has a 1 in one of {labels.shape[1]} columns: the class of an example")
        labels = labels.to(torch.uint8).argmax(1)
    return inputs, labels


def _refuse_overflow(values: Tensor, what: str) -> None:
    """Refuse numbers that float32 cannot hold; what is infinite as it stands is told elsewhere."""
    if values.dtype != torch.float64 or not bool(values.float().isinf().any()):
        return
    beyond = (values.float().isinf() & values.isfinite()).reshape(len(values), -1)
    if bool(beyond.any()):
        row = int(beyond.any(1).nonzero()[0])
        value = float(values.reshape(len(values), -1)[row][beyond[row]][0])
        raise DataError(
            f"{what}, row {row} (counted from 0): {value:g} overflows float32, whose largest number is "
            "3.4e38; rescale it, by its logarithm or another unit"
        )


def _as_inputs(inputs: Tensor) -> Tensor:
    """Measurements as float32 with an axis for the features, indices as int64."""
    if not inputs.is_floating_point() and inputs.dtype not in (torch.uint8, torch.bool):
        return inputs.long()
    return inputs.float()[:, None] if inputs.ndim == 1 else inputs.float()


def _decide(labels: Tensor, name: str) -> targets.Decided:
    if labels.ndim > 1 and not labels.is_floating_point():
        count = int(labels.max().item()) + 1
        told = f"target {name!r} holds indices of shape {tuple(labels.shape)}: classification"
        return targets.Decided(labels.long(), "classification", [str(i) for i in range(count)], told)
    return targets.of_numbers(labels.numpy(), name, floating=labels.is_floating_point())
