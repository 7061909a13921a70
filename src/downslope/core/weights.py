"""Tensors by name in safetensors files: never a pickle, tied weights once, the last good file kept."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from downslope.core.errors import RunFolderError


def save_tensors(path: Path, state: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
    """Write the tensors of `state` to `path`, replacing it only when the new file is whole.

    Tensors that are one and the same (tied weights) are written once, their names kept. A CRC-32 of every
    tensor goes with them, by which `load_tensors` knows a file whose bytes changed on the disk.

    Args:
        path: The file.
        state: Name to tensor; what is no tensor is left out.
        notes: JSON values kept beside the tensors.

    Raises:
        RunFolderError: the file cannot be written (full disk, no permission); the former file stays.
    """
    written: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        key = _identity(value)
        if value.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        written[name] = value.detach().to("cpu", copy=True).contiguous()
    metadata = {"aliases": json.dumps(aliases), "notes": json.dumps(notes or {})}
    metadata["checksums"] = json.dumps({name: _checksum(value) for name, value in written.items()})
    metadata["checksum"] = _checksum_of_notes(metadata)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(written, partial, metadata=metadata)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        stays = "the former stays" if path.exists() else "there was none before"
        raise RunFolderError(f"{path} could not be written ({error}); {stays}") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and notes that `save_tensors` wrote; files of others, which have no checksums, as they are.

    Raises:
        RunFolderError: the file is missing or broken, or what it holds is not what was written.
    """
    try:
        with cast("Any", safe_open)(path, framework="pt") as opened:
            entries = list[str](opened.keys())
            state: dict[str, Tensor] = {name: opened.get_tensor(name) for name in entries}
            metadata: dict[str, str] = opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise RunFolderError(f"{path} is missing or broken: {error}") from error
    _check_unchanged(path, state, metadata)
    try:
        for name, original in json.loads(metadata.get("aliases", "{}")).items():
            state[name] = state[original]
        return state, json.loads(metadata.get("notes", "{}"))
    except (KeyError, ValueError) as error:
        raise RunFolderError(f"{path} is broken: its notes cannot be read ({error})") from error


def _checksum(tensor: Tensor) -> int:
    """CRC-32 of the bytes of a contiguous tensor on the CPU, read where they lie."""
    return zlib.crc32(memoryview(cast("Any", tensor.reshape(-1).view(torch.uint8).numpy())))


def _checksum_of_notes(metadata: Mapping[str, str]) -> str:
    """CRC-32 of what a file says beside its tensors."""
    return str(zlib.crc32("".join(metadata.get(key, "") for key in NOTED).encode()))


NOTED = ("aliases", "notes", "checksums")


def _check_unchanged(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Refuse a file whose bytes are not those that were written; one without checksums is not checked."""
    if "checksum" not in metadata:
        return
    changed = "its bytes changed since it was written; take another copy of it, or start anew"
    if _checksum_of_notes(metadata) != metadata["checksum"]:
        raise RunFolderError(f"{path} is broken: its notes are not those that were written, {changed}")
    for name, written in json.loads(metadata["checksums"]).items():
        if name not in state or _checksum(state[name]) != written:
            raise RunFolderError(f"{path} is broken at tensor {name!r}: {changed}")


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """What two names of one tensor have in common."""
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))


def copied(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` with its tensors copied, tied ones once."""
    made: dict[tuple[Any, ...], Tensor] = {}

    def copy(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        key = _identity(value)
        if not value.numel() or key not in made:
            made[key] = value.detach().clone()
        return made[key]

    with torch.no_grad():
        return {name: copy(value) for name, value in state.items()}
