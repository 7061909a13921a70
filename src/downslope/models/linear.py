"""Linear, logistic and softmax regression: one affine map, with three readings of its output."""

from __future__ import annotations

from torch import nn

from downslope.models.parts import sizes


def linear(inputs: int, outputs: int = 1) -> nn.Module:
    """Linear regression, ``W x + b``; train it with `squared_error`.

    Args:
        inputs: number of features, at least 1; more axes after the first are flattened.
        outputs: number of targets, at least 1.

    Returns:
        A module (n, inputs) -> (n, outputs).

    Raises:
        ModelError: a size below 1.
    """
    sizes(inputs=inputs, outputs=outputs)
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))


def logistic(inputs: int, outputs: int = 1) -> nn.Module:
    """Logistic regression: the logits ``W x + b`` of independent yes-or-no questions; train with `logistic`.

    Args:
        inputs: number of features, at least 1; more axes after the first are flattened.
        outputs: number of questions, at least 1.

    Returns:
        A module (n, inputs) -> (n, outputs), without a sigmoid: the objective holds it.

    Raises:
        ModelError: a size below 1.
    """
    return linear(inputs, outputs)


def softmax(inputs: int, outputs: int) -> nn.Module:
    """Softmax regression: the logits ``W x + b`` of classes; train it with `cross_entropy`.

    Args:
        inputs: number of features, at least 1; more axes after the first are flattened.
        outputs: number of classes, at least 1.

    Returns:
        A module (n, inputs) -> (n, outputs), without a softmax: the objective holds it.

    Raises:
        ModelError: a size below 1.
    """
    return linear(inputs, outputs)
