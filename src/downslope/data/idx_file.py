"""IDX, the format of MNIST: images and labels in a file each, packed by gzip or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.sources import Origin
from downslope.data.split import Parts, parts
from downslope.data.table import Loaded, Pair

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_NAME = re.compile(r"(?P<part>.*?)(?P<what>images?|labels?)(?:[-._]?idx\d.*)?", re.IGNORECASE)
_HELD_OUT = ("valid", "val", "t10k", "test")
MEASURED = 255.0
"""What pixels of one byte are divided by, so that they lie in [0, 1]."""


class Named(NamedTuple):
    """An IDX file by what its name says."""

    part: str
    """"train", "t10k" and the like; "" where the name says nothing."""
    what: str
    """"image" or "label"."""
    path: Path


def is_idx(path: Path) -> bool:
    """Whether a file is in this format: its name says so, or the first four bytes do."""
    if re.search(r"[-._]idx\d", path.name.lower()):
        return True
    try:
        with _opened(path) as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 8


def read_idx(path: Path) -> npt.NDArray[Any]:
    """The array of a file.

    Args:
        path: in the format of http://yann.lecun.com/exdb/mnist: two zero bytes, the type, the number of axes,
            their lengths in four bytes each, the highest first, then the values.

    Raises:
        DataError: not in this format, cut short, or too large for the memory.
    """
    try:
        with _opened(path) as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 8:
                raise DataError(
                    f"{path.name}: begins with {magic.hex(' ') or 'nothing'}, an IDX file with 00 00, a type "
                    "(08 for bytes) and the number of axes; fetch it again, or give its true kind by its name"
                )
            head = file.read(4 * magic[3])
            shape = tuple(np.frombuffer(head[: len(head) // 4 * 4], dtype=">u4").tolist())
            kind = np.dtype(_TYPES[magic[2]])
            wanted = math.prod(shape) * kind.itemsize
            # Beside the bytes themselves stands what becomes of them: float32.
            memory.refuse_beyond(path.name, wanted + 4 * math.prod(shape), "give a Dataset that reads parts")
            held = file.read(wanted + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path.name}: its gzip stream is broken or cut short ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(shape) != magic[3] or len(held) != wanted:
        beyond = "more than" if len(held) > wanted else f"{len(held):,} of"
        raise DataError(
            f"{path.name}: holds {beyond} the {wanted:,} bytes that its header tells (shape {shape}): it was "
            "cut or glued together; fetch it again"
        )
    return np.frombuffer(held, dtype=kind).reshape(shape)


def load_idx(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded:
    """Images and labels of the pair that `path` belongs to; see `downslope.data.paths.load_path`."""
    if target is not None:
        raise DataError(f"{path.name}: an IDX file has no columns; leave the target {target!r} out")
    own = _named(path)
    if own is None:
        raise DataError(
            f"{path.name}: says neither 'images' nor 'labels' in its name, so that its partner cannot be "
            "found; rename the pair to train-images-idx3-ubyte and train-labels-idx1-ubyte"
        )
    images, labels = _pair(path.parent, own.part)
    train = pair(images, labels)
    told = [f"images from {images.name}, labels from {labels.name}"]
    second = _second(path.parent, own.part, valid, told)
    classes = [str(i) for i in range(int(train[1].max()) + 1)]
    if second is None:
        share = valid if isinstance(valid, float | int) else 0.0
        cut = parts(*train, valid=share, seed=seed, stratify=True)
        files = (images, images)
    else:
        held = pair(*second)
        _check_alike(train, held, images, second)
        cut = Parts(train, held, np.arange(len(train[1])), np.arange(len(held[1])))
        files = (images, second[0])
    reading = {"kind": "idx", "scale": MEASURED, "classes": classes}
    rows = (cut.train_rows, cut.valid_rows)
    origins = [
        Origin(file.name, "row", at, inputs=file.name, target=labels.name)
        for file, at in zip(files, rows, strict=True)
    ]
    told.append(f"{len(classes)} classes, pixels divided by {MEASURED:g}")
    return Loaded(
        cut.train, cut.valid, "classification", [], classes, labels.name, told, (origins[0], origins[1]),
        reading=reading,
    )  # fmt: skip


def pair(images: Path, labels: Path) -> Pair:
    """Images (n, channels, height, width), bytes divided by 255, and their labels.

    Raises:
        DataError: unreadable, no images or no labels, or of different numbers.
    """
    pixels, numbers = read_idx(images), read_idx(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(
            f"{labels.name}: shape {numbers.shape} of {numbers.dtype}: labels are whole numbers on one axis; "
            "are the names of the two files exchanged?"
        )
    if pixels.ndim < 2:
        raise DataError(f"{images.name}: shape {pixels.shape}: images have at least two axes, (n, pixels)")
    if len(pixels) != len(numbers):
        raise DataError(
            f"{images.name} holds {len(pixels):,} images and {labels.name} {len(numbers):,} labels: they do "
            "not belong together; fetch both again"
        )
    if not len(numbers) or int(numbers.min()) < 0:
        raise DataError(f"{labels.name}: labels count from 0, and there must be one at least")
    return images_of(pixels), torch.from_numpy(numbers.astype(np.int64))


def images_of(pixels: npt.NDArray[Any], scale: float = MEASURED) -> Tensor:
    """float32 images with an axis for the channels; bytes are divided by `scale`."""
    if pixels.dtype == np.uint8:
        found = torch.from_numpy(pixels.astype(np.float32)).div_(scale)
    else:
        found = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))
    return found[:, None] if found.ndim == 3 else found


def in_folder(folder: Path) -> Path | None:
    """The training images that a folder holds in this format; None where it holds none."""
    found = [each for each in map(_named, sorted(folder.iterdir())) if each and each.what == "image"]
    ranked = sorted(found, key=lambda each: (_part(each.part) in _HELD_OUT, each.path.name))
    return ranked[0].path if ranked else None


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _named(path: Path) -> Named | None:
    stem = re.sub(r"\.(gz|idx|bin)$", "", path.name, flags=re.IGNORECASE)
    found = _NAME.fullmatch(stem)
    if found is None or not path.is_file() or not (is_idx(path)):
        return None
    return Named(found["part"].lower(), found["what"].lower().removesuffix("s"), path)


def _part(part: str) -> str:
    return part.strip("-_. ")


def _pair(folder: Path, part: str) -> tuple[Path, Path]:
    """Images and labels of one part; where both are there packed and unpacked, the unpacked ones."""
    there = [each for each in map(_named, sorted(folder.iterdir())) if each and each.part == part]
    by = {each.what: each.path for each in sorted(there, key=lambda each: each.path.suffix != ".gz")}
    for what in ("image", "label"):
        if what not in by:
            raise DataError(
                f"{folder.name}: no {part}{what}s beside the other half of the pair; both files are needed, "
                f"{part}images-idx3-ubyte and {part}labels-idx1-ubyte, packed by gzip or not"
            )
    return by["image"], by["label"]


def _second(folder: Path, part: str, valid: float | Path, told: list[str]) -> tuple[Path, Path] | None:
    """The pair of the validation examples: the one that was given, or one beside the training pair."""
    if isinstance(valid, Path):
        own = _named(valid)
        if own is None:
            raise DataError(f"{valid.name}: says neither 'images' nor 'labels' in its name")
        return _pair(valid.parent, own.part)
    if not valid or _part(part) in _HELD_OUT:
        return None
    others = {_part(each.part): each.part for each in map(_named, folder.iterdir()) if each}
    beside = next((others[name] for name in _HELD_OUT if name in others), None)
    if beside is None:
        return None
    told.append(f"validation data are {beside}images and {beside}labels")
    return _pair(folder, beside)


def _check_alike(train: Pair, held: Pair, images: Path, second: tuple[Path, Path]) -> None:
    if train[0].shape[1:] != held[0].shape[1:]:
        raise DataError(
            f"{second[0].name}: images of shape {tuple(held[0].shape[1:])}, those of {images.name} "
            f"{tuple(train[0].shape[1:])}; both need the same"
        )
    if int(held[1].max()) > int(train[1].max()):
        raise DataError(
            f"{second[1].name}: label {int(held[1].max())} does not occur in training, whose largest is "
            f"{int(train[1].max())}"
        )
