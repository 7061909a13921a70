"""Where features are kept: in memory, or in a file that is found again by what it was made of."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from downslope.core import batches
from downslope.core.sources import MEMORY_LIMIT, Memory, Source
from downslope.core.state_files import read_state
from downslope.models.joined import Body
from downslope.training.choices import cache_folder
from downslope.training.evaluate import BATCH

__all__ = ["Store", "cached", "key_of"]


class Store:
    """Rows that are added batch by batch: in memory, or in a file once they are known to be large.

    Args:
        key: Name of the file; None where nothing tells the data apart, and then they stay in memory.
        size: Rows in all; None where it is not known.
        cache: True for a file, False for memory, None for a file where they take more than 2 GiB.
    """

    def __init__(self, key: str | None, size: int | None, cache: bool | None) -> None:
        self.key, self.size, self.cache = key, size, cache
        self.rows: list[Tensor] = []
        self.file: Any = None
        self.at = 0
        self.partial = _folder() / f"{key}.{os.getpid()}.partial"

    def add(self, rows: Tensor) -> None:
        """Add the features of a batch."""
        if not self.at and self._in_file(rows):
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            self.file = np.lib.format.open_memmap(
                self.partial, "w+", rows.numpy().dtype, (cast("int", self.size), *rows.shape[1:])
            )
        if self.file is None:
            self.rows.append(rows.clone())
        else:
            self.file[self.at : self.at + len(rows)] = rows.numpy()
        self.at += len(rows)

    def _in_file(self, rows: Tensor) -> bool:
        if self.key is None or self.size is None or self.cache is False or rows.dtype == torch.bfloat16:
            return False
        return self.cache is True or rows[0].numel() * rows.element_size() * self.size > MEMORY_LIMIT

    def close(self) -> Tensor:
        """All rows; a file takes its name only when it is whole."""
        if self.file is None:
            return torch.cat(self.rows)
        self.file.flush()
        self.file = None
        path = _folder() / f"{self.key}.npy"
        self.partial.replace(path)
        return _mapped(path)

    def drop(self) -> None:
        """Take back a file that is not whole."""
        self.file = None
        self.partial.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "features"


def _mapped(path: Path) -> Tensor:
    """A file as a tensor that is read where it is used; writing to it changes no file."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def cached(key: str) -> Tensor | None:
    """The features of a former call; None where there are none, or their file is broken."""
    path = _folder() / f"{key}.npy"
    try:
        return _mapped(path) if path.exists() else None
    except (OSError, ValueError):  # a broken file is made anew
        path.unlink(missing_ok=True)
        return None


def key_of(body: Body, source: Source, name: str) -> str | None:
    """The hash of weights, layer and data; None for data of which only a reading would tell."""
    if not isinstance(source, Memory):
        return None
    said = [name, body.layer, body.before, body.pool, repr(body.model), read_state(body).fingerprint]
    digest = hashlib.sha256(json.dumps(said).encode())
    for chunk in _bytes(source):
        digest.update(chunk)
    return digest.hexdigest()[:24]


def _bytes(source: Memory) -> Iterator[Any]:
    for leaf in batches.tensors(source.batch):
        for rows in leaf.detach().cpu().split(BATCH):
            yield rows.contiguous().reshape(-1).view(torch.uint8).numpy()
