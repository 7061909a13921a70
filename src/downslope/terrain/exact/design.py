"""The data as an affine model sees it: outputs ``Z = A theta + offset``, block by block.

Where one `nn.Linear` makes the output, A is its inputs beside a column of ones, and theta has a column for
each output; else A is the derivative of every output by every weight. What fits is kept, what does not is
read again in every pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import Adapted, named_parameters
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, told
from downslope.core.loss import Objective
from downslope.core.problem import Problem
from downslope.core.sources import Memory, Source
from downslope.data.gaps import gaps
from downslope.terrain.exact.losses import ConvexLoss, Rows

BLOCK = 16384
"""Examples a block, for data in memory."""

KEPT = 2 * 2**30
"""Bytes of float64 that are kept at most; more are computed anew in every pass."""

MOST_COLUMNS = 20_000
"""Columns of A at most: the triangle of a larger one takes more than 3 GB."""

MOST_BATCHES = 1_000_000
"""Batches after which data counts as endless."""


class Block(NamedTuple):
    """Some examples."""

    rows: Tensor
    """A: (n, p) of one layer, (n, k, p) otherwise."""
    offset: Tensor | None
    """(n, k), the outputs at theta = 0; None where they are 0."""
    target: Tensor
    """(n, k), as the loss takes it."""

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(each.numel() * each.element_size() for each in self if isinstance(each, Tensor))


class Design:
    """The examples of a problem whose model is affine in its weights.

    Args:
        problem: Its training data, split and objective count.
        loss: What the objective computes.
        layer: Qualified name of the `nn.Linear` that makes the output, if it is one alone.

    Raises:
        InputError: data or objective do not fit.
    """

    def __init__(self, problem: Problem, loss: ConvexLoss, layer: str | None) -> None:
        self.problem, self.loss = problem, loss
        self.model = problem.build().double()
        self.objective = Objective(problem, torch.float64)
        self.parameters = {own[0]: p for own, p in named_parameters(self.model) if p.requires_grad}
        self.layer = self._layer(layer)
        self.free = self._free()
        self.total = 1.0
        self.examples = 0
        self.outputs = 0
        self._kept: list[Block] | None = []
        self._measure()

    # -- what theta is --------------------------------------------------------------------------------------

    def _layer(self, name: str | None) -> nn.Linear | None:
        if name is None:
            return None
        found = cast("nn.Linear", self.model.get_submodule(name))
        return found if len(self.parameters) == len(list(found.parameters())) else None

    @property
    def biased(self) -> bool:
        """Whether the one layer has a bias."""
        return self.layer is not None and len(self.parameters) == 2

    @property
    def columns(self) -> int:
        """Columns of A."""
        if self.layer is not None:
            return self.layer.in_features + self.biased
        return sum(p.numel() for p in self.parameters.values())

    def _free(self) -> Tensor:
        """Which columns no penalty touches: biases, and whatever has fewer than two dimensions."""
        if self.layer is not None:
            free = torch.zeros(self.columns, dtype=torch.bool)
            free[self.layer.in_features :] = True
            return free
        return torch.cat([torch.full([p.numel()], fill_value=p.dim() < 2) for p in self.parameters.values()])

    def state(self, theta: Tensor) -> dict[str, Tensor]:
        """Parameters by name for a theta of shape (columns, outputs) or (columns, 1)."""
        if self.layer is not None:
            d = self.layer.in_features
            by_rank = {2: theta[:d].T.contiguous(), 1: theta[d] if len(theta) > d else theta[0]}
            return {name: by_rank[p.dim()].clone() for name, p in self.parameters.items()}
        parts = torch.split(theta[:, 0], [p.numel() for p in self.parameters.values()])
        return {
            name: part.reshape(p.shape).clone()
            for part, (name, p) in zip(parts, self.parameters.items(), strict=True)
        }

    def put(self, theta: Tensor) -> None:
        """Give the model the weights `theta`."""
        with torch.no_grad():
            for name, value in self.state(theta).items():
                self.parameters[name].copy_(value)

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """What `state` takes apart: tensors in the order of `parameters` as one theta."""
        if self.layer is not None:
            ordered = sorted(tensors, key=lambda each: -each.dim())
            return torch.cat([each.T if each.dim() == 2 else each[None] for each in ordered])
        return torch.cat([each.reshape(-1) for each in tensors])[:, None]

    def outputs_of(self, block: tuple[Tensor, Tensor | None, *tuple[Any, ...]], theta: Tensor) -> Tensor:
        """``Z = A theta + offset`` of a block, (n, k)."""
        rows, offset = block[:2]
        z = rows @ theta if self.layer is not None else (rows @ theta)[..., 0]
        return z if offset is None else z + offset

    def back(self, rows: Tensor, slope: Tensor) -> Tensor:
        """A^T times `slope`, in the shape of theta."""
        if self.layer is not None:
            return rows.T @ slope
        return torch.einsum("nkp,nk->p", rows, slope)[:, None]

    # -- reading --------------------------------------------------------------------------------------------

    def blocks(self) -> Iterator[Block]:
        """All examples once."""
        if self._kept is not None:
            yield from self._kept
            return
        for batch in self.batches():
            yield self._block(batch)[0]

    def rows_with_targets(self) -> Iterator[Tensor]:
        """A beside what it should give, ``Z - offset``, one row an equation."""
        for block in self.blocks():
            if self.layer is not None:
                yield torch.cat([block.rows, block.target], 1)
            else:
                rest = block.target if block.offset is None else block.target - block.offset
                yield torch.cat([block.rows.flatten(0, 1), rest.reshape(-1, 1)], 1)

    @property
    def kept(self) -> bool:
        """Whether all of A is in memory."""
        return self._kept is not None

    def batches(self) -> Iterator[Any]:
        """Batches in float64 on the CPU, in stored order."""
        source: Source = self.problem.train_source
        stored = source.stored(BLOCK if isinstance(source, Memory) else 256)
        for batch in itertools.islice(stored, MOST_BATCHES):
            yield batches.to(batch, torch.device("cpu"), torch.float64)

    def _measure(self) -> None:
        """Read everything once: sizes, M, and whether it can be kept."""
        if self.columns > MOST_COLUMNS:
            raise ModelError(
                f"the model has {self.columns} columns of weights: solve takes {MOST_COLUMNS} at most, as "
                "their triangle would not fit in memory; use fit"
            )
        source, total = self.problem.train_source, 0.0
        if source.size is None and source.steps(1) is None:
            raise DataError("the data has no known length: an exact answer needs all of it; use fit")
        checked = False
        for batch in self.batches():
            block, rows = self._block(batch, check=not checked)
            checked = checked or self._tells(rows)
            self.examples += len(block.rows)
            total += rows.total
            if self._kept is not None:
                self._kept.append(block)
                if sum(each.bytes for each in self._kept) > KEPT:
                    self._kept = None
        self.total = total or 1.0

    def _tells(self, rows: Rows) -> bool:
        """Whether something counts in a block: a mean over nothing has no value."""
        return self.loss.average == "none" or rows.total > 0

    def _block(self, batch: Any, *, check: bool = False) -> tuple[Block, Rows]:
        args, kwargs, target = self.objective.split(batch)
        try:
            with torch.no_grad(), self.objective.computing():
                rows, offset, output = self._forward(args, kwargs)
        except DownslopeError:
            raise
        except Exception as error:
            shapes = [tuple(each.shape) for each in batches.tensors(batch)]
            raise ModelError(
                f"a batch of shapes {shapes} cannot be put through the model: {told(error)}"
            ) from error
        if isinstance(self.model, Adapted):
            target = self.model.training_target(target)
        if not isinstance(target, Tensor):
            raise DataError("solve takes one tensor as the target; use fit for others")
        with torch.no_grad():
            given = self.objective.of(output, target, args or (kwargs,)).value
        shape = (len(rows), output.numel() // len(rows))
        if self.loss.classes and output.dim() != 2:
            raise InputError(
                "solve takes class scores of shape (n, classes), and this model gives "
                f"{tuple(output.shape)}; flatten them, or use fit"
            )
        self.outputs = shape[1]
        if rows.dim() == 3 and self.loss.classes:  # a softmax does not see what all scores have in common
            rows, offset = (each - each.mean(1, keepdim=True) for each in (rows, cast("Tensor", offset)))
        found = self.loss.rows(target, shape)
        block = Block(rows, offset, found.target)
        _check_finite(block, self.problem)
        if (outside := self.loss.outside(found.target)) is not None:
            raise DataError(f"{outside}; solve takes no others, use fit")
        if check and self._tells(found):
            value = self.loss.value(output.reshape(shape), found.target) / (found.total or 1.0)
            if not torch.isclose(value, given.double(), rtol=1e-6, atol=1e-12):
                raise InputError(
                    f"objective {self.objective.label} gives {float(given):.6g} where {self.loss.name} would "
                    f"give {float(value):.6g}: {_another(output, target)}"
                )
        return block, found

    def _forward(self, args: Any, kwargs: Any) -> tuple[Tensor, Tensor | None, Tensor]:
        """A, offset, and the output as it is."""
        call = self.model.training_output if isinstance(self.model, Adapted) else self.model
        if self.layer is None:
            return self._derivative(call, args, kwargs)
        seen: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            output = cast("Tensor", call(*args, **kwargs))
        finally:
            handle.remove()
        inputs = seen[0].reshape(-1, self.layer.in_features)
        if self.biased:
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=inputs.dtype)], 1)
        return inputs, None, output

    def _derivative(self, call: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs at theta = 0, and what each weight adds to them, one forward pass a weight."""
        own = list(self.parameters.values())
        before = [each.detach().clone() for each in own]
        output = cast("Tensor", call(*args, **kwargs))
        columns: list[Tensor] = []
        try:
            for each in own:
                each.zero_()
            offset = cast("Tensor", call(*args, **kwargs)).clone()
            for each in own:
                entries = each.view(-1)
                for i in range(len(entries)):
                    entries[i] = 1.0
                    columns.append((call(*args, **kwargs) - offset).reshape(len(offset), -1))
                    entries[i] = 0.0
        finally:
            for each, value in zip(own, before, strict=True):
                each.copy_(value)
        return torch.stack(columns, -1), offset.reshape(len(offset), -1), output


def _another(output: Tensor, target: Tensor) -> str:
    """Why the user's objective is none that `solve` knows."""
    short, long = sorted((tuple(output.shape), tuple(target.shape)), key=len)
    if (*short, 1) != long:
        return "it is another objective than solve knows; use fit"
    return (
        f"it broadcasts outputs {tuple(output.shape)} against targets {tuple(target.shape)}; "
        "give them one shape"
    )


def _check_finite(block: Block, problem: Problem) -> None:
    if all(bool(each.isfinite().all()) for each in block if isinstance(each, Tensor)):
        return
    source = problem.train_source
    found = next(gaps(source, problem.splitter, "train"), None) if isinstance(source, Memory) else None
    if found is not None:
        cure = (
            ", or fill in the mean of the feature (--set missing=mean, ds.edits.FillInputs())"
            if found.kind == "inputs"
            else ""
        )
        raise DataError(f"{found.said}; remove such rows{cure}, and solve again")
    raise DataError(
        "the training data holds a NaN or an infinity: remove such rows, or fill in what is missing; "
        "downslope diagnose names the first"
    )
