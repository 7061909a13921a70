"""What objective a loss was computed by, read off the graph that made it."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

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
_WIDENED = ("Unsqueeze", "Expand")
_SCALINGS = ("MulBackward0", "DivBackward0")
_TURNS = ("NegBackward0", "RsubBackward", "SubBackward0", "AddBackward0")


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
    return _at(node, output_activation)


def _at(node: Any, output_activation: str | None) -> Seen | None:
    """The objective that ends in `node`."""
    if node is None:
        return None
    name = type(node).__name__
    if name in _NODES:
        if name.startswith("NllLoss") and output_activation != "log_softmax" and _made_by(node, "LogSoftmax"):
            return Seen("cross_entropy", "logits")
        return _NODES[name]
    return _of_differences(node) if name.startswith(_AVERAGES) else None


def signed(loss: Tensor) -> tuple[str, int] | None:
    """The objective that `loss` is a multiple of by a number, but for another number that is added.

    Args:
        loss: A scalar that still has its graph.

    Returns:
        Its name, and the sign of the factor: -1, 0 or 1. None for any other graph.
    """
    node, factor = cast("Any", loss.grad_fn), 1.0
    for _ in range(6):
        name = type(node).__name__
        if node is None or len(_parents(node)) != 1 or not name.startswith((*_SCALINGS, *_TURNS)):
            break
        if name.startswith(_SCALINGS):
            by = node._saved_other if node._saved_other is not None else node._saved_self
            if by is None or by.dim():
                return None
            factor *= float(by)
        elif not name.startswith(("SubBackward0", "AddBackward0")) or node.next_functions[0][0] is None:
            factor *= 1.0 if name.startswith("AddBackward0") else -1.0
        node = _parents(node)[0]
    if type(node).__name__.startswith(_AVERAGES) and type((_parents(node) or [None])[0]).__name__ in _NODES:
        node = _parents(node)[0]
    found = _at(node, None)
    return None if found is None else (found.name, int(factor > 0) - int(factor < 0))


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


def crossed(loss: Tensor) -> tuple[int, ...] | None:
    """The shape of an output that is compared with every target: (n, 1) or (n,), of differences (n, n).

    Seen in a mean of squared or absolute differences that was written out by hand, between an output and
    what has no gradient. An output that was given its axis for that purpose, by `unsqueeze` or an index, is
    none.

    Returns:
        None where every output is compared with its own target, and for any other loss.
    """
    node: Any = loss.grad_fn
    for _ in range(4):
        parents = _parents(node)
        if node is None or not type(node).__name__.startswith(_SCALINGS) or len(parents) != 1:
            break
        node = parents[0]
    if node is None or not type(node).__name__.startswith(_AVERAGES) or _of_differences(node) is None:
        return None
    difference = _parents(_parents(node)[0])[0]
    parents = [(each, at) for each, at in difference.next_functions if each is not None]
    if len(parents) != 1 or type(parents[0][0]).__name__.startswith(_WIDENED):
        return None
    made, whole = _shape(*parents[0]), _shape(difference, 0)
    if made is None or whole is None or len(whole) != 2 or whole[0] != whole[1] or whole[0] < 2:
        return None
    return made if made in ((whole[0], 1), (whole[0],)) else None


def _shape(node: Any, at: int) -> tuple[int, ...] | None:
    metadata = getattr(node, "_input_metadata", None)
    return None if not metadata or at >= len(metadata) else tuple(int(n) for n in metadata[at].shape)


def _parents(node: Any) -> list[Any]:
    return [] if node is None else [each for each, _ in node.next_functions if each is not None]


def _made_by(node: Any, name: str) -> bool:
    parents = _parents(node)
    return len(parents) == 1 and type(parents[0]).__name__.startswith(name)
