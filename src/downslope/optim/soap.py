"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner (Vyas and others 2024, algorithm 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from downslope.optim.adam import ScaleByAdam
from downslope.optim.blocks import merged
from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Count, Domains, Interval, Switch
from downslope.optim.driver import Optimizer, Params
from downslope.optim.eigenbasis import basis_of, gram, power_step, turned, turned_back
from downslope.optim.options import Options
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, chain, field_names
from downslope.optim.scale import ScaleByLr

__all__ = ["SOAP", "ScaleBySoap"]

Held = tuple[Tensor, ...]

_DOMAINS: Domains = {
    "shampoo_beta": Interval(-1.0, 1.0, "the factors' decay; below 0 betas[1]", "-1 is usual"),
    "precondition_frequency": Count(1, "the steps from one basis to the next", "10 is usual"),
    "max_precond_dim": Count(1, "the longest side that has a basis", "10000 is usual"),
    "merge_dims": Switch("see more than two sides as fewer"),
    "precondition_1d": Switch("give vectors a basis too"),
    "normalize_grads": Switch("give each step a root mean square of 1"),
    "correct_bias": Switch("debias both means"),
}


@dataclass(frozen=True, kw_only=True)
class ScaleBySoap(Rule[Held]):
    """Adam on a tensor turned into the eigenbasis of ``g g'`` and of ``g' g``, and turned back.

    With ``G' = Q_L' G Q_R``: ``m = b1 m + (1 - b1) G'``, ``v = b2 v + (1 - b2) G'**2``, both debiased, the
    step is ``Q_L (m / (sqrt(v) + eps)) Q_R'``. Then ``L = b2 L + (1 - b2) G G'``, R likewise, and after each
    `precondition_frequency` steps one step of orthogonal iteration, ``Q_L = QR(L Q_L)``, into which m is
    turned and whose columns v follows. A tensor has a basis for each side of at most `max_precond_dim`.

    The first step is Adam's own, Q being the identity; L and R of its gradient then give Q by eigenvalues,
    and m and v of this one gradient are formed anew in that basis.

    State: two tensors like p, and two matrices n x n for each side n that has a basis, in float32, of float64
    parameters in float64.

    Differs from: the authors' code, where the first gradient only makes the basis and no step; whose eps is
    not debiased with v; and whose decay comes after the step.
    Source: Vyas and others 2024, algorithms 3 and 4.
    """

    scope: ClassVar[Any] = "matrix"
    keys: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")
    counts: ClassVar[bool] = True
    domains: ClassVar[Domains] = _DOMAINS

    betas: tuple[Scalar, Scalar] = (0.95, 0.95)
    shampoo_beta: Scalar = -1.0
    eps: Scalar = 1e-8
    precondition_frequency: int = 10
    max_precond_dim: int = 10000
    merge_dims: bool = False
    precondition_1d: bool = False
    normalize_grads: bool = False
    correct_bias: bool = True

    def _shape(self, p: Tensor) -> tuple[int, ...]:
        whole = tuple(p.shape) or (1,)
        return merged(whole, self.max_precond_dim) if self.merge_dims else whole

    def _sides(self, p: Tensor) -> list[tuple[int, int]]:
        if p.ndim < 2 and not self.precondition_1d:
            return []
        return [(side, n) for side, n in enumerate(self._shape(p)) if n <= self.max_precond_dim]

    def keys_of(self, p: Tensor) -> tuple[str, ...]:
        places = [side for side, _ in self._sides(p)]
        return (*type(self).keys, *(f"GG_{side}" for side in places), *(f"Q_{side}" for side in places))

    def init(self, p: Tensor) -> Held:
        own: Any = {"dtype": torch.promote_types(p.dtype, torch.float32), "device": p.device}
        sizes = [n for _, n in self._sides(p)]
        factors = [torch.zeros(n, n, **own) for n in sizes]
        return (torch.zeros_like(p), torch.zeros_like(p), *factors, *(torch.eye(n, **own) for n in sizes))

    def remember(self, tensors: Iterable[Tensor]) -> Held:
        return tuple(tensors)

    def at(self, t: int) -> Scalars:
        b1, b2 = self.betas
        b3 = b2 if self.shampoo_beta < 0.0 else self.shampoo_beta
        return Scalars(
            b1=b1,
            b2=b2,
            b3=b3,
            gain1=1.0 - b1,
            gain2=1.0 - b2,
            gain3=1.0 - b3,
            unbias1=1.0 / (1.0 - b1**t) if self.correct_bias else 1.0,
            unbias2=1.0 / (1.0 - b2**t) if self.correct_bias else 1.0,
            eps=self.eps,
            first=t == 1,
            renew=t % self.precondition_frequency == 0,
        )

    def update(self, g: Tensor, state: Held, p: Tensor, k: Scalars) -> tuple[Tensor, Held]:
        s = dict(zip(self.keys_of(p), state, strict=True))
        sides, shape = [side for side, _ in self._sides(p)], self._shape(p)
        work = s["GG_" + str(sides[0])].dtype if sides else g.dtype
        seen = g.reshape(shape).to(work)
        bases: list[Tensor | None] = [s[f"Q_{side}"] if side in sides else None for side in range(len(shape))]
        turned_g = turned(seen, bases)
        m = k.b1 * s["exp_avg"].reshape(shape).to(work) + k.gain1 * turned_g
        v = k.b2 * s["exp_avg_sq"].reshape(shape).to(work) + k.gain2 * (turned_g * turned_g)
        step = turned_back((k.unbias1 * m) / ((k.unbias2 * v).sqrt() + k.eps), bases)
        if self.normalize_grads:
            step = step / (step.square().mean().sqrt() + 1e-30)
        for side in sides:
            s[f"GG_{side}"] = k.b3 * s[f"GG_{side}"] + k.gain3 * gram(seen, side)
        if k.first:
            new = [basis_of(s[f"GG_{i}"]) if i in sides else None for i in range(len(shape))]
            following = [old if found is None else found for old, found in zip(bases, new, strict=True)]
            turned_g = turned(seen, following)
            m, v = k.gain1 * turned_g, k.gain2 * (turned_g * turned_g)
        elif k.renew:
            following, v = self._renewed(s, bases, v)
            m = turned(turned_back(m, bases), following)
        else:
            following = bases
        s |= {f"Q_{side}": basis for side, basis in enumerate(following) if basis is not None}
        s |= {"exp_avg": m.reshape(p.shape).to(p.dtype), "exp_avg_sq": v.reshape(p.shape).to(p.dtype)}
        return step.reshape(p.shape).to(g.dtype), tuple(s.values())

    @staticmethod
    def _renewed(
        s: Mapping[str, Tensor], bases: list[Tensor | None], v: Tensor
    ) -> tuple[list[Tensor | None], Tensor]:
        following = list(bases)
        for side, basis in enumerate(bases):
            if basis is not None:
                following[side], order = power_step(s[f"GG_{side}"], basis)
                v = v.index_select(side, order)
        return following, v


class SOAP(Optimizer):
    """SOAP: Adam in the slowly turning eigenbasis of Shampoo's preconditioner.

    See `ScaleBySoap`. Vectors take AdamW's step unless `precondition_1d`. Memory per parameter of m x n: two
    like it, two m x m and two n x n. Steps with a new basis take longer than the others by a QR decomposition
    of each side, the first by its eigenvalues.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf), about the most that any element moves in one step.
        betas: decays of the two means, each in [0, 1).
        shampoo_beta: decay of the factors' mean, in [0, 1); below 0 it is ``betas[1]``.
        eps: in [0, inf).
        weight_decay: decoupled decay in [0, inf).
        precondition_frequency: steps from one basis to the next, from 1 on.
        max_precond_dim: the longest side that has a basis, from 1 on; longer ones are left as they are.
        merge_dims: see neighbouring sides as one while they are at most `max_precond_dim`, down to two.
        precondition_1d: give vectors a basis too.
        normalize_grads: give each tensor's step a root mean square of 1.
        correct_bias: debias both means.
        maximize: climb in place of descend.
        backend: ``"reference"``, ``"eager"``, or None for the fastest that fits.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain.

    Differs from: the authors' code, see `ScaleBySoap`; it merges sides from the first on, here from the last,
        so that a kernel goes with its inputs; its ``data_format`` is not taken.
    Source: Vyas, Morwani, Zhao and others 2024, "SOAP: improving and stabilizing Shampoo using Adam".
    """

    source = "Vyas and others 2024, algorithm 3"
    domains: ClassVar[Domains] = _DOMAINS

    def __init__(
        self,
        params: Params,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float = -1.0,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
        merge_dims: bool = False,
        precondition_1d: bool = False,
        normalize_grads: bool = False,
        correct_bias: bool = True,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        settings = {
            "lr": lr, "betas": betas, "shampoo_beta": shampoo_beta, "eps": eps, "weight_decay": weight_decay,
            "precondition_frequency": precondition_frequency, "max_precond_dim": max_precond_dim,
            "merge_dims": merge_dims, "precondition_1d": precondition_1d, "normalize_grads": normalize_grads,
            "correct_bias": correct_bias, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, settings, backend=backend, implementation=options)

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain | Routes:
        ends = (DecoupledDecay(weight_decay=settings["weight_decay"]), ScaleByLr(lr=settings["lr"]))
        turning = chain(ScaleBySoap(**{name: settings[name] for name in field_names(ScaleBySoap)}), *ends)
        plain = settings["correct_bias"] and not settings["normalize_grads"]
        if settings["precondition_1d"] or not plain:
            return turning
        adam = chain(ScaleByAdam(betas=settings["betas"], eps=settings["eps"]), *ends)
        return Routes(((lambda p, _: p.ndim > 1, turning),), adam)
