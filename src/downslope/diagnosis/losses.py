"""What objective a loss was computed by, read off the graph that made it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Seen(NamedTuple):
    """An objective found in a graph."""

    name: str
    """As torch calls it."""
    expects: str
    """What it expects of the output."""


_NODES: dict[str, Seen] = {
    "NllLossBackward0": Seen("nll_loss", "log-probabilities"),
    "NllLoss2DBackward0": Seen("nll_loss", "log-probabilities"),
    "MseLossBackward0": Seen("mse_loss", "real"),
    "SmoothL1LossBackward0": Seen("smooth_l1_loss", "real"),
    "HuberLossBackward0": Seen("huber_loss", "real"),
    "BinaryCrossEntropyBackward0": Seen("binary_cross_entropy", "probability"),
    "BinaryCrossEntropyWithLogitsBackward0": Seen("binary_cross_entropy_with_logits", "logit"),
}
_AVERAGES = ("MeanBackward", "SumBackward")
_SCALINGS = ("MulBackward0", "DivBackward0")


def objective_of(loss: Tensor, output_activation: str | None = None) -> Seen | None:
    """The objective whose node stands last in the graph of `loss`, behind scalings by a number.

    Args:
        loss: A scalar that still has its graph (the values that it saved are not needed).
        output_activation: The last activation of the model. Torch's cross-entropy is a log-softmax and
            an NLL; only a model that does not end in a log-softmax itself puts out scores.

    Returns:
        None for a graph that no known objective makes, such as a sum of several terms.
    """
    node: Any = loss.grad_fn
    for _ in range(4):
        parents = _parents(node)
        if node is None or not type(node).__name__.startswith(_SCALINGS) or len(parents) != 1:
            break
        node = parents[0]
    if node is None:
        return None
    name = type(node).__name__
    if name in _NODES:
        if name.startswith("NllLoss") and output_activation != "log_softmax" and _made_by(node, "LogSoftmax"):
            return Seen("cross_entropy", "logits")
        return _NODES[name]
    return _of_differences(node) if name.startswith(_AVERAGES) else None


def _of_differences(node: Any) -> Seen | None:
    """A mean of squared or absolute differences, written out by hand."""
    inner = _parents(node)
    if len(inner) != 1:
        return None
    name = type(inner[0]).__name__
    if not _made_by(inner[0], "SubBackward"):
        return None
    how = "mean" if type(node).__name__.startswith("Mean") else "sum"
    if name.startswith("PowBackward0") and getattr(inner[0], "_saved_exponent", None) == 2:
        return Seen(f"{how} of squares", "real")
    if name.startswith("AbsBackward0"):
        return Seen(f"{how} of absolute values", "real")
    return None


def _parents(node: Any) -> list[Any]:
    return [] if node is None else [each for each, _ in node.next_functions if each is not None]


def _made_by(node: Any, name: str) -> bool:
    parents = _parents(node)
    return len(parents) == 1 and type(parents[0]).__name__.startswith(name)
