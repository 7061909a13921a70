"""Shampoo: a preconditioner for each side of a tensor (Gupta, Koren and Singer 2018, algorithms 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim.blocks import cuts, merged, sides
from downslope.optim.decay import CoupledDecay, DecoupledDecay
from downslope.optim.domains import Choice, Count, Domains, Interval, Maybe, Several, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.eigenbasis import gram, turned
from downslope.optim.momentum import HeavyBall
from downslope.optim.nesterov import LookAhead
from downslope.optim.options import Options
from downslope.optim.roots import inverse_root
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain, field_names
from downslope.optim.scale import ScaleByLr

__all__ = ["ScaleByShampoo", "Shampoo"]

Held = tuple[Tensor, ...]

_DOMAINS: Domains = {
    "betas": Several(
        (
            Interval(0.0, 1.0, "the decay of the mean of g", "0.9 is usual"),
            Interval(0.0, 1.0, "the decay of the factors; 1 adds them up", "1 is usual", closed=True),
        ),
        "the decays of the means of g and of its outer products; (0.9, 1) is usual",
    ),
    "epsilon": Interval(0.0, float("inf"), "what is added to the factors' eigenvalues", "1e-12 is usual"),
    "max_preconditioner_dim": Count(1, "the longest side of a block", "1024 is usual"),
    "merge_dims": Switch("see more than two sides as fewer"),
    "use_bias_correction": Switch("debias both means"),
    "precondition_frequency": Count(1, "the steps from one inverse root to the next", "1 to 100 is usual"),
    "start_preconditioning_step": Count(1, "the first step with inverse roots", "1 is usual"),
    "grafting": Choice((None, "sgd", "adagrad", "rmsprop", "adam"), "whose step's length is taken"),
    "grafting_beta2": Interval(0.0, 1.0, "the decay of grafting's mean of g**2", "0.999 is usual"),
    "grafting_epsilon": Interval(0.0, float("inf"), "what keeps a division from zero", "1e-8 is usual"),
}


@dataclass(frozen=True, kw_only=True)
class ScaleByShampoo(Rule[Held]):
    """Turns and scales a tensor by an inverse root for each of its sides: of a matrix ``L^-1/4 G R^-1/4``.

    ``L = L + g g'``, ``R = R + g' g`` (beta2 = 1; else ``L = beta2 L + (1 - beta2) g g'``, debiased), then
    ``(L + eps I)^-1/4 m (R + eps I)^-1/4`` with ``m = beta1 m + (1 - beta1) g``, debiased. A tensor of k
    sides takes ``-1/(2k)``; of a vector it is AdaGrad with the full matrix. Tensors longer than
    `max_preconditioner_dim` along a side are cut into blocks with factors of their own.

    State: two matrices n x n for each side n of each block, and m; `grafting` other than "sgd" keeps the
    mean of g**2 beside them. Factors are in float32, of float64 parameters in float64; roots are taken in
    float64.

    Differs from: the paper in beta1, which is 0 there, and in its step at eigenvalues that are 0 within
        rounding, see `inverse_root`; a gradient with elements beyond 3e15 (in float64, 1e123) is shortened to
        that, as the factors could not hold its products. See `Shampoo`.
    Source: Gupta and others 2018, algorithms 1 and 2; Shi and others 2023, algorithm 2, for the rest.
    """

    scope: ClassVar[Any] = "matrix"
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = _DOMAINS

    betas: tuple[Scalar, Scalar] = (0.9, 1.0)
    epsilon: Scalar = 1e-12
    max_preconditioner_dim: int = 1024
    merge_dims: bool = True
    precondition_frequency: int = 1
    start_preconditioning_step: int = 1
    use_bias_correction: bool = True
    grafting: str | None = None
    grafting_beta2: Scalar = 0.999
    grafting_epsilon: Scalar = 1e-8

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        whole = tuple(p.shape) or (1,)
        return merged(whole, self.max_preconditioner_dim) if self.merge_dims else whole

    def _factors(self, p: Tensor) -> list[tuple[str, int]]:
        shape = self._shape(p)
        return [
            (f"{block}_{side}", size)
            for block, cut in enumerate(cuts(shape, self.max_preconditioner_dim))
            for side, size in enumerate(sides(shape, cut))
        ]

    def keys_of(self, p: Tensor) -> tuple[str, ...]:
        plain = ("filtered_grad",) if self.betas[0] != 0.0 else ()
        grafted = ("exp_avg_sq",) if self.grafting not in (None, "sgd") else ()
        places = [name for name, _ in self._factors(p)]
        factors = [f"{kind}_{place}" for kind in ("factor", "root") for place in places]
        return (*plain, *grafted, *factors)

    def init(self, p: Tensor) -> Held:
        own: Any = {"dtype": torch.promote_types(p.dtype, torch.float32), "device": p.device}
        found: dict[str, Tensor] = {}
        for place, size in self._factors(p):
            found[f"factor_{place}"] = torch.zeros(size, size, **own)
            found[f"root_{place}"] = torch.eye(size, **own)
        # Roots of factors that lack a rank stretch the rounding of the mean a million times.
        return tuple(found.get(key, torch.zeros_like(p, **own)) for key in self.keys_of(p))

    def remember(self, tensors: Iterable[Tensor]) -> Held:
        return tuple(tensors)

    def at(self, t: int) -> Scalars:
        (b1, b2), start = self.betas, self.start_preconditioning_step
        sums = self.grafting == "adagrad"
        debias = self.use_bias_correction
        return Scalars(
            keep1=b1,
            gain1=1.0 - b1,
            unbias1=1.0 / (1.0 - b1**t) if debias else 1.0,
            keep2=b2,
            gain2=1.0 if b2 == 1.0 else 1.0 - b2,
            unbias2=1.0 / (1.0 - b2**t) if debias and b2 != 1.0 else 1.0,
            eps=self.epsilon,
            renew=t == start or (t > start and t % self.precondition_frequency == 0),
            waits=t < start,
            keep3=1.0 if sums else self.grafting_beta2,
            gain3=1.0 if sums else 1.0 - self.grafting_beta2,
            unbias3=1.0 / (1.0 - self.grafting_beta2**t) if self.grafting == "adam" else 1.0,
            eps3=self.grafting_epsilon,
        )

    def update(self, g: Tensor, state: Held, p: Tensor, k: Scalars) -> tuple[Tensor, Held]:
        s = dict(zip(self.keys_of(p), state, strict=True))
        g = _shortened(g)
        m = g
        if "filtered_grad" in s:
            s["filtered_grad"] = k.keep1 * s["filtered_grad"] + k.gain1 * g
            m = k.unbias1 * s["filtered_grad"]
        if "exp_avg_sq" in s:
            s["exp_avg_sq"] = k.keep3 * s["exp_avg_sq"] + k.gain3 * (g * g)
        grafted = self._grafted(m, s, k)
        shape, limit = self._shape(p), self.max_preconditioner_dim
        step = torch.empty_like(p, memory_format=torch.contiguous_format).view(shape)
        seen, of_m, of_graft = g.reshape(shape), m.reshape(shape), grafted.reshape(shape)
        for block, cut in enumerate(cuts(shape, limit)):
            roots = self._roots(f"{block}", seen[cut], s, k)
            made = turned(of_m[cut].to(roots[0].dtype), roots)
            if self.grafting is not None:
                made = of_graft[cut] if k.waits else _of_length(made, of_graft[cut])
            step[cut] = made
        return step.view(p.shape), tuple(s.values())

    def _roots(self, block: str, g: Tensor, s: dict[str, Tensor], k: Scalars) -> list[Tensor]:
        for side in range(g.ndim):
            factor, root = f"factor_{block}_{side}", f"root_{block}_{side}"
            s[factor] = k.keep2 * s[factor] + k.gain2 * gram(g.to(s[factor].dtype), side)
            if k.renew:
                found = inverse_root(k.unbias2 * s[factor], 1.0 / (2.0 * g.ndim), float(k.eps))
                s[root] = s[root] if found is None else found
        return [s[f"root_{block}_{side}"] for side in range(g.ndim)]

    def _grafted(self, m: Tensor, s: Mapping[str, Tensor], k: Scalars) -> Tensor:
        if "exp_avg_sq" not in s:
            return m
        return m / ((k.unbias3 * s["exp_avg_sq"]).sqrt() + k.eps3)


def _shortened(g: Tensor) -> Tensor:
    """`g`; shortened where its largest element is beyond the 2/5th power of its type's largest number (3e15
    in float32), so that factors hold its products for as long as a run may take.
    """
    if not g.numel():
        return g
    peak, most = g.abs().amax(), torch.finfo(g.dtype).max ** 0.4
    return g * torch.where(torch.isfinite(peak) & (peak > most), most / peak, torch.ones_like(peak))


def _of_length(direction: Tensor, of: Tensor) -> Tensor:
    """`direction` as long as `of`; 1e-16 keeps it from dividing by 0, as Shi and others have it."""
    return direction * (torch.linalg.vector_norm(of) / (torch.linalg.vector_norm(direction) + 1e-16))


class Shampoo(Optimizer):
    """Shampoo: ``p = p - lr (L^-1/4 m R^-1/4 + weight_decay p)``, a preconditioner for each side of a tensor.

    See `ScaleByShampoo`. Memory per parameter of m x n: two m x m and two n x n matrices, and m x n for the
    mean gradient; a block of ``max_preconditioner_dim`` squared is the most that is decomposed at a time.
    Steps with a new inverse root take longer than the others by the eigenvalues of every factor.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf).
        betas: decay of the mean gradient, in [0, 1); decay of the factors, in [0, 1]: 1 adds them up.
        epsilon: what is added to the factors' eigenvalues, in [0, inf).
        momentum: of the steps, in [0, 1): heavy ball on what is preconditioned and decayed.
        weight_decay: in [0, inf).
        max_preconditioner_dim: the longest side of a block, from 1 on.
        precondition_frequency: steps from one inverse root to the next, from 1 on.
        start_preconditioning_step: the first step with inverse roots; before it the step is that of
            `grafting`, and without one the mean gradient. None: `precondition_frequency`.
        use_nesterov: the momentum looks one step ahead.
        use_bias_correction: debias both means.
        use_decoupled_weight_decay: decay the parameters; else the penalty's gradient is preconditioned too.
        merge_dims: see neighbouring sides as one while they are at most `max_preconditioner_dim`, down to
            two: a convolution's kernel goes with its inputs.
        grafting: whose step's length each block takes: ``"sgd"``, ``"adagrad"``, ``"rmsprop"``, ``"adam"``,
            or None for Shampoo's own.
        grafting_beta2: decay of grafting's mean of g**2, in [0, 1).
        grafting_epsilon: in [0, inf).
        maximize: climb in place of descend.
        backend: ``"reference"``, ``"eager"``, or None for the fastest that fits.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: Gupta and others, whose gradient is not averaged: ``betas=(0, 1)`` is theirs; Distributed
        Shampoo, which takes grafting as a configuration, spreads blocks over processes, and ends a run whose
        factor is not finite (here the last root stays).
    Source: Gupta, Koren and Singer 2018, "Shampoo: preconditioned stochastic tensor optimization"; Shi and
        others 2023 (arXiv 2309.06497) for blocks, grafting and defaults.
    """

    source = "Gupta and others 2018, algorithms 1 and 2"
    domains: ClassVar[Domains] = {
        **_DOMAINS,
        "start_preconditioning_step": Maybe(Count(1, "the first step with inverse roots", "1 is usual")),
        "use_nesterov": Switch("look one step of momentum ahead"),
        "use_decoupled_weight_decay": Switch("decay the parameters, not the gradient"),
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 1.0),
        epsilon: float = 1e-12,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        max_preconditioner_dim: int = 1024,
        precondition_frequency: int = 1,
        start_preconditioning_step: int | None = None,
        use_nesterov: bool = False,
        use_bias_correction: bool = True,
        use_decoupled_weight_decay: bool = True,
        merge_dims: bool = True,
        grafting: str | None = None,
        grafting_beta2: float = 0.999,
        grafting_epsilon: float = 1e-8,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr, "betas": betas, "epsilon": epsilon, "momentum": momentum, "weight_decay": weight_decay,
            "max_preconditioner_dim": max_preconditioner_dim,
            "precondition_frequency": precondition_frequency,
            "start_preconditioning_step": start_preconditioning_step, "use_nesterov": use_nesterov,
            "use_bias_correction": use_bias_correction,
            "use_decoupled_weight_decay": use_decoupled_weight_decay, "merge_dims": merge_dims,
            "grafting": grafting, "grafting_beta2": grafting_beta2, "grafting_epsilon": grafting_epsilon,
            "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain:
        start = settings["start_preconditioning_step"] or settings["precondition_frequency"]
        own = {name: settings[name] for name in field_names(ScaleByShampoo) if name in settings}
        scale = ScaleByShampoo(**{**own, "start_preconditioning_step": start})
        decay = settings["weight_decay"]
        momentum = LookAhead if settings["use_nesterov"] else HeavyBall
        decoupled = settings["use_decoupled_weight_decay"]
        return chain(
            *(() if decoupled else (CoupledDecay(weight_decay=decay),)),
            scale,
            *((DecoupledDecay(weight_decay=decay),) if decoupled else ()),
            momentum(momentum=settings["momentum"]),
            ScaleByLr(lr=settings["lr"]),
        )
