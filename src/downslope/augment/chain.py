"""Several augmentations one after the other, and where in a batch they apply."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from downslope.augment.augmentation import Augmentation, Pair, changed
from downslope.augment.places import Places, places_of
from downslope.core.spelling import Spelt, spell


@dataclass(frozen=True, init=False)
class Chain(Augmentation):
    """Each of `parts` in this order, each by draws of its own.

    Args:
        *parts: Augmentations, or names and texts such as "flip" and "rotate(10)".
        shape: (c, h, w), where the inputs are flat rows (n, c h w) that are images; they stay flat rows.
        inputs: Key or position of the inputs in the batch; None for where `fit` takes them from.
        target: Key or position of the target; None for where `fit` takes it from.

    Raises:
        InputError: a part that is no augmentation, or a shape that is none.
    """

    name: ClassVar[str] = "chain"

    parts: tuple[Augmentation, ...] = ()
    shape: tuple[int, int, int] | None = field(default=None, kw_only=True)
    inputs: str | int | None = field(default=None, kw_only=True)
    target: str | int | None = field(default=None, kw_only=True)

    def __init__(
        self,
        *parts: Any,
        shape: tuple[int, int, int] | None = None,
        inputs: str | int | None = None,
        target: str | int | None = None,
    ) -> None:
        from downslope.augment.spelt import read  # which makes chains

        put = object.__setattr__
        put(self, "p", 1.0)
        put(self, "shape", shape if shape is None else tuple(shape))
        put(self, "inputs", inputs)
        put(self, "target", target)
        if self.shape is not None and (
            len(self.shape) != 3
            or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in self.shape)  # pyright: ignore[reportUnnecessaryComparison, reportUnnecessaryIsInstance]
        ):
            raise self.refuse(f"shape={shape!r}: must be (channels, height, width)")
        made: tuple[Any, ...] = tuple(read(each) for each in parts)
        for each in made:
            if not isinstance(each, Augmentation):
                raise self.refuse(f"{each!r} is no augmentation of Downslope's, and cannot stand in a chain")
        put(self, "parts", made)

    def __call__(self, batch: Any) -> Any:
        """The batch as the last of the parts leaves it.

        Raises:
            InputError: what a part raises.
        """
        places = Places(self.inputs, self.target) if self.inputs is not None else places_of(batch)
        if self.inputs is None and self.target is not None:
            places = replace(places, target=self.target)
        return changed(self, batch, places)

    def change(self, pair: Pair) -> Pair:
        """The pair as the last of the parts leaves it.

        Raises:
            InputError: flat rows that do not hold an image of `shape`.
        """
        flat = pair.inputs.shape
        if self.shape is not None:
            channels, height, width = self.shape
            if pair.inputs[0].numel() != channels * height * width:
                raise self.refuse(
                    f"shape={self.shape}: the inputs {tuple(flat)} hold {pair.inputs[0].numel()} numbers an "
                    f"example, not {channels * height * width}"
                )
            pair = Pair(pair.inputs.reshape(-1, *self.shape), pair.target)
        for part in self.parts:
            pair = Pair(*part.change(pair))
        return pair if self.shape is None else Pair(_flat_again(pair.inputs, flat), pair.target)

    @property
    def lacks(self) -> frozenset[str]:
        """What any of the parts lacks."""
        return frozenset[str]().union(*(part.lacks for part in self.parts))

    def bound(self, labels: str, classes: int | None) -> Self:
        """The same with every part bound."""
        parts = [part.bound(labels, classes) for part in self.parts]
        return type(self)(*parts, shape=self.shape, inputs=self.inputs, target=self.target)

    def __str__(self) -> str:
        """The text that `downslope.augment.read` makes the same chain of."""
        named = {key: getattr(self, key) for key in ("shape", "inputs", "target")}
        said = {key: value for key, value in named.items() if value is not None}
        return spell(self.name, [Spelt(str(part)) for part in self.parts], said)


def _flat_again(images: Tensor, flat: Any) -> Tensor:
    return (
        images.reshape(len(images), *flat[1:]) if images[0].numel() == flat[1:].numel() else images.flatten(1)
    )
