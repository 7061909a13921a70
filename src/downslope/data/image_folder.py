"""A folder of images, one sub-folder for each class, decoded by Pillow."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.core.sources import MEMORY_LIMIT, Origin, Stream
from downslope.data.split import split
from downslope.data.table import Loaded, Streamed

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")

LARGEST_SIDE = 64
"""Pixels of a side where images differ in size and none is asked for: a convention, told with every use."""

_PARTS = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid",
          "test": "valid"}  # fmt: skip
_GREY = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}
_TOLD = 3


class Form(NamedTuple):
    """What every image of a set is brought to."""

    height: int
    width: int
    channels: int
    """1 for grey, 3 for red, green and blue."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"height": self.height, "width": self.width, "channels": self.channels}


class Header(NamedTuple):
    """What a file says of its image before it is decoded."""

    height: int
    width: int
    grey: bool
    moves: bool = False
    """Whether it holds several pictures, of which the first is taken."""


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images decoded whenever they are read, for sets that memory does not hold.

    Args:
        files: One for each example.
        labels: int64, shape (n,).
        form: What each is brought to.
    """

    def __init__(self, files: Sequence[Path], labels: Tensor, form: Form) -> None:
        self.files: list[Path] = list(files)
        self.labels, self.form = labels, form

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels = decoded(self.files[index], self.form)
        if isinstance(pixels, str):
            raise DataError(f"{self.files[index]}: {pixels}; it could be when the run began")
        return torch.from_numpy(pixels).float().div_(255.0), self.labels[index]


def images(
    folder: str | Path, *, size: int | tuple[int, int] | None = None, valid: float = 0.2, seed: int = 0
) -> Loaded | Streamed:
    """Images of a folder with one sub-folder for each class, or with such folders below train/ and valid/.

    Files that cannot be decoded are left out, and told by name. Where sizes differ the shorter side is scaled
    to `size` and the middle is cut out. One with a colour makes all of them colour images.

    Args:
        folder: with cats/, dogs/; or train/cats/ ..., and valid/cats/ (or val/, test/).
        size: height and width in pixels, or one number for both, at least 1; left out, that of the images
            where all have one, else 64 or the median shorter side if that is less.
        valid: share held out where there is no folder for it, stratified, float in [0, 1).
        seed: of that split, and of the stored order.

    Returns:
        Inputs float32 (n, 1 or 3, height, width) in [0, 1]; held in memory up to 2 GiB, beyond that a
        `Streamed` whose images are decoded anew in every epoch.

    Raises:
        DataError: no such folder, no images, one class only, or Pillow is not installed.
    """
    root = Path(folder).expanduser()
    _check_pillow(root)
    told: list[str] = []
    train, held = _parts_of(root, told)
    classes = sorted({each for each, _ in train})
    if len(classes) < 2:
        raise DataError(
            f"{root}: images of one class only, {classes[0]!r}: there is nothing to tell apart; each class "
            "needs a sub-folder of its own"
        )
    for name in sorted({each for each, _ in held} - set(classes)):
        raise DataError(f"{root}: class {name!r} is held out and does not occur in training")
    files = [path for _, path in (*train, *held)]
    index = {name: i for i, name in enumerate(classes)}
    labels = np.array([index[name] for name, _ in (*train, *held)], dtype=np.int64)
    headers, faults = _each(files, header)
    form = _form(root, [each for each in headers if each is not None], size, told)
    moving = [files[i].name for i, each in enumerate(headers) if each is not None and each.moves]
    if moving:
        what = f"{_several(len(moving), 'file')} animated or paged"
        told.append(f"{what}, and the first picture taken, such as in {moving[0]!r}")
    places = np.array([i for i, each in enumerate(headers) if each is not None], dtype=np.int64)
    needed = 4 * len(places) * form.channels * form.height * form.width
    streamed = needed > min(MEMORY_LIMIT, memory.SHARE * memory.available() / 2)
    pixels, places = _decode(files, places, form, faults, kept=not streamed)
    _tell_faults(root, faults, len(files), told)
    own = np.flatnonzero(places < len(train))
    if held:
        rows = own[np.random.default_rng(seed).permutation(len(own))], np.flatnonzero(places >= len(train))
    else:
        first, rest = split(len(own), valid=valid, seed=seed, labels=labels[places[own]])
        rows = own[first], own[rest]
    _check_left(root, classes, labels[places[rows[0]]])
    told.append(f"{len(classes)} classes: {', '.join(classes[:10])}{' ...' if len(classes) > 10 else ''}")
    reading = {"kind": "images", **form.to_dict(), "classes": classes}
    target = torch.from_numpy(labels)
    if pixels is None:
        told.append(f"{memory.told(needed)} are read anew in every epoch")
        sources: list[Stream | None] = [
            Stream(Images([files[i] for i in _listed(places[at])], target[places[at]], form), reading)
            if len(at)
            else None
            for at in rows
        ]
        return Streamed(cast("Stream", sources[0]), sources[1], classes, told, reading)
    pairs = [(_scaled(pixels, at), target[places[at]]) for at in rows]
    origins = [Origin(root.name, "row", places[at], inputs="image", target="folder") for at in rows]
    return Loaded(
        pairs[0], pairs[1] if len(rows[1]) else None, "classification", [], classes, "folder", told,
        (origins[0], origins[1]), reading=reading,
    )  # fmt: skip


def load_folder(path: Path, target: str | None, *, seed: int, valid: float | Path) -> Loaded | Streamed:
    """A folder of images, as `downslope.data.paths.load_path` reads it.

    Raises:
        DataError: a target, which the folders' names are.
    """
    if target is not None:
        raise DataError(
            f"{path}: the classes are the names of the sub-folders; leave the target {target!r} out"
        )
    if isinstance(valid, Path):
        raise DataError(
            f"{path}: beside a folder of images no second one is read; put both into one, as train and valid"
        )
    return images(path, valid=valid, seed=seed)


def is_image_folder(path: Path) -> bool:
    """Whether a folder has sub-folders with images in them."""
    return any(_images_below(each) for each in _folders(path))


def files_below(folder: Path) -> list[Path]:
    """Every image file in a folder and below it, sorted."""
    found = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
    return sorted(each for each in found if each.name.lower().endswith(ENDINGS) and each.name[0] != ".")


def decoded(path: Path, form: Form) -> npt.NDArray[np.uint8] | str:
    """The image of a file, shape (channels, height, width); or in words why it cannot be decoded."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's, about large images and odd metadata
            with Image.open(path) as opened:
                picture: Any = ImageOps.exif_transpose(opened)
                picture = _as_grey(picture) if form.channels == 1 else picture.convert("RGB")
        if picture.size != (form.width, form.height):
            picture = ImageOps.fit(picture, (form.width, form.height), Image.Resampling.BILINEAR)
    except Exception as error:  # noqa: BLE001 - a decoder of broken bytes raises anything
        return _said(error)
    array = np.array(picture, dtype=np.uint8)  # a copy: some images lend what must not be written
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def header(path: Path) -> Header | str:
    """Size and kind of an image; or in words why the file holds none."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                width, height = opened.size
                if opened.getexif().get(0x0112, 1) >= 5:  # stored lying on its side
                    width, height = height, width
                return Header(
                    height, width, opened.mode in _GREY, bool(getattr(opened, "is_animated", False))
                )
    except Exception as error:  # noqa: BLE001 - a decoder of broken bytes raises anything
        return _said(error)


def _as_grey(picture: Any) -> Any:
    """Grey in one byte; sixteen bits are divided by 256, since Pillow's own conversion clips them."""
    if picture.mode.startswith("I"):
        from PIL import Image

        values = np.asarray(picture).astype(np.int64)
        return Image.fromarray((values // 256 if values.max(initial=0) > 255 else values).astype(np.uint8))
    return picture.convert("L")


def _said(error: Exception) -> str:
    kind = type(error).__name__
    if kind == "UnidentifiedImageError":
        return "no image that Pillow knows"
    return (str(error).strip().splitlines() or [kind])[0]


def _check_pillow(root: Path) -> None:
    if importlib.util.find_spec("PIL") is None:
        raise DataError(
            f"{root}: images need Pillow, which is not installed; pip install 'downslope[images]'"
        )


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def _images_below(folder: Path) -> bool:
    return any(
        name.lower().endswith(ENDINGS) and not name.startswith(".")
        for _, _, names in os.walk(folder)
        for name in names
    )


def _parts_of(root: Path, told: list[str]) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Class and file of the training and of the held-out images.

    Raises:
        DataError: no folder, or none with images.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    by: dict[str, Path] = {}
    for each in _folders(root):
        by.setdefault(_PARTS.get(each.name.lower(), each.name), each)
    if "train" in by and _folders(by["train"]):
        train = _classified(by["train"], told)
        held = _classified(by["valid"], told) if "valid" in by else []
        if held:
            told.append(f"validation images are those below {by['valid'].name}/")
    else:
        train, held = _classified(root, told), []
    if not train:
        raise DataError(
            f"{root}: no images in its sub-folders; each class needs one, with files "
            f"ending in {', '.join(ENDINGS)}"
        )
    return train, held


def _classified(root: Path, told: list[str]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    others: list[str] = []
    void = [folder.name for folder in _folders(root) if not _images_below(folder)]
    if void:
        listed = ", ".join(map(repr, void[:_TOLD])) + (
            f" and {len(void) - _TOLD} more" if len(void) > _TOLD else ""
        )
        told.append(f"no images below {root.name}/ in {listed}: no class of it")
    for folder in _folders(root):
        for place, _, names in os.walk(folder):
            for name in sorted(names):
                if name.startswith("."):
                    continue
                if name.lower().endswith(ENDINGS):
                    found.append((folder.name, Path(place) / name))
                else:
                    others.append(name)
    if others:
        told.append(f"{_several(len(others), 'file')} no image and left out, such as {others[0]!r}")
    return sorted(found, key=lambda each: (each[0], str(each[1])))


def _each(files: Iterable[Path], function: Any) -> tuple[list[Any], dict[Path, str]]:
    """What `function` says of each file, None where it fails, and why; Pillow decodes in other threads."""
    files = list(files)
    faults: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:
        found: list[Any] = list(pool.map(function, files))
    for i, each in enumerate(found):
        if isinstance(each, str):
            faults[files[i]], found[i] = each, None
    return found, faults


def _form(root: Path, headers: list[Header], size: Any, told: list[str]) -> Form:
    if not headers:
        raise DataError(f"{root}: none of its files can be decoded as an image")
    channels = 1 if all(each.grey for each in headers) else 3
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise DataError(f"size={size!r}: must be at least 1 pixel, or a pair (height, width) of such")
        told.append(f"images are scaled and cut to {height} by {width}")
        return Form(height, width, channels)
    sizes = {(each.height, each.width) for each in headers}
    if len(sizes) == 1:
        return Form(*sizes.pop(), channels)
    side = min(LARGEST_SIDE, int(np.median([min(each) for each in sizes])))
    low, high = min(sizes), max(sizes)
    told.append(
        f"sizes differ, from {low[0]} by {low[1]} to {high[0]} by {high[1]}: the shorter side is scaled to "
        f"{side} and the middle {side} by {side} cut out; ds.data.images(folder, size=...) takes another"
    )
    return Form(side, side, channels)


def _decode(
    files: list[Path], places: npt.NDArray[np.int64], form: Form, faults: dict[Path, str], *, kept: bool
) -> tuple[npt.NDArray[np.uint8] | None, npt.NDArray[np.int64]]:
    """Pixels of the files at `places`, and which could be decoded; not `kept`, they are only tried."""
    shape = (len(places), form.channels, form.height, form.width)
    pixels = np.empty(shape, dtype=np.uint8) if kept else None
    good = np.ones(len(places), dtype=bool)
    at = _listed(places)

    def one(row: int) -> None:
        found = decoded(files[at[row]], form)
        if isinstance(found, str):
            faults[files[at[row]]], good[row] = found, False
        elif pixels is not None:
            pixels[row] = found

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(one, range(len(places))):
            pass
    return (None if pixels is None else pixels[good]), places[good]


def _tell_faults(root: Path, faults: Mapping[Path, str], count: int, told: list[str]) -> None:
    if not faults:
        return
    some = [f"{path.relative_to(root)} ({why})" for path, why in sorted(faults.items())[:_TOLD]]
    more = f" and {len(faults) - _TOLD} more" if len(faults) > _TOLD else ""
    told.append(
        f"{len(faults)} of {count} files cannot be decoded and {'is' if len(faults) == 1 else 'are'} left "
        f"out: {', '.join(some)}{more}"
    )


def _check_left(root: Path, classes: list[str], labels: npt.NDArray[np.int64]) -> None:
    for i, count in enumerate(np.bincount(labels, minlength=len(classes))):
        if not count:
            raise DataError(
                f"{root}: no image of class {classes[i]!r} can be decoded; put good ones there, or remove it"
            )


def _scaled(pixels: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(pixels[at].astype(np.float32)).div_(255.0)


def _listed(places: npt.NDArray[np.int64]) -> list[int]:
    return places.tolist()


def _several(count: int, what: str) -> str:
    return f"1 {what} is" if count == 1 else f"{count} {what}s are"
