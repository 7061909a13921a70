"""What a start makes of real data, layer by layer: activations forward, gradients backward."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import Adapted, unwrap
from downslope.core.errors import DownslopeError, InputError, ModelError, told
from downslope.core.loss import Loss, Objective, check_trainable
from downslope.core.modules import named_modules, size
from downslope.core.problem import Problem
from downslope.core.samples import examples as drawn
from downslope.core.sources import as_source
from downslope.core.starts import Init, said
from downslope.init.trace import Op, Recorder, Trace, untouched

SAMPLE = 20_000
"""Values of a layer that are kept for its histogram, evenly taken."""

BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hardtanh": (-1.0, 1.0), "hardsigmoid": (0.0, 1.0)}
"""Between which an activation saturates; within 1 % of a bound counts, as in a run's probes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Values:
    """The numbers of one layer.

    Attributes:
        mean: Their mean.
        std: Their standard deviation.
        rms: Root of their mean square.
        zero: Share that is exactly 0.
        saturated: Share within 1 % of a bound of the activation; None of what has none.
        finite: Share that is finite; the others enter nothing else.
        sample: At most `SAMPLE` of them, evenly taken.
    """

    mean: float
    std: float
    rms: float
    zero: float
    saturated: float | None
    finite: float
    sample: Floats

    def histogram(
        self, bins: int = 60, span: tuple[float, float] | None = None, *, log: bool = False
    ) -> tuple[Floats, Floats]:
        """Density and edges of a histogram.

        Args:
            bins: At least 1.
            span: From where to where; left out, from the smallest to the largest.
            log: Of ``log10 |value|``, zeros left out.
        """
        values = self.sample
        if log:
            values = np.log10(np.abs(values[values != 0]))
        if not len(values):
            return np.zeros(bins), np.linspace(0.0, 1.0, bins + 1)
        counts, edges = np.histogram(values, bins=bins, range=span)
        width = edges[1] - edges[0]
        return counts / (len(values) * width), edges


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer with a weight, on one batch.

    Attributes:
        name: Qualified name of its module, or of the weight where it has none.
        kind: Its module, or function, with its size.
        activation: The function that reads it; None where none follows.
        output: What the weight makes of its input.
        after: What the activation makes of that; `output` where none follows.
        gradient: Of the objective with respect to `output`; None where no objective was given.
        weight_gradient: With respect to the weight; likewise.
    """

    name: str
    kind: str
    activation: str | None
    output: Values
    after: Values
    gradient: Values | None
    weight_gradient: Values | None


@dataclass(frozen=True, eq=False)
class Measured:
    """A start, layer by layer in the order of the forward pass.

    Attributes:
        layers: See `Layer`.
        init: What was drawn, in words.
        examples: Size of the batch.
        loss: Of the batch; None where no objective was given.
    """

    layers: tuple[Layer, ...]
    init: str
    examples: int
    loss: float | None

    def __str__(self) -> str:
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        head = ["layer", "std out", "std after", "zero", "saturated", "gradient", "weight gradient"]
        rows = [head, *(_row(each) for each in self.layers)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([f"init {self.init}, {self.examples} examples{loss}", *lines])


def _row(layer: Layer) -> list[str]:
    after = layer.after
    shares = [after.zero if layer.activation else None, after.saturated]
    gradients = [layer.gradient, layer.weight_gradient]
    return [
        f"{layer.name} {layer.kind}" + (f" {layer.activation}" if layer.activation else ""),
        f"{layer.output.std:.3g}",
        f"{after.std:.3g}",
        *("-" if each is None else f"{100 * each:.0f} %" for each in shares),
        *("-" if each is None else f"{each.std:.3g}" for each in gradients),
    ]


def measure(
    what: Problem | nn.Module,
    batch: Any = None,
    *,
    init: Init | None = None,
    objective: Any = None,
    seed: int = 0,
    examples: int = 512,
) -> Measured:
    """Activations and gradients of every layer at the start, on one batch, in training mode.

    A layer is whatever multiplies the signal by a weight: a module, or a product in a forward of one's own.
    One that is used several times is measured on its first use. The model that is given is not changed.

    Args:
        what: A problem, or a model, which is copied.
        batch: Inputs and target as a problem's `train` has them; left out, `examples` of the problem's.
        init: An initialisation, as a recipe has it; None keeps the model's own start.
        objective: Name, or ``(output, target) -> scalar``, of a model that is given alone; without one there
            are no gradients, and the batch holds inputs only.
        seed: Of weights and examples.
        examples: At least 2, how many are drawn from the problem.

    Returns:
        The layers in the order of the forward pass.

    Raises:
        InputError: a model without a batch, or one that the model does not take.
    """
    if examples < 2:
        raise InputError(f"examples={examples}: must lie in [2, inf), a spread is measured over them")
    problem = what if isinstance(what, Problem) else _alone(what, batch, objective)
    model = problem.build(seed, init)
    if batch is None:
        whole = drawn(problem, examples, seed)
    else:
        source = as_source(batch, "batch")
        whole = next(iter(source.stored(source.size or examples)))
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    whole = batches.to(whole, torch.device("cpu"), dtype)
    probe = _Probe(model, graded=isinstance(what, Problem) or objective is not None)
    try:
        loss = probe.run(problem, whole)
    except DownslopeError:
        raise
    except Exception as error:
        raise ModelError(f"the model cannot take the batch: {told(error)}") from error
    words = "as the model makes it" if init is None else said(init)
    return Measured(tuple(probe.layers()), words, batches.length(whole), loss)


def _alone(model: nn.Module, batch: Any, objective: Any) -> Problem:
    if batch is None:
        raise InputError(
            "a model alone has no data: give measure(model, batch), a batch as a problem's train has it"
        )
    return Problem(model=model, objective=_nothing if objective is None else objective, train=batch)


def _nothing(output: Any, target: Any) -> Tensor:  # noqa: ARG001
    """Stands for an objective that was not given; never called."""
    raise InputError("no objective was given")


class _Probe:
    """Values and gradients of one pass of a model."""

    def __init__(self, model: nn.Module, *, graded: bool) -> None:
        self.model, self.graded = model, graded
        self.inner = unwrap(model)
        self.names = {id(p): name for name, p in self.inner.named_parameters()}
        self.values: dict[int, Values] = {}
        self.gradients: dict[int, Values] = {}
        self.trace = Trace()

    def run(self, problem: Problem, batch: Any) -> float | None:
        """Forward and, where there is an objective, backward; its value."""
        args, kwargs, target = problem.splitter(batch)
        recorder = Recorder(self.model, (list(args), kwargs), self._noted)
        adapted = self.model if isinstance(self.model, Adapted) else None
        with untouched(self.model), torch.set_grad_enabled(self.graded):
            with recorder.inside(self.inner):
                call = self.model if adapted is None else adapted.training_output
                output = call(*args, **kwargs)
            self.trace = recorder.trace
            if not self.graded:
                return None
            target = target if adapted is None else adapted.training_target(target)
            loss = Objective(problem).of(output, target, args or (kwargs,), self.model).value
            check_trainable(self.model, Loss(loss, output, target, {}))
            loss.backward()
        return float(loss.detach())

    def _noted(self, op: Op, output: Any, again: Any) -> Any:
        """Measured at once, as what follows may change it in place."""
        del again
        if isinstance(op.output, Tensor) and (op.is_map or op.activation is not None):
            made = op.output
            self.values[op.index] = values(made, BOUNDS.get(op.function))
            if op.is_map and made.requires_grad:
                made.register_hook(functools.partial(self._graded, op.index))
        return output

    def _graded(self, index: int, gradient: Tensor) -> None:
        self.gradients.setdefault(index, values(gradient))

    def layers(self) -> Iterator[Layer]:
        """Every map on its first use."""
        readers, seen = self.trace.readers(), set[int]()
        for op in self.trace.maps:
            ids = {id(p) for p in op.weights}
            if ids <= seen or op.index not in self.values:
                continue
            seen |= ids
            after = self.trace.activation_after(op, readers)
            grads = [p.grad.flatten() for p in op.weights if p.grad is not None]
            name, kind = self._called(op)
            yield Layer(
                name,
                kind,
                None if after is None else after.function,
                self.values[op.index],
                self.values[op.index if after is None else after.index],
                self.gradients.get(op.index),
                values(torch.cat(grads)) if grads else None,
            )

    def _called(self, op: Op) -> tuple[str, str]:
        name = self.names[id(op.weights[0])]
        owner = dict(named_modules(self.inner)).get(op.module)
        whole = op.is_fused or name == f"{op.module}.weight".lstrip(".") or ".parametrizations." in f".{name}"
        if owner is not None and whole:
            kind = type(owner).__name__.removeprefix("Parametrized")
            return op.module or "model", f"{kind} {size(owner)}".strip()
        shape = "x".join(str(each) for each in op.weights[0].shape)
        return name.removesuffix(".weight"), f"{op.function} {shape}"


@torch.no_grad()
def values(given: Tensor, bounds: tuple[float, float] | None = None) -> Values:
    """What `Values` holds, of a tensor.

    Args:
        given: Any shape; of a complex one real and imaginary part.
        bounds: Between which the activation lies that made it.
    """
    flat = (torch.view_as_real(given) if given.is_complex() else given).detach().flatten()
    flat = flat.float() if flat.dtype in (torch.float16, torch.bfloat16) else flat
    whole = torch.isfinite(flat)
    finite = float(whole.double().mean()) if len(flat) else 0.0
    flat = flat if finite == 1 else flat[whole]
    if not len(flat):
        return Values(math.nan, math.nan, math.nan, math.nan, None, finite, np.zeros(0))
    mean, rms = float(flat.double().mean()), float(flat.double().square().mean().sqrt())
    saturated = None
    if bounds is not None:
        middle, reach = sum(bounds) / 2, 0.49 * (bounds[1] - bounds[0])
        saturated = float(((flat - middle).abs() > reach).double().mean())
    step = -(-len(flat) // SAMPLE)
    return Values(
        mean=mean,
        std=float(flat.double().std(correction=0)),
        rms=rms,
        zero=float((flat == 0).double().mean()),
        saturated=saturated,
        finite=finite,
        sample=flat[::step].double().cpu().numpy(),
    )
