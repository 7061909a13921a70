"""The data sets that scikit-learn bundles: real, small, there without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from downslope.core.errors import DataError
from downslope.data.split import parts
from downslope.data.table import Pair, Table


def digits(
    *,
    images: bool = False,
    scale: float = 1.0,
    canvas: int | None = None,
    valid: float = 0.2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Table:
    """1797 handwritten digits of 8 by 8 pixels, 10 classes (Alpaydin and Kaynak 1998).

    Args:
        images: inputs of shape (n, 1, 8, 8) instead of (n, 64).
        scale: float in (0, inf), the pixels are divided by it; raw they are whole numbers from 0 to 16, so
            16 brings them into [0, 1].
        canvas: pixels a side of an empty square in which each digit stands at a place of its own, at least
            8; then a linear model of the pixels tells little (as with translated MNIST, Jaderberg et al.
            2015). None leaves them where they are.
        valid: share held out, float in [0, 1).
        seed: of the stratified split, and of the places.
        dtype: of the inputs; torch.float64 keeps every digit that scikit-learn has.

    Returns:
        The table; inputs of `dtype`, int64 targets.

    Raises:
        DataError: `scale`, `canvas`, `valid` or `dtype` outside its domain.
    """
    if not scale > 0:
        raise DataError(
            f"digits: scale={scale}: must be positive, the pixels are divided by it; 16 gives [0, 1]"
        )
    found = _bundle("load_digits")
    inputs = (found.data / scale).reshape(-1, 1, 8, 8)
    if canvas is not None:
        inputs = _placed(inputs, canvas, seed)
    if not images:
        inputs = inputs.reshape(len(inputs), -1)
    return _classes(inputs, found, [str(label) for label in found.target_names], valid, seed, dtype)


def breast_cancer(
    *, standardise: bool = False, valid: float = 0.2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Table:
    """569 tumours, 30 measurements of very different scales, malignant (0) or benign (1) (Wolberg 1995).

    Args:
        standardise: subtract the mean and divide by the standard deviation of the training part.
        valid: share held out, float in [0, 1).
        seed: of the stratified split.
        dtype: of the inputs; torch.float64 keeps every digit that scikit-learn has.

    Returns:
        The table; inputs of `dtype` (n, 30), int64 targets.

    Raises:
        DataError: `valid` outside [0, 1), or a `dtype` that is not floating.
    """
    found = _bundle("load_breast_cancer")
    table = _classes(found.data, found, [str(name) for name in found.target_names], valid, seed, dtype)
    return standardised(table) if standardise else table


def wine(
    *, standardise: bool = False, valid: float = 0.2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Table:
    """178 wines of three growers, 13 chemical measurements of very different scales (Forina 1991).

    Args:
        standardise: subtract the mean and divide by the standard deviation of the training part.
        valid: share held out, float in [0, 1).
        seed: of the stratified split.
        dtype: of the inputs; torch.float64 keeps every digit that scikit-learn has.

    Returns:
        The table; inputs of `dtype` (n, 13), int64 targets.

    Raises:
        DataError: `valid` outside [0, 1), or a `dtype` that is not floating.
    """
    found = _bundle("load_wine")
    table = _classes(found.data, found, [str(name) for name in found.target_names], valid, seed, dtype)
    return standardised(table) if standardise else table


def diabetes(
    *, standardise: bool = False, valid: float = 0.2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Table:
    """442 patients, 10 measurements in raw units, and the progression of their disease after a year.

    The target runs from 25 to 346 (Efron, Hastie, Johnstone and Tibshirani 2004). Differs from
    scikit-learn's default, which scales the inputs to columns of norm 1.

    Args:
        standardise: subtract the mean and divide by the standard deviation of the training part, inputs only.
        valid: share held out, float in [0, 1).
        seed: of the split.
        dtype: of inputs and targets; torch.float64 keeps every digit that scikit-learn has.

    Returns:
        The table; inputs (n, 10) and targets (n,) of `dtype`.

    Raises:
        DataError: `valid` outside [0, 1), or a `dtype` that is not floating.
    """
    found = _bundle("load_diabetes", scaled=False)
    inputs, target = _floating(found.data, dtype), _floating(found.target, dtype)
    train, held, *_ = parts(inputs, target, valid=valid, seed=seed, stratify=False)
    table = Table(train, held, "regression", [str(name) for name in found.feature_names], [])
    return standardised(table) if standardise else table


def _placed(images: Any, canvas: int, seed: int) -> Any:
    """Images at places of their own in an empty square."""
    side = images.shape[-1]
    if canvas < side:
        raise DataError(f"digits: canvas={canvas}: must be at least {side}, the pixels of a digit")
    draw = np.random.default_rng(seed)
    made = np.zeros((*images.shape[:2], canvas, canvas))
    for whole, image, (row, column) in zip(
        made, images, draw.integers(canvas - side + 1, size=(len(images), 2)), strict=True
    ):
        whole[:, row : row + side, column : column + side] = image
    return made


def _bundle(loader: str, **options: Any) -> Any:
    from sklearn import datasets  # half a second, and only here

    return getattr(datasets, loader)(**options)


def _floating(values: Any, dtype: torch.dtype) -> torch.Tensor:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DataError(f"dtype={dtype!r}: must be a floating type, torch.float32 or torch.float64")
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).to(dtype)


def _classes(
    inputs: Any, found: Any, classes: list[str], valid: float, seed: int, dtype: torch.dtype
) -> Table:
    tensor = _floating(inputs, dtype)
    target = torch.from_numpy(np.ascontiguousarray(found.target, dtype=np.int64))
    train, held, *_ = parts(tensor, target, valid=valid, seed=seed, stratify=True)
    return Table(train, held, "classification", [str(name) for name in found.feature_names], classes)


def standardised(table: Table) -> Table:
    """Inputs with mean 0 and deviation 1 on the training part; a constant column becomes 0."""
    inputs = table.train[0].double()
    mean, deviation = inputs.mean(0), inputs.std(0, unbiased=False)
    deviation = torch.where(deviation > 0, deviation, 1.0)

    def apply(pair: Pair) -> Pair:
        return ((pair[0].double() - mean) / deviation).to(pair[0].dtype), pair[1]

    return table._replace(train=apply(table.train), valid=None if table.valid is None else apply(table.valid))
