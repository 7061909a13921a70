"""Which backend steps which tensor, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean
from downslope.optim.kinds import PLAIN, Manner, as_seen, manner_of
from downslope.optim.layout import is_dense
from downslope.optim.native import Native, has_members, match
from downslope.optim.routes import Routes, names_of, routed
from downslope.optim.rows import check_lazy
from downslope.optim.rule import Chain

__all__ = ["BACKENDS", "Choice", "Plan", "PlanRow", "check_backend", "check_forced", "choose", "rows_of"]

BACKENDS = ("reference", "eager", "native")
NOT_BUILT = {"kernel": "one generated loop per rule on the CPU", "compiled": "torch.compile on a GPU"}

_FUSED_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_FUSED_DEVICES = ("cpu", "cuda")
# Torch 2.13 steps wrongly, without a word, on tensors of 16 elements and more, a full vector of its kernel.
_WRONG = {("torch._fused_sgd_", "cpu", dtype) for dtype in (torch.float16, torch.bfloat16)}


def check_backend(backend: str | None) -> str | None:
    """`backend` if it is one that exists, or None for automatic choice.

    Raises:
        RecipeError: another name; ``kernel`` and ``compiled`` are said to be not built yet.
    """
    if backend is None or backend in BACKENDS:
        return backend
    if backend in NOT_BUILT:
        raise RecipeError(
            f"backend={backend!r}: not built yet ({NOT_BUILT[backend]}); use one of {', '.join(BACKENDS)}, "
            "or None for the fastest that fits"
        )
    raise RecipeError(
        f"backend={backend!r} is not known{did_you_mean(str(backend), [*BACKENDS, *NOT_BUILT])}"
    )


def check_forced(backend: str | None, composed: Chain | Routes) -> None:
    """Refuses at construction a backend that no tensor could have.

    Raises:
        RecipeError: ``"native"`` for a chain that torch has no kernel for.
    """
    chains = routed(composed).active().chains
    if backend == "native" and all(match(chain, maximize=False) is None for chain in chains):
        raise RecipeError(
            "backend='native': torch has no fused kernel for this chain; use None for the fastest that fits"
        )


@dataclass(frozen=True)
class Choice:
    """A backend, why, and torch's kernel if it is that."""

    backend: str
    reason: str
    native: Native | None = None


def choose(
    p: Tensor, chain: Chain, native: Native | None, forced: str | None, manner: Manner = PLAIN
) -> Choice:
    """The backend for `p`, stepped in a `manner` by the active `chain`, of which torch's kernel is `native`.

    Raises:
        RecipeError: a forced backend cannot step `p`, or the rules move rows that a sparse gradient does not
            name.
    """
    if manner.sparse:
        check_lazy(p, chain, forced)
        return Choice("rows", "the gradient is sparse: the rows that it names, by the rules")
    if manner.rounds:
        if forced not in (None, "eager", "reference"):
            raise RecipeError(f"backend={forced!r}: no kernel steps {manner}; use backend=None")
        return Choice(forced or "eager", str(manner))
    obstacle = _native_obstacle(p, native)
    members = has_members(chain)
    if forced == "native" and obstacle:
        raise RecipeError(f"backend='native': {obstacle}; use backend=None for the fastest that fits")
    if forced == "eager" and members:
        raise RecipeError(
            "backend='eager': a hyper-parameter holds a number for each member; use 'reference' or None"
        )
    if forced == "reference":
        return Choice("reference", "asked for")
    if members:
        return Choice("reference", "a hyper-parameter holds a number for each member")
    if forced == "eager":
        return Choice("eager", "asked for")
    if obstacle is None and native is not None:
        return Choice("native", f"the chain is {native.name}", native)
    return Choice("eager", obstacle or "")


def _native_obstacle(p: Tensor, native: Native | None) -> str | None:
    if native is None:
        return "torch has no fused kernel for this chain"
    if p.device.type not in _FUSED_DEVICES:
        return f"{native.name} has no kernel for {p.device.type}"
    if p.dtype not in _FUSED_DTYPES:
        return f"{native.name} has no kernel for {p.dtype}"
    if (native.name, p.device.type, p.dtype) in _WRONG:
        return f"{native.name} steps wrongly on {p.dtype} on the CPU (torch 2.13)"
    if not is_dense(p):
        return f"{native.name} needs tensors without gaps in memory"
    return None


@dataclass(frozen=True)
class PlanRow:
    """Tensors of one group that are stepped alike."""

    group: int
    tensors: int
    elements: int
    dtype: str
    device: str
    backend: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What `Optimizer.plan` returns; `rows` for machines, ``str()`` for people."""

    optimizer: str
    rows: tuple[PlanRow, ...]

    def __str__(self) -> str:
        head = ("group", "tensors", "elements", "dtype", "device", "backend", "reason")
        body = [tuple(str(value) for value in vars(row).values()) for row in self.rows]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in [head, *body]
        ]
        return "\n".join([self.optimizer, *lines])


def rows_of(
    index: int, group: Mapping[str, Any], composed: Chain | Routes, forced: str | None
) -> list[PlanRow]:
    """The plan's rows for one parameter group whose settings make a chain, or routes."""
    active = routed(composed).active()
    natives = [match(chain, group.get("maximize", False)) for chain in active.chains]
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    params: list[Tensor] = group["params"]
    for p, name in zip(params, names_of(group), strict=True):
        route = active.index(p, name)
        manner = manner_of(p, group)
        choice = choose(as_seen(p, manner), active.chains[route], natives[route], forced, manner)
        key = (str(p.dtype).removeprefix("torch."), str(p.device), choice.backend, choice.reason)
        row = counts.setdefault(key, [0, 0])
        row[0] += 1
        row[1] += p.numel()
    return [PlanRow(index, n, size, *key) for key, (n, size) in counts.items()]
