"""What a model of sequences takes, and what to do with inputs that are none."""

from __future__ import annotations

from torch import Tensor

from downslope.core.errors import ModelError


def check_steps(x: Tensor, name: str, *, inputs: int | None = None, tokens: bool = False) -> None:
    """Refuse inputs that are no sequences of this model.

    Args:
        x: The inputs; only their shape and type are looked at.
        name: The model's.
        inputs: Numbers a step, where they are settled.
        tokens: Whether the model takes whole numbers, (n, steps), or numbers, (n, steps, inputs).

    Raises:
        ModelError: saying what was given, what is taken, and what to do.
    """
    if tokens:
        if x.dim() != 2 or x.is_floating_point():
            raise ModelError(f"{name} takes sequences of whole numbers (n, steps), {_given(x)}: {_tokens(x)}")
        return
    each = "inputs" if inputs is None else str(inputs)
    takes = f"{name} takes sequences of numbers (n, steps, {each})"
    if x.dim() != 3:
        raise ModelError(f"{takes}, {_given(x)}: {_numbers(x)}")
    if not x.is_floating_point():
        raise ModelError(f"{takes}, {_given(x)}: X.float() makes numbers of them")
    if inputs is not None and x.shape[2] != inputs:
        raise ModelError(f"{takes}, {_given(x)}: inputs={x.shape[2]} takes {x.shape[2]} numbers a step")


def _given(x: Tensor) -> str:
    return f"and the inputs are {tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}"


def _tokens(x: Tensor) -> str:
    if x.dim() == 2:
        return "X.long() makes token ids of whole numbers; rows of other numbers are for 'mlp'"
    if x.dim() == 3:
        return "give token ids, or for numbers a step a model without tokens, such as 'lstm', 'transformer'"
    return "give token ids, or take a model for them, such as 'cnn' for images"


def _numbers(x: Tensor) -> str:
    if x.dim() == 2 and not x.is_floating_point():
        return "tokens=True takes whole numbers as they are, X.float()[:, :, None] one number a step"
    if x.dim() == 2:
        return "X[:, :, None] makes a step of every column; rows without an order are for 'mlp'"
    if x.dim() == 4:
        return "X.flatten(1, 2) makes a step of every row of an image; or take 'cnn'"
    return "give them three axes, or take another model, such as 'mlp'"
