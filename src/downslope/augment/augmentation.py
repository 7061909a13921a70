"""What an augmentation is: a change of a batch that leaves the answer as it is, or changes it alike.

An augmentation is called with a batch and gives a new one; the old one stays as it is. Every example gets a
draw of its own, all of them in a few tensor operations on the device where the batch is. The draws come from
torch's global generator of that device, which `fit` puts at an address (seed, epoch, batch), so that a
resumed run and a member of a population see the same images.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor

from downslope.augment.places import Places, places_of
from downslope.core.errors import InputError
from downslope.core.spelling import spell


class Pair(NamedTuple):
    """The two parts of a batch that an augmentation may change."""

    inputs: Tensor
    """Floating point, examples along the first axis."""
    target: Any
    """Of any kind; None where the inputs are their own target."""


@dataclass(frozen=True)
class Augmentation:
    """``batch -> batch``, each example changed with probability `p`, by a draw of its own.

    Args:
        p: Share of the examples that are changed, in [0, 1].

    Raises:
        InputError: a parameter outside its domain.
    """

    name: ClassVar[str] = "augmentation"

    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        self.check_share("p", self.p)

    def __call__(self, batch: Any) -> Any:
        """The batch with its inputs changed, and its target where that follows.

        Args:
            batch: ``(inputs, ..., target)``, a dict with the key ``labels`` and one floating tensor beside
                it (or ``pixel_values``), or the inputs alone.

        Raises:
            InputError: inputs that this augmentation is not for, in one line.
        """
        return changed(self, batch, places_of(batch))

    def change(self, pair: Pair) -> Pair:
        """The two parts of a batch, changed.

        Raises:
            InputError: inputs that this augmentation is not for.
        """
        raise NotImplementedError

    @property
    def lacks(self) -> frozenset[str]:
        """What only the objective tells of how a target is mixed: "labels", "classes"."""
        return frozenset()

    def bound(self, labels: str, classes: int | None) -> Self:
        """The same, told what the objective takes for a target.

        Args:
            labels: "soft" (class indices become rows of probabilities) or "interpolate".
            classes: Number of classes, for "soft".
        """
        del labels, classes
        return self

    def refuse(self, why: str) -> InputError:
        """An error that names this augmentation."""
        return InputError(f"augment {self.name}: {why}")

    def check_share(self, name: str, value: Any, *, zero: bool = True) -> None:
        """Refuse a value outside [0, 1], or outside (0, 1] without `zero`.

        Raises:
            InputError: such a value.
        """
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1 or (value == 0 and not zero):
            raise self.refuse(f"{name}={value!r}: must lie in {'[' if zero else '('}0, 1], it is a share")

    def check_at_least_zero(self, name: str, value: Any) -> None:
        """Refuse what is no finite number from 0.

        Raises:
            InputError: such a value.
        """
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise self.refuse(f"{name}={value!r}: must be a finite number of at least 0")

    def check_range(self, name: str, value: Any, low: float, high: float) -> None:
        """Refuse what is no ascending pair within (low, high].

        Raises:
            InputError: such a value.
        """
        pair = tuple(cast("list[Any]", value)) if isinstance(value, tuple | list) else ()
        numbers = [each for each in pair if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(pair) != 2 or len(numbers) != 2 or not low < numbers[0] <= numbers[1] <= high:
            raise self.refuse(
                f"{name}={value!r}: must be a pair (low, high) with {low:g} < low <= high <= {high:g}"
            )

    def __str__(self) -> str:
        """The text that `downslope.augment.read` makes the same augmentation of."""
        return spell(self.name, (), self.settings())

    def settings(self) -> dict[str, Any]:
        """The fields that are not at their default."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            default = each.default if each.default is not MISSING else None
            if value != default:
                found[each.name] = value
        return found


def changed(augmentation: Augmentation, batch: Any, places: Places) -> Any:
    """`batch` with its inputs and target as `augmentation` makes them.

    Raises:
        InputError: inputs that are no floating tensor, or that the augmentation is not for.
    """
    inputs = places.inputs_of(batch)
    if not isinstance(inputs, Tensor):
        raise augmentation.refuse(
            f"the inputs are {type(inputs).__name__}, and must be one tensor; of several give a function of "
            "your own, batch -> batch, or augment in the Dataset"
        )
    if not inputs.is_floating_point():
        way = "inputs.float() / 255 makes images of bytes what it takes" if inputs.dtype == torch.uint8 else (
            "whole numbers have nothing between them; inputs.float() makes them what it takes"
        )  # fmt: skip
        raise augmentation.refuse(f"the inputs are {inputs.dtype}, and must be floating point: {way}")
    with torch.no_grad():
        pair = augmentation.change(Pair(inputs, places.target_of(batch)))
    return places.put(batch, pair.inputs, pair.target)


def chosen(n: int, p: float, like: Tensor) -> Tensor:
    """Which of `n` examples are changed: bool, shape (n,), each true with probability `p`."""
    if p >= 1:
        return torch.ones(n, dtype=torch.bool, device=like.device)
    return uniform(n, 0.0, 1.0, like) < p


def uniform(n: int, low: float, high: float, like: Tensor) -> Tensor:
    """`n` draws from U(low, high), float32, on the device of `like`."""
    return torch.rand(n, device=like.device, dtype=torch.float32) * (high - low) + low


def columns(values: Tensor, like: Tensor) -> Tensor:
    """One value an example, shape (n,), with as many axes as `like`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
