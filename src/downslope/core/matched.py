"""Weights of one model taken over by another, by name and shape, and what came of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import names
from downslope.core.errors import WeightsError
from downslope.core.state_files import State, read_state
from downslope.core.weights import copied

__all__ = ["Matched", "load_weights", "matched"]

WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model/")
"""What DataParallel, `torch.compile`, Fabric and our own resume state put before or inside names."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Matched:
    """What of a state dict a model took, and what not.

    Attributes:
        source: The weights, in a short name.
        place: The path that finds them again; None where they were in memory only.
        fingerprint: A hash of the weights.
        taken: Names in the model that were filled.
        missing: Names in the model that the weights lack; they keep their initial values.
        unexpected: Names in the weights that the model has not; they are left out.
        reshaped: Name in the model to its shape there and here; they keep their initial values.
        parameters: Numbers of the model's parameters: those that were filled, and all.
        told: What was decided on the way: prefixes, parts, types, one line each.
    """

    source: str
    place: str | None
    fingerprint: str
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[Shape, Shape]]
    parameters: tuple[int, int]
    told: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the model's parameters that was filled, in [0, 1]."""
        filled, every = self.parameters
        return filled / every if every else 0.0

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names in the model that keep their initial values."""
        return (*self.reshaped, *self.missing)

    @property
    def line(self) -> str:
        """The whole in one line."""
        kept = f"; as initialised: {_few(self.fresh)}" if self.fresh else ""
        left = f"; left out: {_few(self.unexpected)}" if self.unexpected else ""
        told = f" ({'; '.join(self.told)})" if self.told else ""
        tensors = len(self.taken) + len(self.fresh)
        return (
            f"weights {self.source}: {len(self.taken)} of {tensors} tensors, {_percent(self.share)} of the "
            f"parameters{told}{kept}{left}"
        )

    def __str__(self) -> str:
        filled, every = self.parameters
        lines = [
            f"{self.source}: {len(self.taken)} of {len(self.taken) + len(self.fresh)} tensors taken, "
            f"{_percent(self.share)} of the parameters ({filled:,} of {every:,})"
        ]
        lines += [f"  {each}" for each in self.told]
        lines += [
            f"  another shape, as initialised: {name} {_shape(there)} there, {_shape(here)} here"
            for name, (there, here) in list(self.reshaped.items())[:6]
        ]
        if len(self.reshaped) > 6:
            lines.append(f"  ... and {len(self.reshaped) - 6} more of another shape")
        lines += [f"  not there, as initialised: {_few(self.missing, 6)}"] if self.missing else []
        lines += [f"  not in the model, left out: {_few(self.unexpected, 6)}"] if self.unexpected else []
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a Run's folder."""
        return {
            "source": self.source, "place": self.place, "fingerprint": self.fingerprint,
            "taken": len(self.taken), "missing": list(self.missing), "unexpected": list(self.unexpected),
            "reshaped": {k: [list(a), list(b)] for k, (a, b) in self.reshaped.items()},
            "parameters": list(self.parameters), "share": self.share, "told": list(self.told),
            "line": self.line,
        }  # fmt: skip


def load_weights(
    model: nn.Module,
    source: Any,
    *,
    rename: Mapping[str, str | None] | None = None,
    prefix: str | None = None,
    part: str | None = None,
    strict: bool = False,
) -> Matched:
    """Fill `model` with the weights of `source` that fit by name and shape; the rest stays as initialised.

    Nothing of a file is executed: pickles are read with ``weights_only=True``. The model changes only when
    everything is read and checked, so a broken file leaves it as it was. Tied weights count under any name.

    Args:
        model: Changed in place; parameters and buffers keep their dtype and device.
        source: A path (safetensors, in shards too; .pt, .pth, .bin; the folder of a Run or of a hub), a Run,
            a module, a state dict or a training checkpoint.
        rename: Names there to names here, of tensors or of whole modules (``{"fc": "head"}``); None leaves
            them out.
        prefix: What to take off the names there (``"module.encoder_q."``; others are left out); found by
            itself if left out: wrappers of DataParallel, `torch.compile` and Lightning, or a model inside
            another one, either way round.
        part: Key of a training checkpoint, such as "model_ema"; found by itself if left out.
        strict: Whether everything has to fit, both ways.

    Returns:
        What was taken and what not; print it.

    Raises:
        WeightsError: not readable, refused, nothing fits (the nearest names are told), or not all of it
            with `strict`.
    """
    found, values = _compared(model, source, rename or {}, prefix, part)
    if strict and (found.fresh or found.unexpected):
        raise WeightsError(f"strict: {found.line}")
    before = copied(model.state_dict())
    try:
        model.load_state_dict(before | values)
    except Exception as error:  # a module's own hook may refuse anything
        model.load_state_dict(before)
        raise WeightsError(f"weights {found.source}: the model refuses them: {error}") from error
    return found


def matched(
    model: nn.Module,
    source: Any,
    *,
    rename: Mapping[str, str | None] | None = None,
    prefix: str | None = None,
    part: str | None = None,
) -> Matched:
    """What `load_weights` would take of `source`; the model stays as it is.

    Raises:
        WeightsError: as `load_weights`.
    """
    return _compared(model, source, rename or {}, prefix, part)[0]


def _compared(
    model: nn.Module, source: Any, rename: Mapping[str, str | None], prefix: str | None, part: str | None
) -> tuple[Matched, dict[str, Tensor]]:
    state = read_state(source, part)
    here = _fillable(model.state_dict())
    there, told = _renamed(state, rename, prefix)
    if any(_units(key) for key in there):
        there, told = _fillable(there), (*told, "the units of the other target (_after) left out")
    there, how = (there, "") if prefix is not None else _fitted(there, here)
    told += (how,) if how else ()
    values = {k: v for k, v in there.items() if k in here and v.shape == here[k].shape}
    other = [k for k, v in values.items() if _kind(v) != _kind(here[k])]
    told += (f"of another type, as initialised: {_few(other)}",) if other else ()
    values = {k: v for k, v in values.items() if k not in other}
    matrices = any(v.dim() > 1 for v in here.values())
    if not any(v.dim() > 1 or not matrices for v in values.values()):  # a bias of like size is no evidence
        raise WeightsError(_nothing(state, there, here))
    values |= _ties(values, here)
    found = Matched(
        source=state.label,
        place=state.place,
        fingerprint=state.fingerprint,
        taken=tuple(values),
        missing=tuple(k for k in here if k not in there and k not in values and not _scale(k)),
        unexpected=tuple(k for k in there if k not in here),
        reshaped={
            k: (tuple(there[k].shape), tuple(here[k].shape)) for k in here if k in there and k not in values
        },
        parameters=_counted(model, here, values),
        told=(*state.told, *told, *_scales(values, here), *_types(values, here)),
    )
    return found, values


def _renamed(
    state: State, rename: Mapping[str, str | None], prefix: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The names as the caller wants them, before anything is guessed."""
    tensors, told = state.tensors, ()
    if prefix is not None:
        kept = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
        if not kept:
            near = names.did_you_mean(prefix, {k.rpartition(".")[0] + "." for k in tensors})
            raise WeightsError(f"weights {state.label}: no name begins with {prefix!r}{near}")
        left = len(tensors) - len(kept)
        told = (f"prefix {prefix!r} taken off" + (f", {left} others left out" if left else ""),)
        tensors = kept
    for old, new in rename.items():
        hit = {k for k in tensors if k == old or k.startswith(old.removesuffix(".") + ".")}
        if not hit:
            near = names.did_you_mean(old, {part for k in tensors for part in (k, k.rpartition(".")[0])})
            raise WeightsError(f"weights {state.label}: nothing there is called {old!r}{near}")
        stem = old.removesuffix(".")
        tensors = {
            (str(new).removesuffix(".") + k[len(stem) :] if k in hit else k): v
            for k, v in tensors.items()
            if k not in hit or new is not None
        }
        told = (*told, f"{old} -> {new}" if new is not None else f"{old} left out")
    return tensors, told


def _fitted(there: dict[str, Tensor], here: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The names there as they fit most of the model: as they are, without wrappers, or below a prefix."""
    best, said, score = there, "", _fit(there, here)
    if score[1] == len(here):
        return best, said
    bare = {_unwrapped(key): value for key, value in there.items()}
    if len(bare) == len(there) and (own := _fit(bare, here)) > score:
        best, said, score = bare, _wrappers(there), own
    for (off, on), _ in _prefixes(bare, here).most_common(4):
        moved = {on + k[len(off) :]: v for k, v in bare.items() if k.startswith(off)}
        moved |= {k: v for k, v in bare.items() if not k.startswith(off) and k not in moved}
        if (own := _fit(moved, here)) > score:
            steps = [_wrappers(there)] * (bare.keys() != there.keys())
            steps += [f"prefix {off!r} taken off"] * bool(off) + [f"prefix {on!r} put before"] * bool(on)
            best, said, score = moved, ", ".join(steps), own
    return best, said


def _unwrapped(name: str) -> str:
    for each in WRAPPERS:
        name = name.removeprefix(each).replace(f".{each}", ".")
    return name


def _wrappers(there: Mapping[str, Tensor]) -> str:
    gone = [each for each in WRAPPERS if any(each in key for key in there)]
    return f"{' and '.join(map(repr, gone))} taken out of the names"


def _fit(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers that fit by name and shape; then names that fit, so that another head is seen as such."""
    both = [key for key in there if key in here]
    return sum(here[k].numel() for k in both if there[k].shape == here[k].shape), len(both)


def _prefixes(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Counter[tuple[str, str]]:
    """How many names agree in shape once a prefix there is taken off and one here is put before."""
    ends: dict[tuple[str, Shape], list[str]] = {}
    for key, value in here.items():
        for stem, rest in _cuts(key):
            ends.setdefault((rest, tuple(value.shape)), []).append(stem)
    votes: Counter[tuple[str, str]] = Counter()
    for key, value in there.items():
        for off, rest in _cuts(key):
            for on in ends.get((rest, tuple(value.shape)), ()):
                if off != on:
                    votes[off, on] += 1
    return votes


def _cuts(name: str) -> list[tuple[str, str]]:
    """Every prefix with what follows it, of at least a module and the name of its tensor."""
    parts = name.split(".")
    return [(".".join(parts[:i]) + "." * bool(i), ".".join(parts[i:])) for i in range(max(len(parts) - 1, 1))]


def _ties(values: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other names of what is tied to something that was taken."""
    filled = {here[key].data_ptr(): value for key, value in values.items() if here[key].numel()}
    return {
        key: filled[own.data_ptr()]
        for key, own in here.items()
        if key not in values and own.numel() and own.data_ptr() in filled
        and filled[own.data_ptr()].shape == own.shape
    }  # fmt: skip


def _counted(model: nn.Module, here: Mapping[str, Tensor], taken: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers of the parameters: filled, and all; tied ones once."""
    filled = {here[key].data_ptr() for key in taken if here[key].numel()}
    sizes = {p.data_ptr(): p.numel() for p in model.parameters() if p.numel()}
    return sum(size for place, size in sizes.items() if place in filled), sum(sizes.values())


def _kind(value: Tensor) -> tuple[bool, bool]:
    """What is never cast into one another: whole numbers (quantised weights), real and complex ones."""
    return value.is_floating_point(), value.is_complex()


def _units(name: str) -> bool:
    """Whether it belongs to the way back to the units of a target, which another target does not share."""
    return re.match(r"(_\d+)?_after\.", name) is not None


def _scale(name: str) -> bool:
    """Whether it belongs to what standardises inputs, which a problem measures on its own data."""
    return re.match(r"(_\d+)?_before\.", name) is not None


def _scales(values: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> tuple[str, ...]:
    """By which data inputs are standardised."""
    if not any(_scale(k) for k in here):
        return ()
    return (f"inputs standardised as {'there' if any(_scale(k) for k in values) else 'the data here is'}",)


def _fillable(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if isinstance(v, Tensor) and not _units(k)}


def _types(values: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> tuple[str, ...]:
    """What was cast, and what is not finite, in words."""
    told: list[str] = []
    casts = Counter(
        (str(v.dtype).removeprefix("torch."), str(here[k].dtype).removeprefix("torch."))
        for k, v in values.items()
        if v.dtype != here[k].dtype and v.is_floating_point()
    )
    told += [f"{count} tensors cast from {old} to {new}" for (old, new), count in casts.items()]
    broken = [k for k, v in values.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    told += [f"not finite there: {_few(broken)}"] if broken else []
    return tuple(told)


def _nothing(state: State, there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> str:
    """Why nothing fits, in one line."""
    alike = [key for key in here if key in there and there[key].shape != here[key].shape]
    if alike:
        key = alike[0]
        return (
            f"weights {state.label}: names fit, shapes do not ({key}: {_shape(there[key].shape)} "
            f"there, {_shape(here[key].shape)} here): another size of the model; give it that size"
        )
    if not there or not here:
        return f"weights {state.label}: {'no tensors there' if here else 'the model has nothing to fill'}"
    first = next(iter(here))
    near = (names.nearest(first, there, 1, 0.3) or list(there))[0]
    return (
        f"weights {state.label}: of another model, no name fits (here {first!r}, there {near!r}, ...); "
        "load_weights(model, path, rename={there: here}) says what is what"
    )


def _few(listed: Sequence[str], most: int = 3) -> str:
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(each) for each in shape) or "scalar"


def _percent(share: float) -> str:
    return "100 %" if share == 1 else f"{min(100 * share, 99.9):.3g} %"
