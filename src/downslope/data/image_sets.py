"""Standard sets of images: MNIST, Fashion-MNIST, CIFAR-10, from a folder of the user's or their address."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from downslope.core.adapted import scale_of
from downslope.core.errors import DataError
from downslope.data.fetch import Remote, located
from downslope.data.idx_file import MEASURED, images_of, read_idx
from downslope.data.split import parts
from downslope.data.table import Pair, Table

_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
_FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)

# Digests: torchvision.datasets.MNIST and FashionMNIST, `resources`; CIFAR-10: the table on its page.
MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
CIFAR = Remote(
    folder="cifar10",
    name="cifar-10-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    digest="md5:c32a1d4ab5d03f1284b67883e8d87530",
    from_where="https://www.cs.toronto.edu/~kriz/cifar.html",
)
_CLOTHES = [
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
]  # fmt: skip
_THINGS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def mnist(
    *,
    images: bool = True,
    scale: float = MEASURED,
    standardise: bool = False,
    valid: float | None = None,
    seed: int = 0,
) -> Table:
    """70,000 handwritten digits of 28 by 28 pixels, 10 classes (LeCun, Bottou, Bengio and Haffner 1998).

    Args:
        images: inputs of shape (n, 1, 28, 28) instead of (n, 784).
        scale: float in (0, inf), the pixels are divided by it; raw they are whole numbers from 0 to 255.
        standardise: subtract the mean and divide by the deviation of all pixels of the training part.
        valid: share held out of the 60,000 training examples, stratified, float in [0, 1); None takes the
            10,000 of the set's own test part.
        seed: of that split.

    Returns:
        The table; float32 inputs, int64 targets; 188 MB.

    Raises:
        DataError: the files are nowhere and cannot be fetched, or an argument lies outside its domain.
    """
    return _idx_set("mnist", MNIST_FILES, _MNIST, [str(i) for i in range(10)], images, scale, standardise,
                    valid, seed)  # fmt: skip


def fashion_mnist(
    *,
    images: bool = True,
    scale: float = MEASURED,
    standardise: bool = False,
    valid: float | None = None,
    seed: int = 0,
) -> Table:
    """70,000 pictures of clothes of 28 by 28 pixels, 10 classes (Xiao, Rasul and Vollgraf 2017).

    Args:
        images: inputs of shape (n, 1, 28, 28) instead of (n, 784).
        scale: float in (0, inf), the pixels are divided by it; raw they are whole numbers from 0 to 255.
        standardise: subtract the mean and divide by the deviation of all pixels of the training part.
        valid: share held out of the 60,000 training examples, stratified, float in [0, 1); None takes the
            10,000 of the set's own test part.
        seed: of that split.

    Returns:
        The table; float32 inputs, int64 targets; 188 MB.

    Raises:
        DataError: the files are nowhere and cannot be fetched, or an argument lies outside its domain.
    """
    return _idx_set("fashion_mnist", FASHION_FILES, _FASHION, _CLOTHES, images, scale, standardise, valid,
                    seed)  # fmt: skip


def cifar10(
    *,
    images: bool = True,
    scale: float = MEASURED,
    standardise: bool = False,
    valid: float | None = None,
    seed: int = 0,
) -> Table:
    """60,000 photographs of 32 by 32 pixels in three colours, 10 classes (Krizhevsky 2009).

    Args:
        images: inputs of shape (n, 3, 32, 32) instead of (n, 3072).
        scale: float in (0, inf), the pixels are divided by it; raw they are whole numbers from 0 to 255.
        standardise: subtract the mean and divide by the deviation of each colour in the training part.
        valid: share held out of the 50,000 training examples, stratified, float in [0, 1); None takes the
            10,000 of the set's own test part.
        seed: of that split.

    Returns:
        The table; float32 inputs, int64 targets; 614 MB.

    Raises:
        DataError: the file is nowhere and cannot be fetched, or an argument lies outside its domain.
    """
    _check(scale, "cifar10")
    records = _cifar_records(located(CIFAR))

    def pair(some: npt.NDArray[np.uint8]) -> Pair:
        pixels = images_of(some[:, 1:].reshape(-1, 3, 32, 32), scale)
        return pixels, torch.from_numpy(some[:, 0].astype(np.int64))

    train = pair(np.concatenate([records[f"data_batch_{i}.bin"] for i in range(1, 6)]))
    held = pair(records["test_batch.bin"]) if valid is None else None
    return _table("cifar10", train, held, _THINGS, images, standardise, valid, seed)


def _idx_set(
    name: str,
    files: dict[str, str],
    urls: tuple[str, ...],
    classes: list[str],
    images: bool,
    scale: float,
    standardise: bool,
    valid: float | None,
    seed: int,
) -> Table:
    _check(scale, name)

    def held(part: str) -> Pair:
        found: list[Any] = []
        for what in ("images-idx3", "labels-idx1"):
            file = f"{part}-{what}-ubyte.gz"
            where = tuple(url + file for url in urls)
            found.append(read_idx(located(Remote(folder=name, name=file, urls=where, digest=files[file]))))
        pixels, labels = found
        if len(pixels) != len(labels):
            raise DataError(
                f"{name}: {len(pixels):,} images and {len(labels):,} labels of the part {part}: they do not "
                "belong together; fetch both again"
            )
        return images_of(pixels, scale), torch.from_numpy(labels.astype(np.int64))

    test = held("t10k") if valid is None else None
    alike = {"kind": "idx", "scale": scale} if images and not standardise else {}
    return _table(name, held("train"), test, classes, images, standardise, valid, seed, alike)


def _table(
    name: str,
    train: Pair,
    test: Pair | None,
    classes: list[str],
    images: bool,
    standardise: bool,
    valid: float | None,
    seed: int,
    reading: Mapping[str, Any] = MappingProxyType({}),
) -> Table:
    if test is None:
        train, test, *_ = parts(*train, valid=valid or 0.0, seed=seed, stratify=True)
    channels, height, width = train[0].shape[1:]
    if standardise:
        mean, std = scale_of(train[0])
        for pair in (train, test):
            if pair is not None:
                pair[0].sub_(mean).div_(std)
    if not images:
        train, test = (train[0].flatten(1), train[1]), (test and (test[0].flatten(1), test[1]))
    where = [f"{i} {j}" for i in range(height) for j in range(width)]
    features = where if channels == 1 else [f"{c} {at}" for c in ("red", "green", "blue") for at in where]
    held = "nothing is held out" if test is None else f"{len(test[1]):,} held out"
    told = (f"{name}: {len(train[1]):,} training examples, {held}",)
    return Table(train, test, "classification", features, classes, told, reading)


def _cifar_records(path: Path) -> dict[str, npt.NDArray[np.uint8]]:
    """The six files of the archive, a label and 3072 pixels in each row; read in one pass, never unpacked."""
    wanted = {f"data_batch_{i}.bin" for i in range(1, 6)} | {"test_batch.bin"}
    found: dict[str, npt.NDArray[np.uint8]] = {}
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if name in wanted else None
                if file is not None:
                    found[name] = np.frombuffer(file.read(), dtype=np.uint8)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable archive ({error}); delete it, and fetch it again") from error
    for name in sorted(wanted):
        if name not in found or not found[name].size or found[name].size % 3073:
            raise DataError(f"{path}: {name} is missing in it, or cut; delete it, and fetch it again")
    return {name: rows.reshape(-1, 3073) for name, rows in found.items()}


def _check(scale: float, name: str) -> None:
    if not scale > 0:
        raise DataError(
            f"{name}: scale={scale}: must be positive, the pixels are divided by it; 255 gives [0, 1]"
        )
