"""Which backend steps which tensor, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.core.names import did_you_mean
from downslope.optim.compiled import Compiled, builds
from downslope.optim.kernel.own import Own, own_of
from downslope.optim.kernel.split import split_of
from downslope.optim.kernel.store import has_half, missing
from downslope.optim.kernel.table import storage_of
from downslope.optim.kernel.trace import Traced, traced
from downslope.optim.kinds import PLAIN, Manner, as_seen, manner_of
from downslope.optim.looks import is_dense
from downslope.optim.native import Native, match
from downslope.optim.rounding import HALVES
from downslope.optim.routes import Routes, names_of, routed
from downslope.optim.rows import check_lazy
from downslope.optim.rule import Chain

__all__ = [
    "BACKENDS", "Choice", "Plan", "PlanRow", "Size", "check_backend", "check_forced", "choose",
    "kernel_obstacle", "programs_of", "rows_of", "size_of", "unheard",
]  # fmt: skip

BACKENDS = ("reference", "eager", "native", "kernel", "compiled")

# A group of so many elements, or so many tensors, is worth a kernel of its own. Size and settings decide
# alone, not what a step takes or what the disk holds: another backend gives other bits.
_ELEMENTS, _TENSORS = 100_000, 100

_FUSED_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_FUSED_DEVICES = ("cpu", "cuda")
# Torch 2.13 steps wrongly, without a word, on tensors of 16 elements and more, a full vector of its kernel.
_WRONG = {("torch._fused_sgd_", "cpu", dtype) for dtype in (torch.float16, torch.bfloat16)}


def check_backend(backend: str | None) -> str | None:
    """`backend` if it is one that exists, or None for automatic choice.

    Raises:
        RecipeError: another name.
    """
    if backend is None or backend in BACKENDS:
        return backend
    raise RecipeError(f"backend={backend!r} is not known{did_you_mean(str(backend), list(BACKENDS))}")


def check_forced(backend: str | None, composed: Chain | Routes) -> None:
    """Refuses at construction a backend that no tensor could have.

    Raises:
        RecipeError: ``"native"`` for a chain that torch has no kernel for, ``"kernel"`` for one that is no
            list of operators, or without numba, ``"compiled"`` for one that is no list of operators.
    """
    chains = routed(composed).active().chains
    if backend == "native" and any(match(chain, maximize=False) is None for chain in chains):
        raise RecipeError(
            "backend='native': torch has no fused kernel for this chain; use None for the fastest that fits"
        )
    if backend in ("kernel", "compiled"):
        found = map(_chain_obstacle if backend == "kernel" else _untraceable, chains)
        reason = next(filter(None, found), None)
        if reason is not None:
            raise RecipeError(f"backend={backend!r}: {reason}; use None for the fastest that fits")


@dataclass(frozen=True)
class Choice:
    """A backend, why, and what it runs: torch's kernel, or the programs of ours."""

    backend: str
    reason: str
    native: Native | None = None
    programs: Traced | Own | None = None


@dataclass(frozen=True)
class Size:
    """Of a parameter group, whether or not all of it has gradients."""

    elements: int
    tensors: int

    @property
    def small(self) -> bool:
        """Whether torch's operations do."""
        return self.elements < _ELEMENTS and self.tensors < _TENSORS


def size_of(params: Sequence[Tensor]) -> Size:
    """The size of a group of `params`."""
    return Size(sum(p.numel() for p in params), len(params))


def choose(
    p: Tensor,
    chain: Chain,
    native: Native | None,
    forced: str | None,
    size: Size,
    manner: Manner = PLAIN,
) -> Choice:
    """The backend for `p`, stepped in a `manner` by the active `chain`, of which torch's kernel is `native`.

    Args:
        p: the parameter.
        chain: its rules.
        native: torch's kernel for them.
        forced: the backend asked for, or None.
        size: of the group.
        manner: how `p` is stepped.

    Raises:
        RecipeError: a forced backend cannot step `p`, or the rules move rows that a sparse gradient does not
            name.
    """
    if manner.sparse:
        check_lazy(p, chain, forced)
        return Choice("rows", "the gradient is sparse: the rows that it names, by the rules")
    if manner.rounds:
        return _choose_rounding(p, chain, forced, size, manner)
    obstacle = _native_obstacle(p, native)
    members = chain.has_members
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
    if manner.rounding == "master" and forced is None and not size.small and not builds(p.device):
        own = _choose_kernel(p, chain, None, "the gradient is read as it is", size, manner)
        if own.backend == "kernel":
            return own
    if forced not in ("kernel", "compiled") and obstacle is None and native is not None:
        return Choice("native", f"the chain is {native.name}", native)
    if forced == "compiled" or (forced is None and builds(p.device)):
        return _choose_compiled(chain, forced, obstacle or "", size)
    return _choose_kernel(p, chain, forced, obstacle or "", size, manner)


def _choose_rounding(p: Tensor, chain: Chain, forced: str | None, size: Size, manner: Manner) -> Choice:
    """A loop of ours or torch's operations, for what torch's kernels and compiler do not round."""
    kind = str(p.dtype).removeprefix("torch.")
    if forced in ("native", "compiled"):
        raise RecipeError(f"backend={forced!r}: no kernel of torch's steps {kind} {manner}; use backend=None")
    if forced in ("eager", "reference"):
        return Choice(forced, str(manner))
    if forced is None and (chain.has_members or p.device.type != "cpu"):
        return Choice("eager", str(manner))
    made = own_of(chain) or split_of(chain)
    if made is not None and forced == "kernel":
        raise RecipeError(f"backend='kernel': {made.says} cannot step {kind} {manner}; use backend=None")
    return (
        Choice("eager", str(manner)) if made else _choose_kernel(p, chain, forced, str(manner), size, manner)
    )


def _choose_kernel(
    p: Tensor, chain: Chain, forced: str | None, reason: str, size: Size, manner: Manner
) -> Choice:
    """A kernel of ours, or torch's operations, where torch has no kernel for the `reason` given."""
    programs = programs_of(chain)
    blocked = _chain_obstacle(chain) or kernel_obstacle(p, programs, manner)
    if forced == "kernel":
        if blocked or isinstance(programs, str):
            which = "" if _chain_obstacle(chain) else f" (a parameter of shape {tuple(p.shape)})"
            raise RecipeError(
                f"backend='kernel': {blocked}{which}; use backend=None for the fastest that fits"
            )
        return Choice("kernel", "asked for", programs=programs)
    if size.small:
        return Choice("eager", f"{reason}, and the group is small")
    if blocked or isinstance(programs, str):
        return Choice("eager", f"{reason}; {blocked}")
    what = programs.says if isinstance(programs, Own) else "a loop made of its rules"
    return Choice("kernel", f"{reason}; {what}", programs=programs)


def _choose_compiled(chain: Chain, forced: str | None, reason: str, size: Size) -> Choice:
    """Torch's compiler, or torch's operations, where torch has no kernel for the `reason` given."""
    programs = traced(chain)
    if forced == "compiled":
        if isinstance(programs, str):
            raise RecipeError(f"backend='compiled': {programs}; use backend=None for the fastest that fits")
        return Choice("compiled", "asked for", programs=Compiled("", "torch.compile", programs, asked=True))
    if size.small or isinstance(programs, str):
        why = ", and the group is small" if size.small else f"; {programs}"
        return Choice("eager", reason + why)
    made = Compiled("", "torch.compile", programs, asked=False)
    return Choice("compiled", f"{reason}; {made.says} of its rules", programs=made)


def programs_of(chain: Chain) -> Own | Traced | str:
    """What a kernel is made of, or why there is none."""
    return own_of(chain) or split_of(chain) or traced(chain)


def _chain_obstacle(chain: Chain) -> str | None:
    programs = programs_of(chain)
    return programs if isinstance(programs, str) else missing()


def _untraceable(chain: Chain) -> str | None:
    programs = traced(chain)
    return programs if isinstance(programs, str) else None


def kernel_obstacle(p: Tensor, programs: Own | Traced | str, manner: Manner = PLAIN) -> str | None:
    """Why no kernel made of `programs` can step `p`, or None."""
    if type(p) not in (Tensor, torch.nn.Parameter):
        return f"a kernel takes plain tensors, not {type(p).__name__}"
    if p.device.type != "cpu":
        return f"a kernel runs on the CPU, not on {p.device.type}"
    if storage_of(p) is None:
        return f"a kernel has no {str(p.dtype).removeprefix('torch.')}"
    if manner.float16 and isinstance(programs, Traced) and not has_half():
        return "a kernel has no float16 on this CPU"
    if not is_dense(p):
        return "a kernel needs tensors without gaps in memory"
    return programs.obstacle(p) if isinstance(programs, Own) else None


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
    note: str = ""
    """What the rows do not tell, in one line."""

    def __str__(self) -> str:
        head = ("group", "tensors", "elements", "dtype", "device", "backend", "reason")
        body = [tuple(str(value) for value in vars(row).values()) for row in self.rows]
        widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in [head, *body]
        ]
        return "\n".join([self.optimizer, *lines, *filter(None, [self.note])])


def unheard(groups: Sequence[Mapping[str, Any]]) -> str:
    """One line where groups say how half precision is stepped, and no parameter is of it."""
    given = {
        f"{name}={group[name]!r}": None
        for group in groups
        for name, usual in (("rounding", "nearest"), ("state_dtype", None))
        if group.get(name, usual) != usual
    }
    if not given or any(p.dtype in HALVES for group in groups for p in group["params"]):
        return ""
    return f"{', '.join(given)} does nothing here: no parameter is bfloat16 or float16"


def told(chain: Chain) -> str:
    """A chain in words: its links but for decay and lr."""
    return ", ".join(type(link).__name__ for link in chain if "weight_decay" not in link.fields())


def rows_of(
    index: int, group: Mapping[str, Any], composed: Chain | Routes, forced: str | None
) -> list[PlanRow]:
    """The plan's rows for one parameter group whose settings make a chain, or routes."""
    active = routed(composed).active()
    natives = [match(chain, group.get("maximize", False)) for chain in active.chains]
    counts: dict[tuple[str, str, str, str], list[int]] = {}
    params: list[Tensor] = group["params"]
    size = size_of(params)
    for p, name in zip(params, names_of(group), strict=True):
        route = active.index(p, name)
        manner = manner_of(p, group)
        choice = choose(as_seen(p, manner), active.chains[route], natives[route], forced, size, manner)
        reason = f"{told(active.chains[route])}: {choice.reason}" if active.routes else choice.reason
        reason += manner.seen
        key = (str(p.dtype).removeprefix("torch."), str(p.device), choice.backend, reason)
        row = counts.setdefault(key, [0, 0])
        row[0] += 1
        row[1] += p.numel()
    return [PlanRow(index, n, size, *key) for key, (n, size) in counts.items()]
