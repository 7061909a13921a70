"""Schedule-Free: interpolation and averaging in the place of momentum and schedule (Defazio et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Unpack

from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.decay import CoupledDecay
from downslope.optim.domains import Count, Domains, Interval
from downslope.optim.driver import Optimizer, Params
from downslope.optim.options import Options
from downslope.optim.rule import Chain, Rule, Scalars, chain

__all__ = ["Base", "ScheduleFree", "ScheduleFreeSGD"]

DOMAINS: Domains = {
    "warmup_steps": Count(
        0, "the steps over which the rate rises from lr / warmup_steps to lr", "0 is usual"
    ),
    "r": Interval(0.0, float("inf"), "the power of the step in the weights of the average", "0 is usual"),
    "weight_lr_power": Interval(
        0.0, float("inf"), "the power of the largest rate in the weights of the average", "2 is usual"
    ),
}
"""Of what both classes take besides the settings of all optimizers."""


class Base(NamedTuple):
    """State of Schedule-Free."""

    z: Tensor
    """The sequence that steps go down on; shape and dtype of p."""


@dataclass(frozen=True, kw_only=True)
class ScheduleFree(Rule[Base]):
    """Steps from z, averages into x, looks at the gradient between them; p holds y.

    ::

        z = z - gamma g,   gamma = lr min(1, t / warmup_steps)
        x = (1 - c) x + c z,   c = w / (sum of all w),   w = t**r gamma_max**weight_lr_power
        y = (1 - beta) z + beta x

    beta is `momentum` in (0, 1), gamma_max the largest gamma so far. Only z is kept: ``y = (1 - c) y + c z -
    gamma (1 - beta (1 - c)) g`` needs no x. Weights to evaluate: ``x = (y - (1 - beta) z) / beta``, by the
    beta that y was made with: where `momentum` changes, by a schedule, ``y = y_new - (1 - beta_new /
    beta_old) (1 - c) (y_old - z_old)``, and x goes on. It is the last link of its chain and takes the place
    of the rate. One tensor of state per parameter, and the numbers ``weight_sum``, ``lr_max`` and ``beta``.

    beta near 0 is gradient descent with the mean of its weights shown (Polyak and Ruppert); beta near 1 is
    primal averaging. beta 0 itself is refused: x is not in y then; `WeightMean` behind `ScaleByLr` is that
    method.

    Differs from: the authors' class, which counts steps and weights for a whole group, a parameter without
    gradient too, and has to be told train() before it steps.
    Source: Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky 2024, "The road less scheduled", eq. 3-5 and
    algorithm 1; r and the power of the rate as in the authors' code.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Base
    ends: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = ("z",)
    counts: ClassVar[bool] = True
    tally: ClassVar[Mapping[str, float]] = {"weight_sum": 0.0, "lr_max": -1.0, "beta": 0.0}
    domains: ClassVar[Domains] = DOMAINS

    lr: float = 1.0
    momentum: float = 0.9
    warmup_steps: int = 0
    r: float = 0.0
    weight_lr_power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum == 0.0:
            raise RecipeError(
                "momentum (betas[0]) is 0: must lie in (0, 1) with Schedule-Free, which has its average by "
                "it; 0.9 is usual, and average='polyak' beside 'sgd' is that method with 0"
            )

    def init(self, p: Tensor) -> Base:
        return Base(p.detach().clone())

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[Scalars, dict[str, float]]:
        gamma = self.lr * min(1.0, t / self.warmup_steps) if self.warmup_steps else self.lr
        largest = max(gamma, tally["lr_max"])
        weight = float(t) ** self.r * largest**self.weight_lr_power
        total = tally["weight_sum"] + weight
        c = weight / total if total else 0.0
        beta, before = self.momentum, tally["beta"] or self.momentum
        k = Scalars(
            gamma=gamma,
            pull=c + (1.0 - c) * (1.0 - beta / before),
            move=gamma * (1.0 - beta * (1.0 - c)),
        )
        return k, {"weight_sum": total, "lr_max": largest, "beta": beta}

    def update(self, g: Tensor, state: Base, p: Tensor, k: Scalars) -> tuple[Tensor, Base]:
        z = state.z - k.gamma * g
        return k.pull * (p - state.z) + k.move * g, Base(z)

    def shown(self, state: Base, p: Tensor, tally: Mapping[str, float]) -> Tensor:
        return p + (1.0 / (tally["beta"] or self.momentum) - 1.0) * (p - state.z)


class ScheduleFreeSGD(Optimizer):
    """Schedule-Free SGD: descent on z, its average x is the result, gradients are taken at y between them.

    See `ScheduleFree` for the formula. No schedule is needed, and the length of the run need not be known;
    `warmup_steps` is worth while. The parameters hold y while training; to evaluate or to save them,
    ``with optimizer.shown():``, or ``optimizer.eval()`` and ``optimizer.train()``. `downslope.fit` does it by
    itself. One tensor of state per parameter.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf); 10 to 50 times that of SGD with a schedule, say the authors.
        momentum: beta in (0, 1): how near y is to x; 0.95 or 0.98 for very long runs.
        weight_decay: coupled L2 decay in [0, inf), taken at y.
        warmup_steps: steps over which the rate rises to lr, one of 0, 1, ...
        r: power of the step in the weights of the average, in [0, inf).
        weight_lr_power: power of the largest rate in them, in [0, inf).
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: rounding, dtypes, schedules; see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: see `ScheduleFree`.
    Source: Defazio et al. 2024, "The road less scheduled", eq. 3-5.
    """

    source = "Defazio et al. 2024, eq. 3-5"
    domains: ClassVar[Domains] = DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "maximize": maximize,
        }
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        own = ("lr", "momentum", "warmup_steps", "r", "weight_lr_power")
        return chain(
            CoupledDecay(weight_decay=settings["weight_decay"]),
            ScheduleFree(**{name: settings[name] for name in own}),
        )
