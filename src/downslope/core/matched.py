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
from downslope.core.weight_names import Shape, fitted, renamed
from downslope.core.weights import copied

__all__ = ["Matched", "load_weights", "matched"]


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
        retyped: Names in the model that are numbers of another kind there; they keep their initial values.
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
    retyped: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the model's parameters that was filled, in [0, 1]."""
        filled, every = self.parameters
        return filled / every if every else 0.0

    @property
    def fresh(self) -> tuple[str, ...]:
        """Names in the model that keep their initial values."""
        return (*self.reshaped, *self.retyped, *self.missing)

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
            "retyped": list(self.retyped),
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
    strict: bool | None = None,
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
        strict: True: everything has to fit, both ways; False: whatever fits is taken, be it one layer. None:
            half of the tensors, here or there, or half of the model's parameters have to fit, unless `rename`
            or `prefix` says what is what.

    Returns:
        What was taken and what not; print it.

    Raises:
        WeightsError: not readable, refused, nothing fits (the nearest names are told), or less of it than
            `strict` says.
    """
    found, values = _compared(model, source, rename or {}, prefix, part)
    if strict and (found.fresh or found.unexpected):
        raise WeightsError(f"strict: {found.line}")
    if strict is None and not rename and prefix is None:
        _refuse_little(found)
    before = copied(model.state_dict())
    try:
        model.load_state_dict(before | values)
    except Exception as error:  # a module's own hook may refuse anything
        model.load_state_dict(before)
        raise WeightsError(f"weights {found.source}: the model refuses them: {error}") from error
    return found


def _refuse_little(found: Matched) -> None:
    """Refuse the weights of another model that happens to share a layer.

    Raises:
        WeightsError: with the counts.
    """
    taken = len(found.taken)
    here = taken + len(found.fresh)
    there = here - len(found.missing) + len(found.unexpected)
    if 2 * taken >= min(here, there) or found.share >= 0.5:
        return
    raise WeightsError(
        f"weights {found.source}: only {taken} of its {there} tensors ({_few(found.taken)}) fit the model's "
        f"{here}, {_percent(found.share)} of the parameters: those of another model? strict=False takes what "
        "fits on purpose, rename={there: here} says what is what"
    )


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
    there, told = renamed(state, rename, prefix)
    if any(_units(key) for key in there):
        there, told = _fillable(there), (*told, "the units of the other target (_after) left out")
    there, how = (there, "") if prefix is not None else fitted(there, here)
    told += (how,) if how else ()
    values = {k: v for k, v in there.items() if k in here and v.shape == here[k].shape}
    other = tuple(k for k, v in values.items() if not _castable(v, here[k]))
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
            k: (tuple(there[k].shape), tuple(here[k].shape))
            for k in here
            if k in there and k not in values and k not in other
        },
        retyped=other,
        parameters=_counted(model, here, values),
        told=(*state.told, *told, *_scales(values, here), *_types(values, here)),
    )
    return found, values


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


def _castable(there: Tensor, here: Tensor) -> bool:
    """Whether numbers there may be cast to the type here: whole ones (quantised weights) never to real ones.

    Counters that were cast with the rest (``model.half()`` leaves them, a loop over the state dict does not)
    are whole numbers still.
    """
    kinds = [(each.is_floating_point(), each.is_complex()) for each in (there, here)]
    if kinds[0] == kinds[1]:
        return True
    counter = kinds == [(True, False), (False, False)] and here.dtype != torch.bool
    return counter and bool(torch.isfinite(there).all()) and bool((there == there.round()).all())


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
    for old in dict.fromkeys(kinds[0] for kinds in casts):
        (new, count), *more = [(kinds[1], count) for kinds, count in casts.items() if kinds[0] == old]
        others = "".join(f", {number} to {kind}" for kind, number in more)
        told.append(f"{count} tensor{'s' if count > 1 else ''} cast from {old} to {new}{others}")
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
