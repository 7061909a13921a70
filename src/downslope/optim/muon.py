"""Muon: the momentum of each matrix, orthogonalised; AdamW for the rest (Jordan and others 2024)."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Unpack, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim import ops
from downslope.optim.adam import ScaleByAdam
from downslope.optim.batches import Batched
from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Choice, Domains, Interval, Several
from downslope.optim.driver import Optimizer, Params
from downslope.optim.flow import Flow, Lists
from downslope.optim.momentum import Velocity
from downslope.optim.notes import say_once
from downslope.optim.options import Options
from downslope.optim.orthogonal import (
    COEFFICIENTS,
    EPS,
    Space,
    iterated,
    orthogonal,
    orthogonal_all,
    precision_of,
)
from downslope.optim.picks import Pick, picked
from downslope.optim.plan import Plan
from downslope.optim.refusals import listed
from downslope.optim.roles import check_roles, head_of_sequential, role_of
from downslope.optim.routes import Routes, names_of
from downslope.optim.rule import Rule, Scalar, Scalars, Stateless, chain
from downslope.optim.scale import ScaleByLr

__all__ = ["MeanMomentum", "Muon", "Orthogonalise", "orthogonal"]


KEPT = 1 << 22
"""Elements of a batch whose memory a thread keeps from step to step; of larger ones it is given back."""

MOST = 100
"""Iterations of Newton and Schulz at most; five bring what is above 1/500 of the norm between .65 and 1.2."""

_REAL = Interval(-math.inf, math.inf, "a coefficient", "3.4445, -4.775, 2.0315 are usual")


@dataclass(frozen=True, kw_only=True)
class MeanMomentum(Rule[Velocity]):
    """The mean gradient, with Nesterov one step ahead: ``b = mu b + (1 - mu) g``, ``(1 - mu) g + mu b``.

    mu is `momentum` in [0, 1); without `nesterov` it returns b. b begins at 0 and is not debiased. One tensor
    of state per parameter.

    Differs from: `HeavyBall`, whose b is a sum; orthogonalised they are one, but for eps.
    Source: Jordan and others 2024; torch.optim.Muon.
    """

    memory: ClassVar[type[tuple[Tensor, ...]]] = Velocity
    keys: ClassVar[tuple[str, ...]] = ("momentum_buffer",)

    momentum: Scalar = 0.95
    nesterov: bool = True

    def init(self, p: Tensor) -> Velocity:
        return Velocity(torch.zeros_like(p))

    def at(self, t: int) -> Scalars:
        mu = self.momentum
        return Scalars(gain=1.0 - mu, ahead=mu if self.nesterov else 1.0)

    def update(self, g: Tensor, state: Velocity, p: Tensor, k: Scalars) -> tuple[Tensor, Velocity]:
        b = state.b + k.gain * (g - state.b)
        # 1 - ahead is left to the loop, whose roundings are then those of torch's lerp.
        return b + (1.0 - k.ahead) * (g - b), Velocity(b)

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        (b,) = state
        g, gain = flow.value(p), float(k.gain)
        if not self.nesterov:
            ops.foreach_lerp_(b, g, gain)
            return Flow(b)
        # One after another: what the first reads and writes is still in the cache for the second.
        ahead = float(k.ahead)
        pairs = zip(g, b, strict=True)
        return Flow([now.lerp(mean.lerp_(now, gain), ahead) for now, mean in pairs], owned=True)


@dataclass(frozen=True, kw_only=True)
class Orthogonalise(Rule[Stateless], Batched):
    """Replaces each matrix by one of the same singular vectors whose singular values are near 1: ``f U V'``.

    A tensor of m x n x ... is a matrix of m rows: a convolution has a row for each of its outputs. See
    `orthogonal` for the iteration, which `ns_steps`, `ns_coefficients` and `eps` belong to. Of m rows and n
    columns f is ``sqrt(max(1, m / n))`` where `adjust_lr_fn` is None or "original"; where it is
    "match_rms_adamw" it is ``0.2 sqrt(max(m, n))``, which gives the root mean square of an AdamW step.

    The backend "reference" iterates in the dtype of the gradient, the fast one in `ns_precision`: "bfloat16",
    "float32", "float64", or None: what products are fast in on the device, and float64 for parameters of
    float64. They agree within 2e-2 of the step in bfloat16. Of large groups on the CPU
    the links before and behind it are loops that write its batches and read them (`Batched`). No state.

    Differs from: torch.optim.Muon, which always iterates in bfloat16 and refuses all but matrices.
    Source: Jordan and others 2024; Liu and others 2025 (arXiv 2502.16982), equation 4, for "match_rms_adamw".
    """

    scope: ClassVar[Any] = "matrix"
    domains: ClassVar[Domains] = {
        "ns_coefficients": Several(_REAL, "of x -> a x + b x^3 + c x^5", 3),
        "adjust_lr_fn": Choice((None, "original", "match_rms_adamw"), "how a matrix's shape scales lr"),
        "ns_precision": Choice((None, "bfloat16", "float32", "float64"), "in which products are taken"),
    }

    ns_coefficients: tuple[float, float, float] = COEFFICIENTS
    ns_steps: int = 5
    eps: Scalar = EPS
    adjust_lr_fn: str | None = None
    ns_precision: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        steps: Any = self.ns_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST:
            raise RecipeError(f"ns_steps={steps!r}: must be a whole number from 1 to {MOST}; 5 is usual")

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def _factor(self, shape: torch.Size) -> float:
        m, n = shape[0], math.prod(shape[1:])
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(m, n))
        return math.sqrt(max(1.0, m / max(n, 1)))

    def _made(self, matrices: list[Tensor], dtype: torch.dtype | None, space: Space | None = None) -> Tensor:
        return orthogonal_all(matrices, self.ns_steps, self.ns_coefficients, float(self.eps), dtype, space)

    def _precision(self, otherwise: torch.dtype) -> torch.dtype:
        return getattr(torch, self.ns_precision) if self.ns_precision else otherwise

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        rows = g.reshape(g.size(0), math.prod(g.shape[1:]))
        return self._factor(p.shape) * self._made([rows], self._precision(g.dtype))[0].to(g.dtype).view(
            g.shape
        ), ()

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        """Matrices of one shape, as the driver hands them, in one batch."""
        matrices = [g.reshape(g.size(0), math.prod(g.shape[1:])) for g in flow.value(p)]
        dtype = self._precision(precision_of(p[0].device, p[0].dtype))
        return self._flow(self._made(matrices, dtype, _space(p)), p)

    def rooms(self, p: list[Tensor]) -> list[Tensor]:
        first = p[0]
        dtype = self._precision(precision_of(first.device, first.dtype))
        shape = first.size(0), math.prod(first.shape[1:])
        return (_space(p) or Space()).batch(len(p), shape, dtype, first.device)

    def lengths(self, squares: Tensor, dtype: torch.dtype) -> Tensor:
        return squares.sqrt().to(dtype).clamp(min=float(self.eps)).double()

    def work(self, rooms: list[Tensor], p: list[Tensor]) -> Flow:
        return self._flow(iterated(rooms, self.ns_steps, self.ns_coefficients), p)

    def _flow(self, found: Tensor, p: list[Tensor]) -> Flow:
        num = list(found.view(len(p), *p[0].shape).unbind())
        return Flow(num, scale=self._factor(p[0].shape), owned=True)


_SPACES = threading.local()


def _space(p: list[Tensor]) -> Space | None:
    """This thread's memory for a batch; the driver's step uses what lies in it before the next batch."""
    if len(p) * p[0].numel() > KEPT:
        return None
    if not hasattr(_SPACES, "own"):
        _SPACES.own = Space()
    return _SPACES.own


class Muon(Optimizer):
    """Muon: ``p = p - lr (f U V' + weight_decay p)``, with ``U S V'`` the momentum; AdamW for the rest.

    Hidden weights, matrices and the kernels of convolutions, move by their mean gradient, orthogonalised: see
    `MeanMomentum` and `Orthogonalise`. Embeddings, the last layer, norms and biases take AdamW's step, as the
    authors advise. What a parameter is, is told by `roles`, else by its name where it has a usual one, such
    as ``lm_head`` or ``embed_tokens``; of a plain Sequential's ``0.weight``, ``0.bias``, ... the last matrix
    is the head. Without names, or with others, every matrix is orthogonalised, embeddings and the last layer
    too; that is logged once, and ``plan()`` says it and who goes where. One tensor of state for a matrix, two
    for the others. Parameters that shall have another rate go into a group of their own.

    Args:
        params: parameters, named parameters, or groups of them.
        lr: step length in [0, inf), of both rules.
        weight_decay: decoupled decay in [0, inf), of both.
        momentum: of matrices, in [0, 1).
        nesterov: whether the momentum looks one step ahead.
        ns_coefficients: ``(a, b, c)`` of the iteration ``x -> a x + b x^3 + c x^5``.
        eps: the least norm that a matrix is divided by, in [0, inf).
        ns_steps: iterations of Newton and Schulz, from 1 to 100.
        adjust_lr_fn: ``"match_rms_adamw"``: ``f = 0.2 sqrt(max(m, n))``, so that one rate serves both rules;
            ``"original"`` or None: ``f = sqrt(max(1, m / n))``.
        betas: decays of AdamW's two means, each in [0, 1).
        adamw_eps: in [0, inf).
        ns_precision: of the iteration, see `Orthogonalise`.
        matrices: which parameters are orthogonalised, a table of `Pick`: ``{"params": ["blocks.*"], "ndim":
            [2]}``; None: those whose role is "hidden"; True: all of two dimensions and more; False: none.
        roles: names, or patterns in which ``*`` is any text, to roles; ``ds.optim.roles(model)`` finds them.
        maximize: climb in place of descend.
        backend: ``"reference"``, ``"eager"``, ``"kernel"``, or None for the fastest that fits.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or a gradient that is sparse.

    Differs from: `torch.optim.Muon`, which takes matrices alone and has ``adjust_lr_fn=None``; with the same
        one, and ns_precision "bfloat16", the steps of matrices are the same, and states are interchanged.
    Source: Jordan, Jin, Boza and others 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    source = "Jordan and others 2024"
    unnamed: ClassVar[Mapping[str, Any]] = {"matrices": True}
    """What it comes to where parameters have no names, for a recipe, which has them."""
    domains: ClassVar[Domains] = {
        **Orthogonalise.domains,
        "adamw_eps": Interval(0.0, math.inf, "what keeps AdamW's division from zero", "1e-8 is usual"),
    }

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float = EPS,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = "match_rms_adamw",
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
        ns_precision: str | None = None,
        matrices: Mapping[str, Any] | bool | None = None,
        roles: Mapping[str, str] | None = None,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        given = listed(params)
        if roles is None:
            roles = _seen_in(given)
        settings = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "betas": betas, "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn, "adamw_eps": adamw_eps, "ns_precision": ns_precision,
            "matrices": matrices, "roles": check_roles(roles), "maximize": maximize,
        }  # fmt: skip
        super().__init__(given, settings, backend=backend, implementation=options)
        vectors = any(p.ndim < 2 for group in self.param_groups for p in group["params"])
        if vectors and (note := self._unseen()):  # matrices alone were chosen by hand
            say_once(note)

    def plan(self) -> Plan:
        """What the next step runs for each kind of tensor, why, and whether the last layer could be told."""
        made = super().plan()
        return replace(made, note="; ".join(filter(None, [made.note, self._unseen()])))

    def _unseen(self) -> str:
        """One line where neither names nor roles tell the last layer from a hidden one."""
        matrices = 0
        for group in self.param_groups:
            if group["matrices"] is not None or (group["roles"] is not None and "param_names" in group):
                return ""
            for p, name in zip(group["params"], names_of(group), strict=True):
                if p.ndim > 1:
                    matrices += 1
                    if role_of(p, name) != "hidden":
                        return ""
        if not matrices:
            return ""
        return (
            f"{type(self).__name__}: no name tells the last layer or an embedding: every matrix is "
            f"orthogonalised, {matrices} in all; give model.named_parameters() and "
            "roles=ds.optim.roles(model), or matrices=True if that is meant"
        )

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Routes:
        decay, lr = settings["weight_decay"], settings["lr"]
        orthogonalise = Orthogonalise(
            **{name: settings[name] for name in (*Orthogonalise.domains, "ns_steps", "eps")}
        )
        matrices = chain(
            MeanMomentum(momentum=settings["momentum"], nesterov=settings["nesterov"]),
            orthogonalise,
            DecoupledDecay(weight_decay=decay),
            ScaleByLr(lr=lr),
        )
        others = chain(
            ScaleByAdam(betas=settings["betas"], eps=settings["adamw_eps"]),
            DecoupledDecay(weight_decay=decay),
            ScaleByLr(lr=lr),
        )
        return Routes(((_Matrices(settings["matrices"], settings["roles"]), matrices),), others)


def _seen_in(given: Sequence[Any]) -> dict[str, str] | None:
    """The head of a plain Sequential, where all its parameters come with their names."""
    entries: list[Any] = []
    for each in given:
        own = cast("dict[str, Any]", each).get("params", ()) if isinstance(each, dict) else [each]
        entries += [own] if isinstance(own, Tensor) else own if isinstance(own, list | tuple) else [None]
    if not entries or not all(isinstance(each, tuple) and len(cast("Any", each)) == 2 for each in entries):
        return None
    named = [(name, p) for name, p in entries if isinstance(name, str) and isinstance(p, Tensor)]
    return head_of_sequential(named) if len(named) == len(entries) else None


class _Matrices:
    """Whether a parameter is orthogonalised."""

    def __init__(self, given: Any, roles: Mapping[str, str] | None) -> None:
        self.none = given is False
        usual = {"role": ["hidden"]} if given is None else {}
        self.pick = Pick() if self.none else picked(usual if isinstance(given, bool | None) else given, roles)

    def __call__(self, p: Tensor, name: str) -> bool:
        return not self.none and p.ndim > 1 and self.pick(p, name)

    def check_names(self, named: Sequence[str]) -> None:
        """See `Pick.check_names`."""
        self.pick.check_names(named)
