"""A model up to one of its layers, and a new head on what that layer gives."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from downslope.core import batches, names
from downslope.core.errors import ModelError
from downslope.core.modules import named_modules


class _ReachedError(Exception):
    """Carries what was looked for out of a forward pass."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


class Body(nn.Module):
    """``phi(x)``: what `layer` of `model` gives, or is given; the layers behind it are not computed.

    The forward pass is the model's own, left at that layer, so that models with a forward of their own work.
    `torch.export` cannot follow it; `Features.join` gives a plain model where the head stood at the end.

    Args:
        model: Any module, held and not copied.
        layer: Qualified name of a module in it.
        before: Whether to take what the layer is given, and not what it gives.
        pool: Whether to average over pixels or steps, (n, channels, ...) to (n, channels).

    Raises:
        ModelError: no such layer.
    """

    def __init__(self, model: nn.Module, layer: str, *, before: bool = False, pool: bool = False) -> None:
        super().__init__()
        known = [name for name, _ in named_modules(model) if name]
        if layer not in known:
            raise ModelError(f"the model has no layer {layer!r}{names.did_you_mean(layer, known)}")
        self.model, self.layer, self.before, self.pool = model, layer, before, pool

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The features of a batch: the first floating tensor at the layer.

        Raises:
            ModelError: the forward pass does not reach the layer, or there is no such tensor.
        """
        module = self.model.get_submodule(self.layer)
        if self.before:
            handle = module.register_forward_pre_hook(_given)
        else:
            handle = module.register_forward_hook(_gave)
        try:
            self.model(*args, **kwargs)
        except _ReachedError as reached:
            return self._features(reached.found)
        finally:
            handle.remove()
        raise ModelError(f"the forward pass does not come to layer {self.layer!r}: take one that it calls")

    def _features(self, found: Any) -> Tensor:
        for leaf in batches.tensors(found):
            if leaf.is_floating_point() and leaf.dim() > 0:
                return leaf.flatten(2).mean(2) if self.pool and leaf.dim() > 2 else leaf
        raise ModelError(f"layer {self.layer!r} gives no floating tensor to take as features")


def _given(module: nn.Module, args: tuple[Any, ...]) -> None:
    del module
    raise _ReachedError(args)


def _gave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    del module, args
    raise _ReachedError(output)


class Joined(nn.Module):
    """``head(body(x))``: raw inputs in, what the head gives out.

    Args:
        body: Gives features.
        head: Takes them.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the head makes of the features of a batch."""
        return self.head(self.body(*args, **kwargs))
