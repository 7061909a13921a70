"""What mixup and cutmix share: partners, shares, and the targets that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from downslope.augment.augmentation import Augmentation, columns

Labels = Literal["auto", "soft", "interpolate"]


@dataclass(frozen=True)
class Mixing(Augmentation):
    """One example made of two. Fields `labels` and `classes` say how the target follows."""

    alpha: float = 1.0
    labels: Labels = "auto"
    classes: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_zero("alpha", self.alpha)
        if self.labels not in get_args(Labels):
            raise self.refuse(f"labels={self.labels!r}: must be 'auto', 'soft' or 'interpolate'")
        given: Any = self.classes
        if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 2):
            raise self.refuse(f"classes={given!r}: must be a whole number from 2")

    @property
    def lacks(self) -> frozenset[str]:
        """What was not said of how the target follows."""
        classes = self.classes is None and self.labels != "interpolate"
        return frozenset({"labels"} if self.labels == "auto" else ()) | ({"classes"} if classes else set())

    def bound(self, labels: str, classes: int | None) -> Self:
        """The same with what the objective takes, where the user did not say it."""
        own = self.labels if self.labels != "auto" else labels
        return replace(self, labels=own, classes=self.classes or classes)

    def shares(self, n: int, like: Tensor) -> Tensor:
        """`n` draws from Beta(alpha, alpha), the share that an example keeps; 1 for alpha 0. float32."""
        if not self.alpha:
            return torch.ones(n, device=like.device)
        both = torch.full((n, 2), float(self.alpha), device=like.device)
        # The logarithms of two gamma draws: for a small alpha the draws themselves are 0 in float32.
        log = _log_gamma_draw(both)
        return torch.softmax(log, 1)[:, 0]

    def mixed(self, target: Any, kept: Tensor, partner: Tensor) -> Any:
        """``kept y + (1 - kept) y[partner]``, of class indices as rows of probabilities.

        Args:
            target: Class indices (n,) or (n, ...), or numbers of any shape (n, ...); None stays.
            kept: Share of its own, float32, shape (n,).
            partner: The other's index, int64, shape (n,).

        Raises:
            InputError: a target that is no tensor, or class indices with nothing that says how many classes.
        """
        if target is None:
            return None
        if not isinstance(target, Tensor):
            raise self.refuse(f"the target is {type(target).__name__}, and must be one tensor to be mixed")
        if not target.is_floating_point() and self.labels != "interpolate":
            target = self._rows(target)
        values = target if target.is_floating_point() else target.to(torch.get_default_dtype())
        share = columns(kept, values).to(values.dtype)
        return values * share + values[partner] * (1 - share)

    def _rows(self, target: Tensor) -> Tensor:
        """Class indices as rows of probabilities, the classes on axis 1; an ignored index as zeros."""
        if self.classes is None:
            raise self.refuse(
                "class indices become rows of probabilities, and nothing says how many classes there are: "
                f"give {self.name}(classes=...), or labels='interpolate' where the target is a number"
            )
        index = target.squeeze(1) if target.dim() > 1 and target.shape[1] == 1 else target
        every = torch.arange(self.classes, device=target.device).reshape(-1, *[1] * (index.dim() - 1))
        return (index.long().unsqueeze(1) == every).to(torch.get_default_dtype())


def _log_gamma_draw(alpha: Tensor) -> Tensor:
    """Log of draws from Gamma(alpha, 1): Gamma(alpha) = Gamma(alpha + 1) U**(1/alpha) (Marsaglia 2000)."""
    one = torch.ones_like(alpha)
    larger = torch.distributions.Gamma(alpha + 1, one, validate_args=False).sample()
    spread = torch.rand_like(alpha).clamp_min(torch.finfo(alpha.dtype).tiny)
    return larger.log() + spread.log() / alpha
