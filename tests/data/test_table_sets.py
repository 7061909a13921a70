"""The adult census and airfoil noise, against what is published of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.errors import DataError
from downslope.data import a1a, a9a, airfoil, tinyshakespeare

real = pytest.mark.skipif(
    not os.environ.get("DOWNSLOPE_DATA"), reason="DOWNSLOPE_DATA names no folder with the real sets"
)


@real
def test_the_census_has_its_published_sizes_and_shares() -> None:
    """LIBSVM's page: 1,605 and 32,561 examples; 24.08 % of a9a earn more (UCI's adult.names)."""
    x, y = a1a(valid=0.0).train
    assert x.shape == (1605, 123)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    _, y = a9a(valid=0.0).train
    assert len(y) == 32561
    assert float(y.double().mean()) == pytest.approx(0.2408, abs=1e-4)


@real
def test_the_airfoil_optimum_is_the_known_one() -> None:
    """Half the squared error at its least over the first 1500 rows, all columns standardised over all 1503
    (Zhang et al., Dive into Deep Learning, 12.11): .241687955.
    """
    path = Path(os.environ["DOWNSLOPE_DATA"]) / "tables" / "airfoil_self_noise.dat"
    held = airfoil(valid=0.0).train
    there = {tuple(row) for row in torch.cat([held[0], held[1][:, None]], dim=1).tolist()}
    rows = np.loadtxt(path)
    assert there == {tuple(row) for row in rows.astype(np.float32).tolist()}
    scaled = ((rows - rows.mean(0)) / rows.std(0))[:1500]
    design, target = np.c_[scaled[:, :-1], np.ones(1500)], scaled[:, -1]
    residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    assert float((residual**2).mean() / 2) == pytest.approx(0.241687955, abs=1e-6)


@real
def test_tinyshakespeare_has_its_65_characters_and_nanogpts_split() -> None:
    data = tinyshakespeare()
    assert data.valid is not None
    assert len(data.classes) == 65
    assert (len(data.train.tokens), len(data.valid.tokens)) == (1_003_855, 111_539)


def test_a_set_that_is_not_there_says_where_to_get_it_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOWNSLOPE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"libsvm/a9a\.gz: not there.*get it from https://www\.csie\.ntu"):
        a9a()


def test_a_file_that_is_no_table_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNSLOPE_DATA", str(tmp_path))
    for folder, name in (("tables", "airfoil_self_noise.dat"), ("libsvm", "a1a")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("<html>not here</html>")
    with pytest.raises(DataError, match="not the table that it should be"):
        airfoil()
    with pytest.raises(DataError, match="not in LIBSVM's format"):
        a1a()
