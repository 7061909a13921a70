"""Muon: the momentum of each matrix, orthogonalised; AdamW for the rest (Jordan and others 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.domains import check
from downslope.optim.driver import Params

__all__ = ["Muon", "orthogonal"]

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of ``x -> a x + b x^3 + c x^5``, steepest at 0 (Jordan and others 2024)."""

MOST = 100
"""Iterations that `orthogonal` takes at most: five bring the singular values between .7 and 1.2."""


class Muon(torch.optim.Optimizer):
    """Muon: ``p = p - lr (0.2 sqrt(max(m, n)) U V' + weight_decay p)``, with ``U S V'`` the momentum.

    A parameter of two dimensions or more is a matrix, of m rows and n columns: a convolution has a row for
    each of its outputs. Its momentum ``b = momentum b + (1 - momentum) g``, with Nesterov one step ahead, is
    replaced by a matrix of the same singular vectors whose singular values are near 1 (`orthogonal`). The
    factor gives its entries the root mean square of an AdamW step, so that one rate serves all. Everything
    else, biases and norms, takes AdamW's step. One tensor of state for a matrix, two for the others.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        weight_decay: decoupled decay in [0, inf).
        momentum: of matrices, in [0, 1).
        nesterov: whether the momentum looks one step ahead.
        betas: decays of AdamW's two means, each in [0, 1).
        eps: of AdamW, in [0, inf).
        ns_steps: iterations of Newton and Schulz, from 1 to 100.
        maximize: climb in place of descend.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or a gradient that is sparse or complex.

    Differs from: `torch.optim.Muon`, which takes matrices alone; with ``adjust_lr_fn="match_rms_adamw"`` the
        steps of matrices are the same. What is a matrix is told by its shape: put an embedding or the last
        layer into a group of AdamW's own where that serves better, as their authors do.
    Source: Jordan, Jin, Boza and others 2024, "Muon: an optimizer for hidden layers in neural networks";
        Liu and others 2025 (arXiv 2502.16982), equation 4, for the factor.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        ns_steps: int = 5,
        *,
        maximize: bool = False,
    ) -> None:
        if isinstance(ns_steps, bool) or not isinstance(ns_steps, int) or not 1 <= ns_steps <= MOST:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise RecipeError(f"ns_steps={ns_steps!r}: must be a whole number from 1 to {MOST}; 5 is usual")
        settings = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "betas": betas, "eps": eps, "maximize": maximize,
        }  # fmt: skip
        given: Any = params
        super().__init__(
            given, {key: check(key, value) for key, value in settings.items()} | {"ns_steps": ns_steps}
        )
        for group in self.param_groups:
            for key in settings:
                group[key] = check(key, group[key])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step.

        Args:
            closure: Evaluates the loss anew, where that is wanted; it is called once, with gradients.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._one(p, -p.grad if group["maximize"] else p.grad, group)
        return loss

    def _one(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        if g.is_sparse or g.is_complex():
            kind = "sparse" if g.is_sparse else "complex"
            raise RecipeError(
                f"muon: a gradient of shape {tuple(g.shape)} is {kind}: it takes dense real ones"
            )
        state = self.state[p]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        (_of_matrix if p.dim() > 1 else _of_others)(p, g, state, group)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """About ``U V'`` of ``matrix = U S V'``: its singular values end near 1, between .7 and 1.2.

    Newton and Schulz's iteration in bfloat16, from the matrix over its Frobenius norm.

    Args:
        matrix: Of two dimensions.
        steps: Iterations.

    Returns:
        In bfloat16, of the same shape.

    Source: Jordan and others 2024; the quintic is theirs.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.size(0) > matrix.size(1)
    x: Tensor = matrix.bfloat16()
    x = x.T if tall else x
    size = cast("Tensor", torch.linalg.vector_norm(x))
    x = torch.div(x, size.clamp(min=1e-7))
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _of_matrix(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["momentum_buffer"] = torch.zeros_like(p)
    buffer: Tensor = state["momentum_buffer"]
    buffer.lerp_(g, 1 - group["momentum"])
    ahead = g.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer
    rows = ahead.reshape(ahead.size(0), -1)
    update = orthogonal(rows, group["ns_steps"]).reshape(p.shape)
    p.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(rows.shape)))


def _of_others(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state |= {"step": 0, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    state["step"] += 1
    t, (first, second) = state["step"], group["betas"]
    mean = state["exp_avg"].lerp_(g, 1 - first)
    square = state["exp_avg_sq"].mul_(second).addcmul_(g, g, value=1 - second)
    root = (square.sqrt() / math.sqrt(1 - second**t)).add_(group["eps"])
    p.addcdiv_(mean, root, value=-group["lr"] / (1 - first**t))
