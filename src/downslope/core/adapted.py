"""A model with something before or after it, whose saved names stay those of the model inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core.outputs import with_logits

Named = tuple[tuple[str, ...], nn.Parameter]
"""A parameter with its qualified names, more than one where it is tied."""

_INNER = "inner."
_OUTER = ("_before.", "_after.")


class _Scale(nn.Module):
    """A mean and a standard deviation that broadcast against one example, saved with the model."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)


class Standardise(_Scale):
    """``(x - mean) / std``, element by element."""

    def forward(self, x: Tensor) -> Tensor:
        """Standardised `x`, same shape."""
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)


class Restore(_Scale):
    """``x * std + mean``: the way back to the units of the user."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` in the user's units, same shape."""
        return x * self.std.to(x.dtype) + self.mean.to(x.dtype)


class Whiten(nn.Module):
    """``(x - mean) @ matrix``, example by example."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Whitened `x`, same shape."""
        return (x - self.mean.to(x.dtype)) @ self.matrix.to(x.dtype)


class Adapted(nn.Module):
    """``after(inner(before(x), ...))``.

    `before` acts on the first input (of keyword inputs the first tensor), `after` on the whole output. In
    training the loop asks for `training_output`, which leaves out `after` where the target is transformed
    instead: raw inputs in, raw units out, and an objective that sees standardised targets.

    The state dict holds the inner model's own names; what is before and after is saved under ``_before.``
    and ``_after.`` (an adaptation of an adapted model as ``_2_before.`` and so on).
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
        depth = 1 + sum(isinstance(each, Adapted) for each in inner.modules())
        self.saved_as: dict[str, str] = {name: name if depth == 1 else f"_{depth}{name}" for name in _OUTER}
        self._register_state_dict_hook(_outward)
        self._register_load_state_dict_pre_hook(_inward, with_module=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output in the user's units."""
        return self.restore(self.training_output(*args, **kwargs))

    def training_output(self, *args: Any, **kwargs: Any) -> Any:
        """The output that the objective sees in training: before `after` where targets are transformed."""
        if self._before is not None and args:
            args = (self._before(args[0]), *args[1:])
        elif self._before is not None:
            first = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
            kwargs = kwargs | {first: self._before(kwargs[first])}
        inner: Any = self.inner
        if isinstance(inner, Adapted):
            output = inner.training_output(*args, **kwargs)
        else:
            output = inner(*args, **kwargs)
        return output if self._target is not None or self._after is None else with_logits(output, self._after)

    def restore(self, output: Any) -> Any:
        """`training_output` taken to the user's units."""
        if isinstance(self.inner, Adapted):
            output = self.inner.restore(output)
        return output if self._target is None or self._after is None else with_logits(output, self._after)

    def training_target(self, target: Any) -> Any:
        """The target that the objective sees in training."""
        if isinstance(self.inner, Adapted):
            target = self.inner.training_target(target)
        return target if self._target is None else self._target(target)

    @property
    def transforms_target(self) -> bool:
        """Whether the objective sees other targets in training than the user's."""
        return self._target is not None or (isinstance(self.inner, Adapted) and self.inner.transforms_target)


def _outward(module: Adapted, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Rename what was just saved: the inner model's entries lose ``inner.``; the target's scale goes."""
    del metadata
    for key, value in _taken(state, prefix):
        found = next((own for own in module.saved_as if key.startswith(own)), None)
        if found is not None:
            state[prefix + module.saved_as[found] + key[len(found) :]] = value
        elif key.startswith(_INNER):
            state[prefix + key[len(_INNER) :]] = value


def _inward(module: Adapted, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Rename what is about to be loaded, back; entries of the inner model alone are enough."""
    del rest
    for key, value in _taken(state, prefix):
        found = next((own for own, saved in module.saved_as.items() if key.startswith(saved)), None)
        if found is not None:
            state[prefix + found + key[len(module.saved_as[found]) :]] = value
        else:
            state[prefix + _INNER + key] = value
    for own in (*_OUTER, "_target."):
        part = getattr(module, own[:-1])
        if isinstance(part, nn.Module):
            for name, value in part.state_dict().items():
                state.setdefault(f"{prefix}{own}{name}", value)


def _taken(state: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    """The entries below `prefix`, taken out of `state`, their names without it."""
    return [(key[len(prefix) :], state.pop(key)) for key in list(state) if key.startswith(prefix)]


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own model inside adaptations and `torch.compile`'s wrapper."""
    while True:
        if isinstance(model, Adapted):
            model = model.inner
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model.get_submodule("_orig_mod")
        else:
            return model


def named_parameters(model: nn.Module) -> list[Named]:
    """Every parameter once, in the model's order, by the names of the user's own model inside adaptations."""
    own: dict[int, list[str]] = {}
    for name, p in unwrap(model).named_parameters(remove_duplicate=False):
        own.setdefault(id(p), []).append(name)
    return [(tuple(own.get(id(p), [name])), p) for name, p in model.named_parameters()]


def scale_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation that standardise `values`, shaped to broadcast against one batch.

    (n,) one number; (n, d) per feature; (n, t, d) per feature over examples and time unless the features
    have like scales, then one number; (n, c, ...) with four or more dimensions per channel. A constant
    feature gets the standard deviation 1. Values that are not finite do not count.
    """
    x = values.detach()
    if x.dim() <= 2:
        axes = (0,)
    elif x.dim() == 3:
        spread = _moments(x, (0, 1))[1]
        alike = bool(spread.max() <= 30 * spread[spread > 0].min()) if bool((spread > 0).any()) else True
        axes = (0, 1, 2) if alike else (0, 1)
    else:
        axes = (0, *range(2, x.dim()))
    mean, std = (each.squeeze(0) for each in _moments(x, axes))
    tiny = std <= 1e-12 * mean.abs().clamp_min(1e-300)
    dtype = values.dtype if values.is_floating_point() else torch.float32
    return mean.to(dtype), torch.where(tiny, torch.ones_like(std), std).to(dtype)


_AT_ONCE = 2**24
"""Values that are taken to float64 together: 128 MiB."""


def _moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over `axes`, in float64, these axes kept with length 1."""
    if x.numel() <= _AT_ONCE and bool(x.sum().isfinite()):
        wide = x.to(torch.float64)
        return wide.mean(axes, keepdim=True), wide.std(axes, correction=0, keepdim=True)
    pieces = torch.split(x, max(1, _AT_ONCE // max(x[:1].numel(), 1)))

    def total(each: Callable[[Tensor], Tensor]) -> Tensor:
        parts = [
            torch.where(piece.isfinite(), each(piece.to(torch.float64)), 0.0).sum(axes, keepdim=True)
            for piece in pieces
        ]
        return torch.stack(parts).sum(0)

    count = total(torch.ones_like).clamp_min(1.0)
    mean = total(lambda piece: piece) / count
    return mean, (total(lambda piece: (piece - mean).square()) / count).sqrt()


NARROW = 1e-11
"""Variance in that of the widest direction below which a direction is left as it is: float32 leaves 1e-14 of
rounding, so that down to here at most a thousandth of what is stretched is rounding."""


def whitening_of(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, shape (d,), and symmetric matrix, shape (d, d), that whiten `values`, shape (n, d).

    ``W = D^-1 V L^(-1/2) V^T``: D the deviations, ``V L V^T`` the correlations, so that ``(x - mean) W`` has
    the covariance of the identity. Directions narrower than `NARROW` are standardised only. Of all whitening
    matrices up to scale the symmetric one changes the features least (Kessy, Lewin and Strimmer 2018).
    """
    mean, std = (each.double() for each in scale_of(values))
    z = (values.detach().double() - mean) / std
    lengths, directions = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(z.T @ z / len(z)))
    kept = lengths > NARROW * lengths[-1].clamp_min(1e-300)
    factors = torch.where(kept, lengths.clamp_min(1e-300).rsqrt(), torch.ones_like(lengths))
    matrix = (directions * factors) @ directions.T / std[:, None]
    return mean.to(values.dtype), matrix.to(values.dtype)
