"""A function of the user's own as an initialisation: of the model, of each of its modules, or of a weight."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import starts
from downslope.core.adapted import unwrap
from downslope.core.errors import DownslopeError, ModelError, told

OF_A_WEIGHT = ("weight", "tensor", "w")
"""Names of a first argument that stands for one weight; torch.nn.init calls it ``tensor``."""

OF_A_MODULE = ("module", "layer", "m")
"""Names of a first argument that stands for any module of the model, as for `torch.nn.Module.apply`."""


def own(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as `initialise` calls it: ``(weight, generator)``, or a method for a whole model.

    A function of a weight has a second argument without a default or named ``generator``, or a first one
    named as in `OF_A_WEIGHT`. Any other one is a function of the model.
    """
    if hasattr(function, "checks"):
        return function
    try:
        taken = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return function
    places = [each for each in taken if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    second = places[1] if len(places) > 1 else None
    if second is not None and (second.name == "generator" or second.default is second.empty):
        return function
    if not places or places[0].name not in OF_A_WEIGHT:
        return Own(function, bool(places) and places[0].name in OF_A_MODULE)
    return functools.partial(_of_weight, function, any(each.name == "generator" for each in taken))


def _of_weight(
    function: Callable[..., Any], drawn: bool, weight: Tensor, generator: torch.Generator | None = None
) -> None:
    """A function such as those of torch.nn.init, whose generator goes by keyword."""
    function(weight, **({"generator": generator} if drawn else {}))


class Own:
    """Calls ``function(model)``, which changes the parameters in place.

    A function that changes nothing there is called with every module, as `torch.nn.Module.apply` does: so
    both ways in which initialisations are written for torch do what they say.

    Args:
        function: Somebody's own.
        each: Whether it is one for each module from the start.
    """

    def __init__(self, function: Callable[..., Any], each: bool) -> None:
        self.function, self.each = function, each

    def checks(self, **settings: Any) -> None:
        """Nothing: what settings it takes is the function's own business."""

    @torch.no_grad()
    def __call__(
        self,
        model: nn.Module,
        generator: torch.Generator | None = None,
        *,
        batch: Any = None,
        **settings: Any,
    ) -> list[str]:
        """Initialise `model`; which parameters were left as they were.

        Raises:
            ModelError: the function fails, gives another model, or changes nothing.
        """
        del generator, batch
        model = unwrap(model)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        if not self.each:
            self._call(model, settings)
        left = _left(model, before)
        if len(left) == len(before):
            for module in list(model.modules()):
                self._call(module, settings)
            left = _left(model, before)
        if before and len(left) == len(before):
            raise ModelError(
                f"init {starts.said(self.function)} changed no parameter: it is called with the model, and "
                "has to change weights in place, such as torch.nn.init.normal_(model.weight)"
            )
        return left

    def _call(self, module: nn.Module, settings: dict[str, Any]) -> None:
        try:
            made: Any = self.function(module, **settings)
        except DownslopeError:
            raise
        except Exception as error:
            raise ModelError(f"init {starts.said(self.function)} failed: {told(error)}") from error
        if isinstance(made, nn.Module) and made is not module:
            raise ModelError(
                f"init {starts.said(self.function)} returned another {type(made).__name__}: it has to change "
                "the model that it is given in place"
            )


def _left(model: nn.Module, before: dict[str, Tensor]) -> list[str]:
    """Names of the parameters that are what they were, NaN for NaN."""
    now = dict(model.named_parameters())
    return [name for name, old in before.items() if name in now and _same(cast("Tensor", now[name]), old)]


def _same(new: Tensor, old: Tensor) -> bool:
    return new.shape == old.shape and bool(((new == old) | ((new != new) & (old != old))).all())
