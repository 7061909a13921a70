"""What a penalty is: a named term of the weights alone, added to an objective and no part of the risk."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from downslope.core.adapted import named_parameters, unwrap
from downslope.core.errors import ObjectiveError
from downslope.core.groups import Group
from downslope.core.spelling import spell


@dataclass(frozen=True)
class Penalty(ABC):
    """A term of the weights; subclasses say which.

    Args:
        strength: in [0, inf).
        only: names of parameters or patterns of them, ``*`` any text; left out, all weights: what has two
            dimensions or more, so neither biases nor the scales of normalisation layers, as `Recipe` decays.
        name: of the term in the history; left out, the kind.

    Raises:
        ObjectiveError: a strength outside its domain.
    """

    kind: ClassVar[str] = "penalty"
    strength: float
    only: str | Sequence[str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        given: Any = self.strength
        right = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not right or not 0 <= given < math.inf:
            raise ObjectiveError(
                f"{self.kind}={given!r}: must be a number in [0, inf), the strength of the penalty; 0 is none"
            )
        if not self.name:
            object.__setattr__(self, "name", self.kind)

    def __call__(self, model: nn.Module) -> Tensor:
        """The penalty of `model`, a scalar with a gradient.

        Raises:
            ObjectiveError: `only` fits no parameter that is trained.
        """
        return self.strength * torch.stack([self.of(p) for p in self.weights(model)]).sum()

    @abstractmethod
    def of(self, weights: Tensor) -> Tensor:
        """The penalty of one tensor at strength 1."""

    def weights(self, model: nn.Module) -> list[Tensor]:
        """The parameters that are penalised: trained ones, a tied one once.

        Raises:
            ObjectiveError: there is none.
        """
        named = [(its_names, p) for its_names, p in named_parameters(unwrap(model)) if _trained(p)]
        if self.only is None:
            found: list[Tensor] = [p for _, p in named if p.dim() > 1]
        else:
            patterns = (self.only,) if isinstance(self.only, str) else tuple(self.only)
            which = Group(params=patterns)
            found = [p for its_names, p in named if which.takes(its_names, p.dim())]
        if not found:
            what = (
                "the model has no weights of two dimensions" if self.only is None else f"only={self.only!r}"
            )
            known = ", ".join(its_names[0] for its_names, _ in named[:8]) or "none"
            raise ObjectiveError(f"{self.kind}: {what}: no trained parameter fits; there are: {known}")
        return found

    def __repr__(self) -> str:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        said = {key: value for key, value in given.items() if value is not None and key != "strength"}
        if said.get("name") == self.kind:
            del said["name"]
        return spell(self.kind, (self.strength,), said)


def _trained(p: Tensor) -> bool:
    """Whether a weight is trained; a tensor in the place of a parameter (`torch.func`) shows no gradient."""
    return p.requires_grad or not isinstance(p, nn.Parameter)
