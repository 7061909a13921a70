"""State dicts from wherever weights are kept, read without ever running what a file holds.

safetensors, whole or in shards; what `torch.save` wrote (zip or legacy) through ``weights_only=True``; the
folder of a Run or of a model hub; a Run, a module, or a state dict at hand. A training checkpoint is opened
and its model's part taken.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pickletools
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import RunFolderError, WeightsError
from downslope.core.weights import load_tensors

__all__ = ["State", "read_state"]

PARTS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params", "ema")
"""Keys under which training checkpoints keep a model, in the order in which they are tried."""

_NOT_MODELS = re.compile("optim|sched|scaler|loss|criterion|rng|callback|config|args|hyper")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth")
_HEADS = {
    b"\x89HDF": "an HDF5 file (Keras?)", b"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
    b"<!DOCTYPE": "a web page, not the file meant", b"<html": "a web page, not the file meant",
    b"GGUF": "a GGUF file of quantised weights", b"\x1f\x8b": "gzipped; unpack it first",
    b"\x93NUMPY": "one array of NumPy",
}  # fmt: skip
_HOW = "save the weights alone: torch.save(model.state_dict(), path), or safetensors"
_SCALAR: Any = np.float64(0).__reduce__()[0]  # numpy's own rebuilder, wherever this version keeps it
_PLAIN: list[Any] = [Namespace, _SCALAR, np.dtype, *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd")]
"""Plain values beside the weights in many training checkpoints; none of them runs anything."""


class State:
    """Tensors by name, and where they come from.

    Args:
        tensors: Name to tensor; never written to.
        label: A short name for messages.
        place: The path that finds them again; None where they are in memory only.
        told: What was decided on the way, one line each.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], label: str, place: str | None = None, told: tuple[str, ...] = ()
    ) -> None:
        self.tensors, self.label, self.place, self.told = dict(tensors), label, place, told

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of names and values: the same weights have the same, wherever they lie."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            value = self.tensors[name].detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(cast("Any", value.reshape(-1).view(torch.uint8).numpy()) if value.numel() else b"")
        return digest.hexdigest()[:16]


def read_state(source: Any, part: str | None = None) -> State:
    """The state dict that `source` holds.

    Args:
        source: A path (file, folder of a Run, folder of a model hub), a Run, a module, a state dict or a
            training checkpoint at hand.
        part: Key of a training checkpoint under which the model is, such as "model_ema"; found if left out.

    Raises:
        WeightsError: nothing there, broken, refused because it holds code, or no state dict; one line.
    """
    if isinstance(source, State):
        return source
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        try:
            stat = path.stat()
        except OSError as error:
            raise WeightsError(f"weights {path}: {_reason(error)}") from None
        if path.is_dir():
            return _of_folder(path, part)
        return _of_file(str(path.resolve()), stat.st_mtime_ns, stat.st_size, part)
    if isinstance(source, nn.Module):
        return State(_tensors(source.state_dict()), f"a {type(source).__name__} at hand")
    if hasattr(source, "summary") and hasattr(source, "state"):
        return _of_run(source)
    if isinstance(source, Mapping):
        tensors, told = _opened(cast("Mapping[Any, Any]", source), "the weights at hand", part)
        return State(tensors, "a state dict at hand", None, told)
    raise WeightsError(
        f"weights={source!r}: must be a path (safetensors, .pt, the folder of a Run), a Run, a module or a "
        "state dict"
    )


def _of_run(run: Any, label: str = "") -> State:
    which = run.summary.get("model", "last")
    try:
        state = run.state(which)
    except RunFolderError as error:
        raise WeightsError(f"weights of a run: {error}") from None
    place = None if run.folder is None else str(Path(run.folder).resolve())
    name = label or (Path(place).name if place else "a run in memory")
    return State(_tensors(state), name, place, (f"the {which} model of the run",))


def _of_folder(path: Path, part: str | None) -> State:
    if (path / "run.json").is_file():
        try:
            return _of_run(names.load("downslope.core.run:load_run")(path), path.name)
        except RunFolderError as error:
            raise WeightsError(f"weights {path}: {error}") from None
    for index in _INDEX:
        if (path / index).is_file():
            return _of_shards(path, path / index)
    for name in _WHOLE:
        if (path / name).is_file():
            return read_state(path / name, part)
    raise WeightsError(
        f"weights {path}: a folder without run.json and without {' or '.join(_WHOLE[:2])}; name a file in it"
    )


def _of_shards(path: Path, index: Path) -> State:
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(cast("dict[str, str]", listed).values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"weights {index}: no index of shards: {_reason(error)}") from None
    tensors: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name:
            raise WeightsError(f"weights {index}: names {name!r}, which lies outside of the folder")
        tensors |= read_state(path / name).tensors
    absent = [name for name in listed if name not in tensors]
    if absent:
        raise WeightsError(f"weights {path}: the shards lack {absent[0]!r}, which the index names")
    return State(tensors, path.name, str(path.resolve()), (f"{len(files)} shards",))


@functools.lru_cache(maxsize=2)
def _of_file(path: str, changed: int, size: int, part: str | None) -> State:
    """A file's state, read once as long as it stays the same."""
    del changed
    file, name = Path(path), Path(path).name
    try:
        with file.open("rb") as opened:
            head = opened.read(24)
    except OSError as error:
        raise WeightsError(f"weights {name}: {_reason(error)}") from None
    if not size:
        raise WeightsError(f"weights {name}: the file is empty")
    for magic, what in _HEADS.items():
        if head.startswith(magic):
            raise WeightsError(f"weights {name}: {what}; give safetensors or a state dict of torch")
    if head[8:9] == b"{":
        try:
            tensors, _ = load_tensors(file)
        except RunFolderError as error:
            raise WeightsError(f"weights {name}: broken or cut short: {_after(error, path)}") from None
        return State(tensors, name, path)
    held = _unpickled(file)
    if not isinstance(held, Mapping):
        raise WeightsError(f"weights {name}: holds {type(held).__name__}, no state dict; {_HOW}")
    tensors, told = _opened(cast("Mapping[Any, Any]", held), f"weights {name}", part)
    return State(tensors, name, path, told)


def _unpickled(file: Path) -> Any:
    """What `torch.save` wrote: tensors and plain values, or a refusal before anything is executed."""
    try:
        with warnings.catch_warnings(), cast("Any", torch.serialization).safe_globals(_PLAIN):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 (broken bytes make the unpickler raise anything)
        raise WeightsError(f"weights {file.name}: {_refusal(file, error)}") from None


def _refusal(file: Path, error: Exception) -> str:
    text = str(error)
    if "TorchScript" in text:
        return f"a TorchScript archive, which is a program; {_HOW}"
    if ".tar format" in text:
        return (
            "torch's legacy tar format (before 0.1.10), which cannot be read without running it; load it "
            f"where you trust it and {_HOW}"
        )
    if not _is_pickle(file):
        return f"neither safetensors nor a file of torch.save; {_HOW}"
    if (archive := _archive(file)) is not None:
        return archive
    wanted = _globals(file)
    if wanted:
        which = ", ".join(sorted(wanted)[:3])
        kind = (
            "an object of a class"
            if any(each.rpartition(".")[2][:1].isupper() for each in wanted)
            else "code"
        )
        return f"refused, it holds {kind} ({which}) that reading would run; nothing was executed; {_HOW}"
    if "Unsupported operand" in text or "Weights only load failed" in text or not _is_torchs(file):
        return f"refused, it is a pickle that torch.save did not write; nothing was executed; {_HOW}"
    return f"broken or cut short ({_reason(error)})"


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(2**20)
    if head.startswith((b"\x80", b"PK\x03\x04")):
        return True
    try:  # the oldest protocol is text without a mark; as a list of codes it runs nothing
        codes = sum(1 for _ in pickletools.genops(head))
    except Exception:  # noqa: BLE001 (what is no pickle has no list of codes)
        return len(head) == 2**20 and bool(_imports(head))
    return codes > 1


def _is_torchs(file: Path) -> bool:
    """Whether `torch.save` wrote a file: an archive, or before 1.6 pickles after its magic number."""
    with file.open("rb") as opened:
        head = opened.read(24)
    return head.startswith(b"PK") or b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in head


def _archive(file: Path) -> str | None:
    """What a zip archive is that `torch.save` did not write; None for one that it did, or for no archive."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        inside = archive.namelist()
    if any(each.endswith("data.pkl") for each in inside):
        return None
    if inside and all(each.endswith(".npy") for each in inside):
        return (
            "arrays of NumPy (.npz), no state dict; torch.save({name: torch.as_tensor(value) for name, value "
            "in numpy.load(path).items()}, 'weights.pt') makes one"
        )
    return f"a zip archive that torch.save did not write; {_HOW}"


def _globals(file: Path) -> set[str]:
    """What a pickle would import beyond torch's and plain values; it is read as a list of codes, not run."""
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                inside = [each for each in archive.namelist() if each.endswith("data.pkl")]
                data = archive.read(inside[0]) if inside else b""
        else:
            data = file.read_bytes()
        return _imports(data)
    except Exception:  # noqa: BLE001 (a broken pickle has no list of codes)
        return set()


def _imports(data: bytes) -> set[str]:
    found: set[str] = set()
    texts: list[str] = []
    start = 0
    for _ in range(5):  # the legacy format is several pickles, one after another
        end = start
        try:
            for code, argument, place in pickletools.genops(data[start:]):
                end = start + (place or 0) + 1
                if code.name == "GLOBAL":
                    found.add(str(argument).replace(" ", "."))
                elif code.name == "STACK_GLOBAL" and len(texts) > 1:
                    found.add(".".join(texts[-2:]))
                elif isinstance(argument, str):
                    texts.append(argument)
        except ValueError:
            break
        start = end
        if start >= len(data):
            break
    known = ("torch._utils.", "torch.Size", "collections.OrderedDict", "argparse.Namespace", "numpy.",
             "__builtin__.set", "builtins.set")  # fmt: skip
    storages = re.compile(r"torch\.\w*(Storage|float\w*|int\w*|bool|bfloat16)$|torch\.serialization\.")
    return {each for each in found if not each.startswith(known) and not storages.match(each)}


def _tensors(state: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _opened(
    held: Mapping[Any, Any], where: str, part: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The model's part of a training checkpoint; a state dict is its own."""
    if part is not None:
        inside = held.get(part)
        if not isinstance(inside, Mapping):
            raise WeightsError(f"{where}: no part {part!r}{names.did_you_mean(part, map(str, held))}")
        return _opened(cast("Mapping[Any, Any]", inside), where, None)
    own = _tensors(held)
    states = {str(key): found for key, value in held.items() if (found := _state_in(value))}
    if own and not any(len(each) > len(own) for each in states.values()):
        return own, ()
    of_models = [key for key in states if not _NOT_MODELS.search(key.lower())]
    ordered = [key for key in PARTS if key in of_models] + [key for key in of_models if key not in PARTS]
    if not ordered:
        keys = ", ".join(str(key) for key in list(held)[:5]) or "nothing"
        raise WeightsError(f"{where}: no state dict in it, it holds {keys}; {_HOW}")
    taken, others = ordered[0], ordered[1:]
    also = f"; also there: {', '.join(others)} (part=...)" if others else ""
    return states[taken], (f"its part {taken!r}{also}",)


def _state_in(value: Any, depth: int = 0) -> dict[str, Tensor]:
    """The tensors by name in an entry of a checkpoint, or in its own entry of a known name."""
    if isinstance(value, nn.Module):
        return _tensors(value.state_dict())
    if not isinstance(value, Mapping):
        return {}
    entries = cast("Mapping[Any, Any]", value)
    found = _tensors(entries)
    if found and all(isinstance(key, str) for key in entries):
        return found
    inside = (_state_in(entries[key], depth + 1) for key in PARTS if key in entries and depth < 2)
    return next(filter(None, inside), dict[str, Tensor]())


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error).strip()
    return (str(text).splitlines() or [type(error).__name__])[0].split(". This")[0].removesuffix(".")


def _after(error: Exception, path: str) -> str:
    return str(error).rpartition("broken: ")[2] or str(error).replace(path, "")
