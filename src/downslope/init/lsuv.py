"""Layer-sequential unit variance: scaled by what real data makes of it (Mishkin and Matas 2016)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core.errors import DownslopeError, ModelError, told
from downslope.init.chosen import whole
from downslope.init.initialise import initialise
from downslope.init.orthogonal import orthogonal
from downslope.init.roles import held
from downslope.init.trace import Batch, Op, trace


def _check(*, examples: Any, tolerance: float, tries: Any, scale: float) -> None:
    if not (isinstance(examples, int) and examples >= 2):
        raise ModelError(f"lsuv: examples={examples!r}: must be an integer in [2, inf); 256 is usual")
    if not 0 < tolerance < 1:
        raise ModelError(f"lsuv: tolerance={tolerance}: must lie in (0, 1), relative to the variance")
    if not (isinstance(tries, int) and tries >= 1):
        raise ModelError(f"lsuv: tries={tries!r}: must be an integer in [1, inf)")
    if not 0 < scale < math.inf:
        raise ModelError(f"lsuv: scale={scale}: must lie in (0, inf), the deviation of each layer's output")


@whole(_check)
def lsuv(
    model: nn.Module,
    generator: torch.Generator | None = None,
    *,
    batch: Batch = None,
    examples: int = 256,
    tolerance: float = 0.01,
    tries: int = 10,
    scale: float = 1.0,
) -> list[str]:
    """Orthogonal weights, then layer by layer ``W <- scale W / std(W x)`` on a batch, in place.

    Algorithm 1 of the paper. Each layer is scaled until its output's variance over the batch is within
    `tolerance` of ``scale**2``, before the next one sees it, so that all of it takes one forward pass. The
    output is that of the linear map itself, before norm and activation. Layers are linear maps, convolutions
    and products with a matrix of the model; recurrent cells, attention's fused weights and embeddings keep
    the start that `initialise` gives them with "orthogonal". A weight that is used several times is scaled on
    its first use.

    Args:
        model: any module, without lazy parameters.
        generator: of the orthogonal start, on the CPU; by default torch's own.
        batch: what the model is called on; see `initialise`.
        examples: at least 2, how many are asked for where the batch comes from a problem; the paper says that
            any batch of an ordinary size does.
        tolerance: float in (0, 1), relative, of the variance; the paper's is 0.1.
        tries: at least 1, scalings of a layer at most; the paper's 10. One is enough without a bias.
        scale: float in (0, inf), of each layer's output.

    Returns:
        The names of the parameters that were left as they were.

    Raises:
        ModelError: no batch, one that the model does not take, or a layer whose output is the same for every
            example, or not finite.

    Differs from:
        Mishkin and Matas' published code only in the tolerance; that runs a forward pass for every layer.
    """
    if batch is None:
        raise ModelError(
            "lsuv looks at what real data makes of each layer: give a batch, such as batch=X[:256]"
        )
    _check(examples=examples, tolerance=tolerance, tries=tries, scale=scale)
    left = initialise(model, orthogonal, generator)
    scaling = _Scaling(model, scale, tolerance, tries)
    try:
        trace(model, batch, scaling, count=examples)
    except DownslopeError:
        raise
    except Exception as error:
        raise ModelError(f"lsuv: the model cannot take the batch: {told(error)}") from error
    return left


class _Scaling:
    """Scales each weight when its layer is computed for the first time."""

    def __init__(self, model: nn.Module, scale: float, tolerance: float, tries: int) -> None:
        self.model, self.scale, self.tolerance, self.tries = model, scale, tolerance, tries
        self.done: set[int] = set()

    def __call__(self, op: Op, output: Any, again: Callable[[], Any]) -> Any:
        ids = {id(p) for p in op.weights}
        free = all(p.requires_grad for p in op.weights) and not ids & self.done
        self.done |= ids  # an embedding that is the last weight too has been read by then
        if not op.is_linear or not free or not isinstance(output, Tensor):
            return output
        for _ in range(self.tries):
            factor = self._deviation(op, output) / self.scale
            if abs(factor**2 - 1) < self.tolerance:
                break
            made = self._divided(op, output, factor, again)
            if made is None:
                break
            output = made
        return output

    def _deviation(self, op: Op, output: Tensor) -> float:
        std = float(output.detach().to(torch.complex128 if output.is_complex() else torch.float64).std())
        if not math.isfinite(std) or std == 0:
            where = op.module or "the model"
            what = "is the same for every example and unit" if std == 0 else "is not finite"
            raise ModelError(
                f"lsuv: the output of {where!r} ({op.function}) {what}: no scale makes its variance 1"
            )
        return std

    def _divided(self, op: Op, output: Tensor, factor: float, again: Callable[[], Any]) -> Tensor | None:
        """The output with the weight divided by `factor`; None where there is no single weight to divide."""
        if op.direct:
            op.direct[-1].div_(factor)
            return again()
        ids = {id(p) for p in op.weights}
        for made in held(self.model.get_submodule(op.module)).values():
            if made.write is not None and ids & {id(p) for p in made.parameters}:
                made.write(made.read() / factor)
                return output / factor
        if len(op.weights) != 1:
            return None
        (weight,) = op.weights
        weight.div_(factor)  # it enters as a slice or a transpose
        return output / factor
