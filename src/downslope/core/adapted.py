"""A model with something before or after it, whose saved names stay those of the model inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_OUTER = ("_before", "_after")


class Standardise(nn.Module):
    """``(x - mean) / std``, element by element; `mean` and `std` broadcast against one example."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Standardised `x`, same shape."""
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


class Restore(nn.Module):
    """``x * std + mean``: the way back to the units of the user."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """`x` in the user's units, same shape."""
        return x * self.std.to(x.dtype) + self.mean.to(x.dtype)


class Adapted(nn.Module):
    """``after(inner(before(x), ...))``.

    `before` acts on the first positional input, `after` on the whole output. In training the loop asks for
    `training_output`, which leaves out `after` where the target is transformed instead: raw inputs in, raw
    units out, and an objective that sees standardised targets.

    The state dict holds the inner model's own names; what is before and after is saved under ``_before.``
    and ``_after.``.
    """

    def __init__(
        self,
        inner: nn.Module,
        *,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
        target: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.inner = inner
        self._before = before
        self._after = after
        self._target = target

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output in the user's units."""
        return self.restore(self.training_output(*args, **kwargs))

    def training_output(self, *args: Any, **kwargs: Any) -> Any:
        """The output that the objective sees in training: before `after` where targets are transformed."""
        if self._before is not None and args:
            args = (self._before(args[0]), *args[1:])
        inner: Any = self.inner
        if isinstance(inner, Adapted):
            output = inner.training_output(*args, **kwargs)
        else:
            output = inner(*args, **kwargs)
        return output if self._target is not None or self._after is None else self._after(output)

    def restore(self, output: Any) -> Any:
        """`training_output` taken to the user's units."""
        if isinstance(self.inner, Adapted):
            output = self.inner.restore(output)
        return output if self._target is None or self._after is None else self._after(output)

    def training_target(self, target: Any) -> Any:
        """The target that the objective sees in training."""
        if isinstance(self.inner, Adapted):
            target = self.inner.training_target(target)
        return target if self._target is None else self._target(target)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The inner model's entries under their own names, then ``_before.`` and ``_after.``."""
        state: dict[str, Any] = self.inner.state_dict(*args, **kwargs)
        prefix: str = kwargs.get("prefix", "")
        for name in _OUTER:
            module = getattr(self, name)
            if isinstance(module, nn.Module):
                own = module.state_dict(prefix=f"{prefix}{name}.", keep_vars=bool(kwargs.get("keep_vars")))
                state.update(own)
        return state

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load what `state_dict` saved; entries of the inner model alone are enough."""
        inner = {key: value for key, value in state_dict.items() if not key.startswith(_OUTER)}
        for name in _OUTER:
            module = getattr(self, name)
            own = {key[len(name) + 1 :]: v for key, v in state_dict.items() if key.startswith(f"{name}.")}
            if isinstance(module, nn.Module) and own:
                module.load_state_dict(own, strict=strict, assign=assign)
        return self.inner.load_state_dict(inner, strict=strict, assign=assign)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own model inside adaptations and `torch.compile`'s wrapper."""
    while True:
        if isinstance(model, Adapted):
            model = model.inner
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model.get_submodule("_orig_mod")
        else:
            return model


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that standardise `values`, shaped to broadcast against one batch.

    (n,) one number; (n, d) per feature; (n, t, d) per feature over examples and time unless the features
    have like scales, then one number; (n, c, ...) with four or more dimensions per channel. A constant
    feature gets the standard deviation 1.
    """
    x = values.detach().to(torch.float64)
    if x.dim() <= 2:
        axes = (0,)
    elif x.dim() == 3:
        spread = x.std((0, 1), correction=0)
        alike = bool(spread.max() <= 30 * spread[spread > 0].min()) if bool((spread > 0).any()) else True
        axes = (0, 1, 2) if alike else (0, 1)
    else:
        axes = (0, *range(2, x.dim()))
    mean = x.mean(axes, keepdim=True).squeeze(0)
    std = x.std(axes, correction=0, keepdim=True).squeeze(0)
    tiny = std <= 1e-12 * mean.abs().clamp_min(1e-300)
    dtype = values.dtype if values.is_floating_point() else torch.float32
    return mean.to(dtype), torch.where(tiny, torch.ones_like(std), std).to(dtype)
