"""A problem's augmentation as training calls it: by address, and told what the objective takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from downslope.augment.augmentation import Augmentation
from downslope.augment.foreign import separate
from downslope.core import batches, randomness
from downslope.core.class_targets import IGNORED
from downslope.core.errors import DownslopeError, InputError, told
from downslope.core.loss import Loss
from downslope.core.stated import in_words
from downslope.objectives.meaning import meaning
from downslope.training.evaluate import evaluating
from downslope.training.state import StepState

_SOFT = ("cross_entropy", "CrossEntropyLoss", "categorical")
"""Objectives of classes that take rows of probabilities in the place of indices."""


OF_BATCHES = 1
"""Last counter of the address, so that a Dataset that augments by itself does not draw the same numbers."""


class Augmenter:
    """``augmenter(batch, epoch, index)``: the batch changed by draws at the address (seed, epoch, index).

    Args:
        augment: What the problem says.
        seed: Of the run.
        ignored: The class index that the objective leaves out; what comes from beyond the border gets it.
    """

    def __init__(self, augment: Any, seed: int, ignored: int = IGNORED) -> None:
        self.augment, self.seed, self.ignored = augment, seed, ignored
        self._cuda = torch.cuda.is_available()

    def __call__(self, batch: Any, epoch: int, index: int) -> Any:
        """The batch changed; the one that was given stays as it is.

        Raises:
            InputError: the augmentation fails on the batch.
        """
        if isinstance(self.augment, Augmentation):  # draws from torch alone, which every step reseeds
            place = randomness.address(self.seed, "augment", epoch, index, OF_BATCHES)
            torch.default_generator.manual_seed(place)
            if self._cuda:
                torch.cuda.manual_seed(place)
            return self._beyond(self.augment(batch))
        with randomness.seeded(self.seed, "augment", epoch, index, OF_BATCHES):
            try:
                made = self.augment(separate(batch))
            except DownslopeError:
                raise
            except Exception as error:
                shapes = [tuple(each.shape) for each in batches.tensors(batch)]
                raise InputError(
                    f"augment {in_words(self.augment)} failed on a batch of shapes {shapes}: {told(error)}"
                ) from error
        if made is None:
            raise InputError(f"augment {in_words(self.augment)} gave None: it must return the changed batch")
        return made

    def seeded(self, seed: int) -> Augmenter:
        """The same augmentation with the draws of another seed."""
        return Augmenter(self.augment, seed, self.ignored)

    def _beyond(self, batch: Any) -> Any:
        if self.ignored == IGNORED:
            return batch
        return batches.map_tensors(
            lambda leaf: (
                leaf if leaf.is_floating_point() else torch.where(leaf == IGNORED, self.ignored, leaf)
            ),
            batch,
        )


def augmenter(state: StepState, loss: Loss) -> Augmenter | None:
    """The augmenter of the problem, tried on the first batch; None where it has no augmentation.

    Args:
        state: With the first batch.
        loss: What that batch gave, as it stands.

    Raises:
        InputError: the augmentation is not for these inputs, or mixes targets that the objective does not
            take mixed.
    """
    augment = state.problem.augment
    if augment is None:
        return None
    if isinstance(augment, Augmentation) and augment.lacks:
        labels = _labels(state) if "labels" in augment.lacks else "soft"
        soft = labels == "soft" and "classes" in augment.lacks
        augment = augment.bound(labels, _classes(loss) if soft else None)
    ignored = getattr(state.problem.objective, "ignore_index", IGNORED)
    made = Augmenter(augment, state.recipe.seed, ignored if isinstance(ignored, int) else IGNORED)
    with torch.random.fork_rng(devices=_devices(state.device)):
        batch = made(state.batch, 0, 0)
        _try(state, batch)
    return made


def _labels(state: StepState) -> str:
    """How the target follows where examples are mixed: "soft" (rows of probabilities) or "interpolate".

    Raises:
        InputError: the objective takes no mixed target.
    """
    known = meaning(state.problem.objective)
    if known.target == "class" and known.name in _SOFT:
        return "soft"
    if known.target in ("real", "binary", "probability") and known.expects != "sign":
        return "interpolate"
    why = (
        "is not known to the mixing: say labels='soft' (rows of probabilities) or 'interpolate' (numbers)"
        if known.target is None
        else "takes no mixture of two targets: 'cross_entropy' does, and so do losses of numbers"
    )
    raise InputError(f"augment {in_words(state.problem.augment)}: the objective {known.name} {why}")


def _classes(loss: Loss) -> int:
    """Number of classes, of an output whose classes are on axis 1."""
    output, target = loss.output, loss.target
    if isinstance(output, Tensor) and isinstance(target, Tensor) and output.dim() >= 2:
        index = target.squeeze(1) if target.dim() == 2 and target.shape[1] == 1 else target
        if output.shape in (index.shape, (len(index), output.shape[1], *index.shape[1:])):
            return output.shape[1]
    shapes = [tuple(each.shape) for each in batches.tensors((output, target))]
    raise InputError(
        f"augment: targets are mixed for outputs (n, classes, ...), and output and target are {shapes}"
    )


def _try(state: StepState, batch: Any) -> None:
    """Put a changed batch through model and objective: what does not fit is told before the first step.

    Raises:
        InputError: in one line, that the batch was right before it was changed.
    """
    try:
        with evaluating(state.model):
            state.objective(state.model, batch)
    except DownslopeError as error:
        raise InputError(f"augment {in_words(state.problem.augment)}: then {error}") from error
    except Exception as error:
        shapes = [tuple(each.shape) for each in batches.tensors(batch)]
        raise InputError(
            f"augment {in_words(state.problem.augment)} makes a batch of shapes {shapes}, which model "
            f"and objective {state.objective.label} do not take: {told(error)}"
        ) from error


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
