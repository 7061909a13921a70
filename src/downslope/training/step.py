"""One optimizer step on one batch: objective, gradient, clip, move."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from downslope.core import batches, names, randomness
from downslope.core.adapted import Adapted
from downslope.core.errors import DownslopeError, InputError, ModelError, told
from downslope.core.loss import Loss, learnt
from downslope.training.accumulate import Parts
from downslope.training.hints import hint
from downslope.training.methods import is_method
from downslope.training.shown import looks_again
from downslope.training.state import StepState
from downslope.training.ways import compiled

if TYPE_CHECKING:
    from downslope.training.curved import Curved


TWICE = (
    "two gradients a step; the second look draws the same dropout, batch norm keeps the statistics of the "
    "first, and only the second gradient is clipped"
)
"""Said of a run whose optimizer climbs before it steps."""


class Step:
    """The parts of a step, in their order; the loop calls them and observes in between.

    Args:
        state: Model, optimizer and objective, on their device.

    Attributes:
        bfloat16: Whether forward passes are cast.
        probed: Whether hooks watch this step.
        rewind: Puts randomness back to the start of the step, or of a part of its batch; the loop sets it.
        curved: Takes the place of forward, backward and move for a method that looks more than once.
    """

    def __init__(self, state: StepState) -> None:
        self.state = state
        self.parameters = [p for p in state.model.parameters() if p.requires_grad]
        if (beside := learnt(state.objective.function)) is not None:
            self.parameters += [p for p in beside.parameters() if p.requires_grad]
        self._combine: Any = getattr(state.objective.function, "combine", None)
        self.bfloat16 = state.run.choices.get("precision") == "bfloat16"
        self.probed = False
        self.rewind: Callable[[int], None] = lambda _: None
        self._compiled = compiled(state.model) if state.run.choices.get("compiled") else None
        self._length = batches.length(state.batch) if self._compiled is not None else 0
        self._restores = isinstance(state.model, Adapted) and state.model.transforms_target
        self._needs_closure = looks_again(state.optimizer)
        self._climbs = self._needs_closure and not isinstance(state.optimizer, torch.optim.LBFGS)
        if self._climbs:
            state.run.choices["looks"] = TWICE
        self.parts = Parts(state, self._loss, self.casting) if state.recipe.accumulate > 1 else None
        if self.parts is not None:
            self.parts.rewind = self._rewound
        self.curved = _curved(state, self.parts)
        if self.curved is not None:
            self.curved.rewind = self._rewound

    def _rewound(self, part: int = 0) -> None:
        self.rewind(part)

    def forward(self, batch: Any) -> tuple[Loss, float]:
        """The objective on `batch`, and the risk in the user's units (the whole where that is not finite).

        Raises:
            ModelError: model or objective cannot take the batch.
        """
        state = self.state
        loss = self._looked(batch)
        value = state.objective.sign * loss.value.item()
        if (self._restores or loss.penalty is not None) and math.isfinite(value):
            value = state.objective.restored(state.model, loss, batch).item()
        return loss, value

    def backward(self, loss: Loss) -> None:
        """The gradient of `loss`, in the place of the former one; of a batch in parts it stands there."""
        if self.curved is not None:
            self.curved.backward()
            return
        if self.parts is not None:
            return
        for parameter in self.parameters:  # not before: the last gradient tells why a loss is not finite
            parameter.grad = None
        if self._combine is None or not loss.parts:
            loss.value.backward()
            return
        state = self.state
        place = randomness.generator(state.recipe.seed, "objective", state.step + 1)
        self._combine(loss.parts, self.parameters, place)
        if loss.penalty is not None:
            loss.penalty.backward()

    def clip(self) -> None:
        """Bound the gradient as the recipe says; of an optimizer that climbs by it first, only the next."""
        if not self._climbs:
            self._clip()

    def _clip(self) -> None:
        recipe = self.state.recipe
        if recipe.clip_norm is None and recipe.clip_value is None:
            return
        held = [_held(p) for p in self.parameters]
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(held, recipe.clip_norm)
        if recipe.clip_value is not None:
            nn.utils.clip_grad_value_(held, recipe.clip_value)

    def move(self, batch: Any) -> None:
        """The optimizer's step, and the way back into the allowed set.

        Raises:
            InputError: optimizer or constraint fails.
        """
        with _named(f"optimizer {self.state.recipe.optimizer}"):
            self._advance(batch)
        self.hold()

    @property
    def stopped(self) -> bool:
        """Whether an optimizer with ``nonfinite="stop"`` has met a gradient that is not finite."""
        return bool(getattr(self.state.optimizer, "stopped", False))

    def hold(self) -> None:
        """Bring the weights back into the allowed set, where there is one.

        Raises:
            InputError: the constraint fails.
        """
        if self.state.problem.constraint is not None:
            with _named("the constraint"), torch.no_grad():
                self.state.problem.constraint(self.state.model)

    def _advance(self, batch: Any) -> None:
        if self.curved is not None:
            self.curved.move()
        elif self._needs_closure:
            self.state.optimizer.step(self._closure(batch))
        else:
            self.state.optimizer.step()

    def _model(self, batch: Any) -> nn.Module:
        """The model, compiled where that was chosen; hooks and a smaller batch go to the model itself."""
        if self._compiled is None or self.probed or batches.length(batch) != self._length:
            return self.state.model
        return self._compiled

    def casting(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass: autocast where the run's precision is bfloat16."""
        if not self.bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self.state.device.type, dtype=torch.bfloat16)

    def _looked(self, batch: Any) -> Loss:
        if self.curved is None:
            return self._loss(batch) if self.parts is None else self.parts.forward(batch)
        curved = self.curved
        return self._guarded(batch, lambda: curved.forward(batch, fresh=self.probed))

    def _loss(self, batch: Any) -> Loss:
        def forward() -> Loss:
            with self.casting():
                return self.state.objective(self._model(batch), batch)

        return self._guarded(batch, forward)

    def _guarded(self, batch: Any, forward: Callable[[], Loss]) -> Loss:
        try:
            return forward()
        except DownslopeError:
            raise
        except Exception as error:
            shapes = [tuple(each.shape) for each in batches.tensors(batch)]
            way = hint(error, self.state.problem, batch)
            raise ModelError(
                f"step {self.state.step + 1} failed on a batch of shapes {shapes}: {told(error)}{way}"
            ) from error

    def _closure(self, batch: Any) -> Callable[[], float]:
        def closure() -> float:
            loss, _ = self.forward(batch)
            self.backward(loss)
            return loss.value.item()

        def again() -> float:
            """The same draws as at the first look, and statistics of norms are taken once."""
            self.rewind(0)
            with names.load("downslope.optim:held_statistics")(self.state.model):
                value = closure()
            self._clip()
            return value

        return again if self._climbs else closure


def _held(p: Tensor) -> Tensor:
    """`p`, or, if its gradient is sparse, a tensor whose gradient is the values of that, in their memory."""
    if p.grad is None or p.grad.layout == torch.strided:
        return p
    p.grad = p.grad.coalesce()
    held = torch.empty_like(p.grad.values())
    held.grad = p.grad.values()
    return held


def _curved(state: StepState, parts: Parts | None) -> Curved | None:
    if not is_method(state.optimizer):
        return None
    from downslope.training.curved import Curved

    return Curved(state, state.optimizer, parts)


@contextlib.contextmanager
def _named(doing: str) -> Generator[None]:
    """A block whose failure is told in one line."""
    try:
        yield
    except DownslopeError:
        raise
    except Exception as error:
        raise InputError(f"{doing} failed: {told(error)}") from error
