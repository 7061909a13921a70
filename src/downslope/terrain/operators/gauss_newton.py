"""The generalised Gauss-Newton matrix.

Schraudolph 2002, Fast curvature matrix-vector products for second-order gradient descent; Martens 2020, New
insights and perspectives on the natural gradient method, section 8.
"""

from __future__ import annotations

from torch import Tensor

from downslope.terrain.operators.outputs import Outputs


class GaussNewton:
    """``G = J^T H_out J + P``: the Hessian of the loss with the model taken as linear in its parameters.

    J is the Jacobian of the outputs by the parameters, H_out the Hessian of the objective by the outputs, in
    autodiff, so it is that of any objective; where that is convex in the output, G is positive semidefinite.
    P is the Hessian of what hangs on the weights themselves, at fixed outputs: that of penalties, exactly, or
    of an objective that asks for the model. Where the outputs are linear in the parameters G is the Hessian.

    Args:
        outputs: Of the model on a batch.

    Attributes:
        size: Length of a flat vector.
    """

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs
        self.size = outputs.size
        self._direct = outputs.direct()

    @property
    def exact(self) -> bool:
        """False where ``J v`` is a difference of outputs, or P one of gradients."""
        return self.outputs.exact and (self._direct is None or self._direct.exact)

    def product(self, vector: Tensor) -> Tensor:
        """``G v``, shape (size,)."""
        found = self.outputs.transposed(self.outputs.curved(self.outputs.jacobian(vector)))
        return found if self._direct is None else found + self._direct.product(vector)
