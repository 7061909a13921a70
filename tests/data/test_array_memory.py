"""Archives that memory would not hold are told before they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core import memory
from downslope.core.errors import DataError
from downslope.data import load_path


@pytest.mark.parametrize("ending", ["npz", "pt"])
def test_arrays_beyond_the_memory_are_refused(tmp_path: Path, monkeypatch, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    x, y = np.zeros((1000, 50), dtype=np.float32), np.arange(1000) % 2
    if ending == "npz":
        np.savez_compressed(path, X=x, y=y)  # packed it is small: what counts is what it unpacks to
    else:
        torch.save({"X": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    monkeypatch.setattr(memory, "available", lambda: 3 * 200_000.0)
    with pytest.raises(DataError, match=rf"t\.{ending}: would take 1 MiB of memory"):
        load_path(path)
    monkeypatch.setattr(memory, "available", lambda: 5 * 220_000.0)
    assert len(load_path(path, valid=0.0).train[1]) == 1000


def test_the_memory_that_is_free_is_known_here() -> None:
    assert memory.available() > 2**20
    memory.refuse_beyond("nothing", 0.0, "")
