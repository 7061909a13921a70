"""Operators as others want them: as SciPy's, or as a dense matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from downslope.core.errors import InputError
from downslope.terrain.operators.operator import Operator

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

LARGEST = 8192
"""Rows of a dense matrix at most: 0.5 GB in float64."""


def as_linear_operator(operator: Operator) -> LinearOperator:
    """`operator` for SciPy's solvers: symmetric, in float64, whatever it computes in.

    Equivalent to `scipy.sparse.linalg.aslinearoperator` of the dense matrix.

    Args:
        operator: Of any kind.

    Returns:
        Shape (size, size). ``eigsh(as_linear_operator(op), k=3)`` and ``cg`` take it as it is.

    Example:
        >>> import torch
        >>> from downslope.terrain.ground import Ground
        >>> from downslope.terrain.operators import as_linear_operator
        >>> p = torch.ones(3, requires_grad=True)
        >>> as_linear_operator(Ground.of_closure(lambda: (p**3).sum(), [p]).hessian()) @ [1.0, 0.0, 2.0]
        array([ 6.,  0., 12.])
    """
    from scipy.sparse.linalg import LinearOperator

    dtype, device = kind_of(operator)

    def matvec(vector: Any) -> Any:
        given = torch.from_numpy(np.array(vector, dtype=np.float64).reshape(-1))
        return operator.product(given.to(device, dtype)).double().cpu().numpy()

    shape = (operator.size, operator.size)
    return LinearOperator(shape, matvec=matvec, rmatvec=matvec, dtype=np.float64)  # type: ignore[call-arg]


def dense(operator: Operator, *, largest: int = LARGEST) -> Tensor:
    """The matrix of `operator`, column by column.

    Args:
        operator: Of any kind.
        largest: Rows at most.

    Returns:
        Shape (size, size), in the operator's own dtype.

    Raises:
        InputError: it is larger.
    """
    size = operator.size
    if size > largest:
        raise InputError(
            f"dense: {size} parameters make a matrix of {size**2 * 8 / 1e9:.3g} GB, allowed are {largest} "
            "rows; take a block of it, operator.block('head'), or work by products"
        )
    dtype, device = kind_of(operator)
    found = torch.empty(size, size, dtype=dtype, device=device)
    one = torch.zeros(size, dtype=dtype, device=device)
    for i in range(size):
        one[i] = 1
        found[:, i] = operator.product(one)
        one[i] = 0
    return found


def kind_of(operator: Any) -> tuple[torch.dtype, torch.device]:
    """What an operator computes in: its own dtype, or that of its parameters; float64 on the CPU else."""
    params: Any = getattr(operator, "params", None)
    like: Any = params[0] if params else operator
    dtype: Any = getattr(like, "dtype", None)
    device = torch.device(getattr(like, "device", None) or "cpu")
    return (dtype, device) if isinstance(dtype, torch.dtype) else (torch.float64, torch.device("cpu"))
