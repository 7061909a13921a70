"""What goes to another process and back: code by value, large tensors by content, mapped and not copied."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import io
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from downslope.core.workers import by_value

LARGE = 1 << 16
"""Bytes from which a tensor is written to a file once, which all processes map."""

Read = Callable[[str, torch.dtype, tuple[int, ...]], Tensor]

_folder: list[Path] = []


class Parcels:
    """Packs objects for other processes; a tensor that many of them hold is written once.

    A file bears the hash of what is in it, so that the next population on the same data writes nothing. What
    a population did not use is removed after it.

    Args:
        read: Gives the tensor there: ``read(path, dtype, shape)``.
    """

    def __init__(self, read: Read | None = None) -> None:
        self._known: dict[int, tuple[Tensor, str]] = {}  # the tensor too: so long its id is its own
        self._read = mapped if read is None else read
        self.files: list[str] = []
        """Of what was packed last."""

    def pack(self, content: object) -> bytes:
        """`content` as bytes, to be read by `unpack` in a process that has the files."""
        self.files = []
        return packed(content, self.place, self._read)

    def place(self, tensor: Tensor) -> str:
        """The file that holds a tensor's numbers."""
        if id(tensor) not in self._known:
            numbers: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()
            raw = memoryview(numbers)
            path = _place() / hashlib.blake2b(raw, digest_size=20).hexdigest()
            if not path.exists():
                path.write_bytes(raw)
            self._known[id(tensor)] = tensor, str(path)
        self.files.append(self._known[id(tensor)][1])
        return self._known[id(tensor)][1]

    def tidy(self) -> None:
        """Remove the files that were not used; who has one mapped keeps it."""
        used = {Path(path) for _, path in self._known.values()}
        for path in set(_folder[0].iterdir() if _folder else ()) - used:
            with contextlib.suppress(OSError):
                path.unlink()


def packed(content: object, place: Callable[[Tensor], str] | None = None, read: Read | None = None) -> bytes:
    """`content` as bytes.

    Args:
        content: Anything; functions and classes that no other process can import go by value.
        place: Gives the file of a large tensor; None for tensors by value.
        read: Gives the tensor in a file, where it is unpacked; `mapped` if left out.
    """
    cloudpickle = by_value()

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if place is not None and type(obj) is Tensor and _whole(obj):
                return read or mapped, (place(obj), obj.dtype, tuple(obj.shape))
            return super().reducer_override(obj)

    written = io.BytesIO()
    Pickler(written).dump(content)
    return written.getvalue()


def unpack(sent: bytes) -> Any:
    """What another process of this very program packed."""
    return pickle.loads(sent)


def mapped(path: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The tensor in a file: its pages are those of every process, until one of them writes to it."""
    count = torch.Size(shape).numel()
    return torch.from_file(path, shared=False, size=count, dtype=dtype).reshape(shape)


def _whole(tensor: Tensor) -> bool:
    """Whether its numbers, all of its storage, are large and lie in this machine's memory in order."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.requires_grad:
        return False
    size = tensor.numel() * tensor.element_size()
    plain = (
        tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg() and not tensor.is_quantized
    )
    return size >= LARGE and plain and tensor.untyped_storage().nbytes() == size


def _place() -> Path:
    if not _folder:
        _folder.append(Path(tempfile.mkdtemp(prefix="downslope-")))
        atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
    return _folder[0]
