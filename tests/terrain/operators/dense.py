"""Dense curvature in float64, made by hand from Jacobians, and models to take it of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import downslope as ds
from downslope.terrain.ground import ModelGround, ground_of


def matrix(operator: Any) -> Tensor:
    """Every column of an operator."""
    return torch.stack([operator.product(e) for e in torch.eye(operator.size, dtype=torch.float64)], 1)


def grounded(model: nn.Module, objective: Any, data: Any, **settings: Any) -> ModelGround:
    """The ground of a model in float64."""
    return ground_of(
        ds.Problem(model=lambda: model, objective=objective, train=data, **settings),
        model,
        dtype=torch.float64,
    )


def jacobian(ground: ModelGround, *inputs: Tensor) -> Tensor:
    """Of the outputs, flattened, by the parameters that count: shape (outputs, size)."""
    held = dict(zip(ground.names, (p.detach() for p in ground.params), strict=True))
    found = torch.func.jacrev(lambda p: torch.func.functional_call(ground.model, p, inputs).flatten())(held)
    return torch.cat([found[name].flatten(1) for name in ground.names], 1)


def hessian(ground: ModelGround) -> Tensor:
    """Of the whole loss, by double reverse mode over all of the flat vector at once."""
    here = ground.where()

    def loss(vector: Tensor) -> Tensor:
        cut = torch.split(vector, [p.numel() for p in ground.params])
        held = {
            f"model.{name}": part.reshape(p.shape)
            for name, part, p in zip(ground.names, cut, ground.params, strict=True)
        }
        values = [
            weight * torch.func.functional_call(_Whole(ground), held, (batch,))
            for batch, weight in ground.pieces
        ]
        return torch.stack(values).sum()

    with sdpa_kernel(SDPBackend.MATH):
        found: Tensor = torch.autograd.functional.hessian(loss, here)  # type: ignore[assignment]
    return found


class _Whole(nn.Module):
    def __init__(self, ground: ModelGround) -> None:
        super().__init__()
        self.model, self.objective = ground.model, ground.objective

    def forward(self, batch: Any) -> Tensor:
        return self.objective(self.model, batch).value
