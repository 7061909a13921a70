"""Less dropout, whether it stands in modules or is called in a forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from downslope.core.adapted import unwrap
from downslope.core.edits.edit import Edit
from downslope.core.errors import EditError

DROPOUTS: tuple[Callable[..., Any], ...] = (
    functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d,
    functional.alpha_dropout, functional.feature_alpha_dropout,
)  # fmt: skip
"""The functions that drop; the modules call them too. All take ``(input, p, training, inplace)``."""


def share_of(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
    """The share that a call drops; None for a call that drops nothing, or is another function."""
    if function not in DROPOUTS:
        return None
    # The first four drop unless they are told not to, the others only where they are told to.
    training = args[2] if len(args) > 2 else kwargs.get("training", function in _BY_DEFAULT)
    p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    return float(p) if training and p else None


_BY_DEFAULT = DROPOUTS[:4]


@dataclass(frozen=True)
class LessDropout(Edit):
    """Drop at most a share `p` wherever `torch.nn.functional` drops inside the model; 0 drops nothing.

    Recurrent layers and fused attention, which drop inside their kernels, stay as they are.

    Args:
        p: Share in [0, 1).

    Raises:
        EditError: `p` lies outside of that.
    """

    kind: ClassVar[str] = "less-dropout"
    p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.p < 1:
            raise EditError(f"dropout p={self.p}: must lie in [0, 1), it is a share; 0 drops nothing")

    def adapt(self, model: nn.Module) -> nn.Module:
        """`model`, whose forward drops no more than that."""
        inner = unwrap(model)  # what wraps it is not called in training, its own forward always is
        inner.register_forward_pre_hook(partial(_enter, self.p))
        inner.register_forward_hook(_leave, always_call=True)
        return model

    def __str__(self) -> str:
        return f"dropout -> {self.p:g}"


class _Less(TorchFunctionMode):
    """While it is entered, calls that drop do so with a smaller share."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call, with at most `most` for its share."""
        kwargs = dict(kwargs or {})
        p = share_of(func, args, kwargs)
        if p is None or p <= self.most:
            return func(*args, **kwargs)
        args = args[:1] + args[2:] if len(args) <= 2 else (args[0], self.most, *args[2:])
        return func(*args, **(kwargs | {"p": self.most} if len(args) < 2 else kwargs))


_OPEN = "_less_dropout"


def _enter(most: float, module: nn.Module, _: Any) -> None:
    mode = _Less(most)
    mode.__enter__()
    module.__dict__.setdefault(_OPEN, []).append(mode)


def _leave(module: nn.Module, _args: Any, _output: Any) -> None:
    if opened := module.__dict__.get(_OPEN):
        opened.pop().__exit__(None, None, None)


class Shares(TorchFunctionMode):
    """Notes in `found` what share each call drops while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[float] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The call as it is."""
        if (p := share_of(func, args, kwargs or {})) is not None:
            self.found.append(p)
        return func(*args, **(kwargs or {}))
