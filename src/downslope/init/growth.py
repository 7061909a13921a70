"""How each parameter of a model grows with its width: by its shape beside that of a base model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils import parametrize

from downslope.core.adapted import unwrap
from downslope.core.errors import ModelError
from downslope.core.modules import named_modules
from downslope.init.bare import is_table
from downslope.init.roles import MAPS, RECURRENT, TRANSPOSED

Kind = Literal["input", "hidden", "output", "fixed"]

_ROWS_ARE_OUTPUTS = (*MAPS, *RECURRENT, nn.MultiheadAttention)


@dataclass(frozen=True)
class Growth:
    """How a parameter grows with the width.

    Attributes:
        name: Qualified name.
        kind: "input" where only its outputs grow (biases and norms too), "output" where only its inputs do,
            "hidden" where both do, "fixed" where neither does.
        grown_in: Its inputs over those of the base model.
        grown_out: Its outputs over those of the base model.
        ndim: Its axes.
    """

    name: str
    kind: Kind
    grown_in: float
    grown_out: float
    ndim: int

    def rate(self, *, by_size: bool) -> float:
        """Factor of its learning rate, that of the base model being 1 (table 3)."""
        if by_size:
            return 1 / self.grown_in
        return self.grown_out / self.grown_in


def growth(model: nn.Module, base: nn.Module) -> list[Growth]:
    """The role of every parameter, by what differs between the shapes of `model` and `base`.

    Raises:
        ModelError: another structure, a weight tied in two roles, a parametrised one, or a matrix of which it
            is not known which axis is its input.
    """
    smaller = dict(unwrap(base).named_parameters())
    modules = dict(named_modules(unwrap(model)))
    found: list[Growth] = []
    seen: dict[int, str] = {}
    for where, module in modules.items():
        for key, parameter in module.named_parameters(recurse=False):
            name = f"{where}.{key}" if where else key
            if id(parameter) in seen:
                raise ModelError(
                    f"mup: {name} is tied to {seen[id(parameter)]}, and each wants a start of its own"
                )
            seen[id(parameter)] = name
            if name not in smaller or smaller[name].dim() != parameter.dim():
                raise ModelError(
                    f"mup: the base model has no {name} of as many axes: only the width may differ"
                )
            found.append(_role(name, module, parameter, smaller[name]))
    for where, module in modules.items():
        if parametrize.is_parametrized(module):
            raise ModelError(
                f"mup: {where or 'the model'} is parametrised, and its length has no role of its own"
            )
    return found


def _role(name: str, module: nn.Module, parameter: Tensor, base: Tensor) -> Growth:
    grown = [a / b for a, b in zip(parameter.shape, base.shape, strict=True)]
    into, out = _axes(name, module, parameter, grown)
    grown_in, grown_out = (1.0 if axis is None else grown[axis] for axis in (into, out))
    if into is None and len(grown) > 1:
        grown_out = math.prod(grown)
    kinds: dict[tuple[bool, bool], Kind] = {
        (False, False): "fixed", (False, True): "input", (True, False): "output", (True, True): "hidden",
    }  # fmt: skip
    return Growth(name, kinds[grown_in != 1, grown_out != 1], grown_in, grown_out, parameter.dim())


def _axes(
    name: str, module: nn.Module, parameter: Tensor, grown: list[float]
) -> tuple[int | None, int | None]:
    """Which axis counts the inputs and which the outputs; no inputs of what is added or looked up."""
    if parameter.dim() < 2:
        return None, 0 if parameter.dim() else None
    if isinstance(module, TRANSPOSED):
        return 0, 1
    if isinstance(module, _ROWS_ARE_OUTPUTS) and ".bias" not in name:
        return 1, 0
    if type(module).__module__.startswith("torch.") or is_table(name):  # embeddings and norms
        return None, 0
    if all(each == 1 for each in grown) or (parameter.dim() == 2 and grown[0] == grown[1]):
        return 1, 0
    raise ModelError(
        f"mup: which axis of {name} is its input is not known; make it the weight of an nn.Linear"
    )
