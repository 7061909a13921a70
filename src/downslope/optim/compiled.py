"""The backend `compiled`: torch.compile over the tensors of one bucket, which makes few kernels of a GPU.

    for every tensor of the list:  p, state = update(p, g, state)       traced from the rules as for `kernel`

The scalars are a tensor, a row for all parameters or one for each: as numbers, every new rate would be
compiled anew (pytorch#130467). The first step takes seconds to tens of them, more with more tensors; torch
keeps what it compiled in a cache of its own. Torch's compiler, whose import takes a second, is loaded then.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.optim.kernel.own import Own, Step
from downslope.optim.kernel.trace import Arg, Op, Program, Traced
from downslope.optim.looks import has_memory
from downslope.optim.rule import Scalars

__all__ = ["Compiled", "CompiledStep", "builds"]

_log = logging.getLogger("downslope")

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "gt": ">", "ge": ">=", "lt": "<", "le": "<=",
    "eq": "==", "ne": "!=", "and_": "&", "or_": "|",
}  # fmt: skip


def builds(device: torch.device) -> bool:
    """Whether torch's compiler makes kernels for `device` by itself."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


@dataclass(frozen=True)
class Compiled(Own):
    """Programs of a chain, as `CompiledStep` runs them."""

    reads_any: ClassVar[bool] = True

    traced: Traced
    asked: bool
    """Whether it was asked for: a failure is then an error."""

    def obstacle(self, p: Tensor) -> str | None:
        return None

    def step(
        self, params: list[Tensor], columns: Sequence[list[Tensor]], *, maximize: bool, apart: bool = False
    ) -> Step:
        return CompiledStep(self.traced, params, columns, maximize=maximize, asked=self.asked)


class CompiledStep:
    """Steps the tensors of one bucket by what torch.compile makes of the traced programs.

    Args:
        traced: programs of the bucket's chain.
        params: the parameters, of one device and dtype.
        columns: their states by the chain's keys.
        maximize: climb in place of descend.
        asked: whether a failure of torch's compiler is an error; else it is said, and torch's operations
            step.
    """

    def __init__(
        self,
        traced: Traced,
        params: list[Tensor],
        columns: Sequence[list[Tensor]],
        *,
        maximize: bool,
        asked: bool = True,
    ) -> None:
        self.traced, self.sign = traced, -1.0 if maximize else 1.0
        self.turned: Sequence[int] = ()
        self.serves = False
        self.params, self.columns = params, columns
        self.device = params[0].device
        self.dtype = torch.float64 if params[0].dtype == torch.float64 else torch.float32
        self.kinds = [_kind(p) for p in params]
        names = ["sign", *traced.scalars]
        self.built = _Built(_text(traced.update, names, traced.states, sums=False), asked)
        self.measures = {
            link: _Built(_text(program, names, traced.states, sums=True), asked)
            for link, program in traced.measures.items()
        }

    def fits(self, params: list[Tensor], columns: Sequence[list[Tensor]]) -> bool:
        """Whether the parameters are of the shapes and kinds that this was made for."""
        self.columns = columns
        return [_kind(p) for p in params] == self.kinds and all(map(has_memory, (params, *columns)))

    def update(self, params: list[Tensor], grads: list[Tensor], ks: Sequence[Scalars]) -> None:
        """Step: parameters and states change in place."""
        self.built(params, grads, self.columns, self._scalars(ks, self.traced.update.reads))

    def measure(self, link: int, grads: list[Tensor], ks: Sequence[Scalars]) -> list[Tensor]:
        """For each total that link number `link` wants, a float64 tensor with an entry for each parameter."""
        table = self._scalars(ks, self.traced.measures[link].reads)
        totals: Tensor = self.measures[link](self.params, grads, self.columns, table)
        return list(totals.unbind(1))

    def _scalars(self, ks: Sequence[Scalars], reads: frozenset[str]) -> Tensor:
        """A row of scalars for all parameters, or one for each where any differs."""
        values: list[Any] = [self.sign]
        for name, (i, of) in self.traced.scalars.items():
            values.append(getattr(ks[i], of) if name in reads else 0.0)
        rows = len(self.kinds) if any(isinstance(v, Tensor) and v.ndim for v in values) else 1
        host = [0.0 if isinstance(value, Tensor) else float(value) for value in values]
        table = torch.tensor(host, dtype=self.dtype).expand(rows, -1).to(self.device, copy=True)
        for i, value in enumerate(values):
            if isinstance(value, Tensor):
                table[:, i] = value
        return table


def _kind(p: Tensor) -> tuple[Any, ...]:
    return p.shape, p.dtype, p.device


class _Built:
    """A text as a function of torch's compiler.

    It has a code object of its own: torch builds each for so many lists of tensors only.
    """

    def __init__(self, text: str, asked: bool) -> None:
        names: dict[str, Any] = {"torch": torch}
        exec(compile(text, "<compiled>", "exec"), names)
        self.plain: Callable[..., Any] = names["step"]
        self.run: Callable[..., Any] = torch.compile(self.plain, fullgraph=True, dynamic=False)
        self.asked = asked

    def __call__(self, *args: Any) -> Any:
        try:
            return self.run(*args)
        except Exception as error:  # compilers raise what they like; nothing has been written yet
            if self.asked or self.run is self.plain:
                raise
            said = type(error).__name__
            _log.warning("torch.compile failed (%s); torch's operations step instead", said)
            self.run = self.plain
            return self.run(*args)


def _text(program: Program, names: Sequence[str], states: int, *, sums: bool) -> str:
    made = {op.name for op in program.ops}
    lines = [
        "def step(params, grads, columns, table):",
        "    totals = []",
        "    for n in range(len(params)):",
    ]
    body = ["row = table[n if table.shape[0] > 1 else 0]", "p = params[n]"]
    body += [f"{name} = row[{i}]" for i, name in enumerate(names) if name == "sign" or name in program.reads]
    body += ["g = sign * grads[n].to(p.dtype)", *(f"s{i} = columns[{i}][n]" for i in range(states))]
    body += [f"v_{op.name} = {_expression(op, made)}" for op in program.ops]
    results = [_named(arg, made) for arg in program.results]
    if sums:
        parts = [
            f"torch.cat([({x}).reshape(-1), p.new_zeros(1)]).amax().double()"
            if peak
            else f"({x}).sum(dtype=torch.float64)"
            for x, peak in zip(results, program.peaks, strict=True)
        ]
        body.append(f"totals.append(torch.stack([{', '.join(parts)}]))")
    else:
        body += [f"s{i}.copy_({x})" for i, x in enumerate(results[1:]) if x != f"s{i}"]
        body.append(f"p.sub_({results[0]})")
    lines += [f"        {line}" for line in body]
    return "\n".join([*lines, *(["    return torch.stack(totals)"] if sums else []), ""])


def _expression(op: Op, made: set[str]) -> str:
    args = [_named(arg, made) for arg in op.args]
    if op.kind in _INFIX:
        return f" {_INFIX[op.kind]} ".join(args)
    match op.kind:
        case "neg":
            return f"-{args[0]}"
        case "invert":
            return f"~{args[0]}"
        case "float":
            return f"{args[0]}.to(p.dtype)"
        case "maximum" | "minimum" | "where":
            return f"torch.{op.kind}({', '.join(args)})"
        case _:
            return f"{args[0]}.{op.kind}()"


def _named(arg: Arg, made: set[str]) -> str:
    if isinstance(arg, str):
        return f"v_{arg}" if arg in made else arg
    return repr(arg) if arg - arg == 0.0 else f'float("{arg}")'
