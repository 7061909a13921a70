"""Standard tables that scikit-learn does not bundle: the adult census in LIBSVM's form, and airfoil noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from downslope.core.errors import DataError
from downslope.data.bundled import standardised
from downslope.data.fetch import Remote, located
from downslope.data.split import parts
from downslope.data.table import Table

_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary.html"
_ADULT = 123
"""Columns of the set, of which the smaller parts show fewer."""

# Digest: D2L's table of data sets (d2l.DATA_HUB["airfoil"]), of the file with CRLF.
AIRFOIL = Remote(
    folder="tables",
    name="airfoil_self_noise.dat",
    urls=("http://d2l-data.s3-accelerate.amazonaws.com/airfoil_self_noise.dat",),
    digest="sha1:76e5be1548fd8222e5074cf0faae75edff8cf93f",
    from_where="https://archive.ics.uci.edu/dataset/291/airfoil+self+noise",
)


def a1a(*, valid: float = 0.2, seed: int = 0) -> Table:
    """1,605 persons of the adult census, 123 columns of 0 and 1, income above 50,000 dollars or not.

    Platt's form of the set (1998), as LIBSVM has it. LIBSVM publishes no digest: the file is not fetched, it
    has to lie in ``DOWNSLOPE_DATA/libsvm``.

    Args:
        valid: share held out, float in [0, 1).
        seed: of the stratified split.

    Returns:
        The table; float32 inputs (n, 123), int64 targets.

    Raises:
        DataError: the file is not there, or `valid` outside [0, 1).
    """
    return _libsvm("a1a", valid, seed)


def a9a(*, valid: float = 0.2, seed: int = 0) -> Table:
    """32,561 persons of the adult census: `a1a` with all of its training examples.

    Args:
        valid: share held out, float in [0, 1).
        seed: of the stratified split.

    Returns:
        The table; float32 inputs (n, 123), int64 targets.

    Raises:
        DataError: the file is not there, or `valid` outside [0, 1).
    """
    return _libsvm("a9a", valid, seed)


def airfoil(*, standardise: bool = False, valid: float = 0.2, seed: int = 0) -> Table:
    """1,503 measurements of the noise of airfoils: 5 columns of very different scales, target in decibels.

    Brooks, Pope and Marcolini (1989), NASA.

    Args:
        standardise: subtract the mean and divide by the standard deviation of the training part, inputs only.
        valid: share held out, float in [0, 1).
        seed: of the split.

    Returns:
        The table; float32 inputs (n, 5), float32 targets (n,).

    Raises:
        DataError: the file is nowhere and cannot be fetched, or `valid` outside [0, 1).
    """
    path = located(AIRFOIL)
    try:
        rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: not the table that it should be ({error}); fetch it again") from error
    inputs, target = (torch.from_numpy(each.astype(np.float32)) for each in (rows[:, :-1], rows[:, -1]))
    train, held, *_ = parts(inputs, target, valid=valid, seed=seed, stratify=False)
    columns = ["frequency", "angle of attack", "chord length", "velocity", "displacement thickness"]
    told = (f"airfoil: {len(rows):,} rows, the target is the sound pressure in decibels",)
    table = Table(train, held, "regression", columns, [], told)
    return standardised(table) if standardise else table


def _libsvm(name: str, valid: float, seed: int) -> Table:
    from sklearn.datasets import load_svmlight_file  # half a second, and only here

    path = located(Remote(folder="libsvm", name=f"{name}.gz", urls=(), from_where=_LIBSVM))
    try:
        found: Any = load_svmlight_file(str(path), n_features=_ADULT)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not in LIBSVM's format ({error}); fetch it again") from error
    inputs = torch.from_numpy(np.ascontiguousarray(found[0].toarray(), dtype=np.float32))
    target = torch.from_numpy((found[1] > 0).astype(np.int64))
    train, held, *_ = parts(inputs, target, valid=valid, seed=seed, stratify=True)
    told = (f"{name}: {len(target):,} persons, does one earn more than 50,000 dollars a year",)
    columns = [f"column {i + 1}" for i in range(_ADULT)]
    return Table(train, held, "classification", columns, ["at most 50K", "above 50K"], told)
