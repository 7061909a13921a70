"""A last batch of one example, of which batch norm has no variance: told and avoided beforehand."""

from __future__ import annotations

import itertools
import logging

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from downslope.core import batches
from downslope.core.errors import DataError
from downslope.core.sources import Loader, Source
from downslope.training.state import StepState

_log = logging.getLogger("downslope")


def batch_size_for(state: StepState, train: Source, batch_size: int) -> int:
    """`batch_size`, or the nearest that leaves no last batch of one example, where batch norm refuses that.

    No example is left out and none is seen twice: an epoch stays what it is.

    Args:
        state: Model and first batch.
        train: The training data.
        batch_size: As the recipe, or the DataLoader, has it.

    Raises:
        DataError: a DataLoader's own batches end so; their size is not ours to change.
    """
    size, parts, steps = train.size, state.recipe.accumulate, state.recipe.steps
    if size is None or batch_size < 2 or not _lone(size, batch_size, parts):
        return batch_size
    never = steps is not None and steps < -(-size // batch_size)  # the run ends before it
    if never or not _refuses_one(state):
        return batch_size
    cut = "" if parts == 1 else f" (in one of accumulate={parts} parts)"
    if isinstance(train, Loader):
        if train.loader.drop_last or train.steps(batch_size) != -(-size // batch_size):
            return batch_size
        raise DataError(
            f"the DataLoader's {size} examples in batches of {batch_size} leave a last batch of one{cut}, "
            "of which batch norm has no variance: DataLoader(..., drop_last=True), or another batch_size"
        )
    near = itertools.chain(range(batch_size - 1, 1, -1), range(batch_size + 1, size + 1))
    fits = (each for each in near if each >= 2 * parts and not _lone(size, each, parts))
    taken = next(fits, batch_size)
    _log.warning(
        "batch_size %d leaves a last batch of one of the %d examples%s, of which batch norm has no variance: "
        "%d is taken", batch_size, size, cut, taken,
    )  # fmt: skip
    return taken


def _lone(size: int, batch_size: int, parts: int) -> bool:
    """Whether the last batch, or one of the parts that it is cut into, holds a single example."""
    last = size % batch_size or batch_size
    return last // min(parts, last) == 1


def _refuses_one(state: StepState) -> bool:
    """Whether the model, in training, cannot take a single example because of a batch norm."""
    model: nn.Module = state.model
    if not any(isinstance(each, _BatchNorm) and each.training for each in model.modules()):
        return False
    one = batches.map_tensors(lambda leaf: leaf[:1], state.batch)
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    args, kwargs, _ = state.objective.split(one)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model(*args, **kwargs)
    except ValueError as error:
        return "more than 1 value" in str(error)
    except Exception:  # noqa: BLE001 (what else is wrong with one example shows where it is met)
        return False
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(kept[name])
    return False
