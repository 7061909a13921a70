"""SparseAdam: Adam on the rows that a sparse gradient names, as torch.optim.SparseAdam."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from downslope.optim.adam import ScaleByAdam
from downslope.optim.driver import Optimizer, Params
from downslope.optim.native import Anatomy, Native
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Scalars, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["ScaleBySparseAdam", "SparseAdam"]


@dataclass(frozen=True, kw_only=True)
class ScaleBySparseAdam(ScaleByAdam):
    """Adam's scaling with eps beside the root that is not debiased: ``mhat / (sqrt(vhat) + eps / sqrt(1 -
    b2**t))``.

    Two tensors of state per parameter; see `ScaleByAdam` for the symbols.

    Differs from: `ScaleByAdam` in eps alone, which is 32 times larger at the first step of b2 = 0.999.
    Source: Kingma and Ba 2015, end of section 2; torch.optim.SparseAdam.
    """

    def at(self, t: int) -> Scalars:
        k = super().at(t)
        k.eps = self.eps / (1.0 - self.betas[1] ** t) ** 0.5
        return k

    def native(self, parts: Anatomy) -> Native | None:
        return None


class SparseAdam(Optimizer):
    """Adam for sparse gradients: rows that the gradient names take its step, means of the others wait.

    ``p = p - lr mhat / (sqrt(vhat) + eps / sqrt(1 - b2**t))`` on these rows; t counts the steps of the whole
    parameter. Equivalent to ``torch.optim.SparseAdam``: same arguments, defaults and state. Two tensors of
    state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decays of the two means, each in [0, 1).
        eps: in [0, inf).
        maximize: climb in place of descend.
        backend: see `Optimizer`; torch has no fused kernel.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: torch's class, which refuses dense and complex gradients; here a dense one names every row.
        `Adam` with sparse gradients differs in eps alone, which it debiases.
    Source: see `ScaleBySparseAdam`.
    """

    source = "Kingma and Ba 2015, end of section 2"

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
        *,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        return chain(
            ScaleBySparseAdam(betas=settings["betas"], eps=settings["eps"]), ScaleByLr(lr=settings["lr"])
        )

    def state_dict(self) -> dict[str, Any]:
        """As `Optimizer.state_dict`; ``step`` is an int, as torch's class has it."""
        saved = super().state_dict()
        saved["state"] = {
            key: {**state, "step": int(state["step"])} if "step" in state else state
            for key, state in saved["state"].items()
        }
        return saved
