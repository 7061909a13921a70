"""What a run keeps of itself while it goes: last and best weights, and the place that it can go on from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from downslope.core.run import OBJECTIVE, objective_file
from downslope.core.weights import save_tensors
from downslope.training.band import Watch
from downslope.training.checkpoint import RESUMED_BEST, load_resume, save_resume

if TYPE_CHECKING:
    from downslope.training.loop import Loop


def write(loop: Loop, folder: Path, models: Mapping[str, nn.Module]) -> None:
    """Write the weights and, unless the run diverged, the resume state.

    Args:
        loop: The run as it stands.
        folder: Of the run.
        models: Name to what is trained or averaged.

    Raises:
        OSError: the folder cannot be written.
    """
    state, checkpoints = loop.state, folder / "checkpoints"
    save_tensors(checkpoints / "last.safetensors", loop.judged.state_dict())
    if loop.best is not None:
        save_tensors(checkpoints / "best.safetensors", loop.best)
    if (beside := models.get(OBJECTIVE)) is not None:
        save_tensors(objective_file(folder), beside.state_dict())
    if state.run.status != "diverged":
        place = {
            "step": state.step, "epoch": state.epoch, "position": loop.position,
            "watchman": loop.watchman.state(), "probes": [loop.times.taken, loop.times.next],
            "seconds": loop.earlier + time.monotonic() - loop.begun,
            "band": None if loop.watch is None else loop.watch.saved(), "rates": loop.rates.state(),
        }  # fmt: skip
        save_resume(folder, models, state.optimizer, place)


def restore(loop: Loop, folder: Path, models: Mapping[str, nn.Module]) -> None:
    """Put the loop back to where `write` left it; a run that kept no step starts again at step 0.

    Args:
        loop: A new loop of the same problem and recipe.
        folder: Of the run.
        models: Name to what is trained or averaged.

    Raises:
        RunFolderError: the file is broken or belongs to another model or optimizer.
    """
    state = loop.state
    place = load_resume(folder, models, state.optimizer)
    if place is None:
        loop.recorder.rewind(-1)
        return
    loop.earlier = float(place.get("seconds", 0.0))
    state.step, state.epoch, loop.position = place["step"], place["epoch"], place["position"]
    loop.watchman.restore(place["watchman"])
    loop.times.taken, loop.times.next = place["probes"]
    loop.rates.restore(place.get("rates") or {})
    _restore_precision(loop, place.get("band"))
    loop.recorder.rewind(state.step)
    checkpoints = folder / "checkpoints"
    if (checkpoints / RESUMED_BEST).exists():
        (checkpoints / RESUMED_BEST).replace(checkpoints / "best.safetensors")
    if (checkpoints / "best.safetensors").exists():
        loop.best = dict(state.run.state("best"))


def _restore_precision(loop: Loop, band: dict[str, Any] | None) -> None:
    """The precision as it stood at the checkpoint, which a later look may have changed; state in layout."""
    state = loop.state
    if state.recipe.precision == "auto" and state.run.choices.get("precision") != "float64":
        loop.take.bfloat16 = band is not None
        loop.watch = None if band is None else Watch(state)
        state.run.choices["precision"] = "float32" if band is None else "bfloat16"
        if loop.watch is not None and band is not None:
            loop.watch.restore(band)
    for p, own in cast("dict[torch.Tensor, dict[str, Any]]", state.optimizer.state).items():
        for key, value in own.items():  # a fused kernel reads both as flat memory
            if isinstance(value, torch.Tensor) and value.shape == p.shape and value.stride() != p.stride():
                own[key] = torch.empty_like(p, dtype=value.dtype).copy_(value)
