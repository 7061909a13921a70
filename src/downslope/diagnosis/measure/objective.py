"""What the objective does with a real output of a real batch: shapes, growth, stability, and what it aims at.

The model is left alone: its first output is taken, and the objective is called on changes of that output. So
the same questions can be put to any function, whoever wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from downslope.core import batches, randomness
from downslope.core.adapted import Adapted
from downslope.core.fixed_sample import precision, sample
from downslope.core.growth import growth
from downslope.core.loss import Objective
from downslope.core.outputs import read_by
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.signs import sign
from downslope.objectives.meaning import meaning
from downslope.optim.ops import LBFGS
from downslope.training.facts.aligned import aligned
from downslope.training.facts.constant import LINKS, best_row

ROWS = 64
"""Examples on which the objective is called."""

STRETCHES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Sizes of the scores at which the objective must still be finite; nets in training reach some hundreds."""

WILD = 30.0
"""Size of the first output beyond which the free output starts at zero."""

_ROUNDS = 60
_ENDS = {"softmax": "probabilities", "sigmoid": "probability", "log_softmax": "log-probabilities"}

Link = Callable[[Tensor], Tensor]


def measure(run: Run, problem: Problem, recipe: Recipe) -> dict[str, Any] | None:
    """Put the objective to the question on `ROWS` examples.

    Returns:
        ``value``; ``aligned`` (the value with output and target in one shape, where their shapes differ by an
        axis of length 1 only: both then of an output halfway to the target, if that tells more);
        ``growth`` (value on the batch taken twice, in that on the batch once: 1 for
        a mean, 2 for a sum); ``gradient`` (root mean square of the derivative by the output; 0 for a
        function that is flat, None where there is none); ``sound`` (whether that derivative is finite at the
        model's first output); ``breaks`` (the smallest of `STRETCHES` at which the
        value or its derivative is not finite; None if all are); ``followed`` (the metric where the output
        itself goes down on the objective, an example at a time), ``guess`` (the metric of the best constant
        output on the same examples) and ``floor`` (1 where the objective has one). None where the model puts
        out no single tensor.
    """
    if problem.objective is None:
        return None
    output, target, args = _first(problem, recipe)
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.dim() == 0:
        return None
    objective = Objective(problem)

    def value(made: Tensor) -> Tensor:
        return objective.of(made, target, args).value

    found: dict[str, Any] = {"value": float(value(output).detach()) * objective.sign, "aligned": None}

    def of(made: Tensor, its: Tensor, rows: Tensor | None) -> Tensor:
        given = args if rows is None else batches.take(args, rows)
        return objective.sign * objective.of(made, its, given).value

    found |= aligned(of, output, target) | _turned(value, output)
    found["growth"] = growth(objective, output, target, args)
    link = _link(run)
    found["gradient"] = _gradient(value, output, link)
    first = _slope(value, output)
    found["sound"] = first is None or bool(torch.isfinite(first).all())
    found["breaks"] = _breaks(value, output, link) if found["gradient"] else None
    if found["gradient"] and problem.metric is not None:
        with suppress(Exception):  # a metric may be undefined on what the objective leads to
            found |= _followed(problem, value, output, target, _expects(run))
    return found


def _turned(value: Callable[[Tensor], Tensor], output: Tensor) -> dict[str, Any]:
    """Whether what is gone down on is a named loss times a number, and the sign of that number."""
    found = sign(value(output.detach().clone().requires_grad_()))
    if found is None:
        return {}
    counts = {"plus": int(found[1] > 0), "minus": int(found[1] < 0), "nil": int(not found[1])}
    return {"turned": {"name": found[0], "steps": 1} | counts}


def _first(problem: Problem, recipe: Recipe) -> tuple[Any, Any, tuple[Any, ...]]:
    """Output, target and inputs of a sample, as the objective meets them in training."""
    model = problem.build(recipe.seed, recipe.init)
    batch = sample(problem.train_source, ROWS, precision(model))
    args, kwargs, target = problem.splitter(batch)
    with torch.no_grad(), randomness.seeded(recipe.seed, "probe", 0):
        call: Any = model.training_output if isinstance(model, Adapted) else model
        output = read_by(problem.objective, call(*args, **kwargs))
    if isinstance(model, Adapted):
        target = model.training_target(target)
    return output, target, args or (kwargs,)


def _gradient(value: Callable[[Tensor], Tensor], output: Tensor, link: Link) -> float | None:
    """Largest root mean square of the derivative by the output, at the output and at two drawn ones."""
    found: list[float] = []
    for made in (output, link(_drawn(output)), link(3 * _drawn(output))):
        slope = _slope(value, made)
        if slope is None:
            return None
        found.append(float(slope.double().square().mean().sqrt()))
    return max((each for each in found if math.isfinite(each)), default=math.inf)


def _slope(value: Callable[[Tensor], Tensor], output: Tensor) -> Tensor | None:
    """The derivative of the objective at `output`; None where the graph is cut."""
    free = output.detach().clone().requires_grad_()
    loss = value(free)
    if not loss.requires_grad:
        return None
    return torch.autograd.grad(loss, free, allow_unused=True, materialize_grads=True)[0]


def _breaks(value: Callable[[Tensor], Tensor], output: Tensor, link: Link) -> float | None:
    """The smallest size of the scores at which the value or its derivative is not finite."""
    for size in STRETCHES:
        free = (size * _drawn(output)).requires_grad_()
        loss = value(link(free))
        (slope,) = torch.autograd.grad(loss, free)
        if not (bool(torch.isfinite(loss)) and bool(torch.isfinite(slope).all())):
            return size
    return None


def _followed(
    problem: Problem, value: Callable[[Tensor], Tensor], output: Tensor, target: Any, expects: str | None
) -> dict[str, float]:
    """Metric at the best output of each example, and at the best constant one.

    An objective without a floor has neither: then a way of bounded steps stands for the first, and the
    untrained model for the second.
    """
    link = _linked(expects)
    # From an output that a wild start has thrown far away no descent comes home.
    size = float(output.square().mean().sqrt())
    start = torch.zeros_like(output) if expects in LINKS or not size < WILD else output
    unit = 1.0 if expects in LINKS else _unit(target)
    free = _descend(lambda z: value(link(z)), start, unit)
    name = meaning(problem.objective).name
    row = None if free is None else best_row(value, expects, output[0], target, len(output), name=name)
    if free is None or row is None:
        free = _walk(lambda z: value(link(z)), start)
        base = link(start)
    else:
        base = row.expand(len(output), *row.shape)
    with torch.no_grad():
        own, guess = float(problem.metric(link(free), target)), float(problem.metric(base, target))
    if not (math.isfinite(own) and math.isfinite(guess)):
        return {}
    return {"followed": own, "guess": guess, "floor": float(row is not None)}


def _unit(target: Any) -> float:
    """The size that an output may need: the targets' where they are measurements beyond 1, else 1."""
    if not isinstance(target, Tensor) or not target.is_floating_point():
        return 1.0
    size = float(target.double().square().mean().sqrt())
    return max(1.0, size) if math.isfinite(size) else 1.0


def _walk(value: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where `_ROUNDS` steps down the gradient lead, each a tenth of a unit per number."""
    free = start.clone()
    for _ in range(_ROUNDS):
        free = free.detach().requires_grad_()
        (slope,) = torch.autograd.grad(value(free), free)
        if not bool(torch.isfinite(slope).all()):
            break
        free = free - 0.1 * slope / slope.square().mean().sqrt().clamp_min(1e-30)
    return free.detach()


def _expects(run: Run) -> str | None:
    """What the output has to be: said by the objective, else by the activation at the end of the model."""
    said: Mapping[str, Any] = run.facts.get("output") or {}
    return said.get("expects") or _ENDS.get(said.get("activation") or "")


def _link(run: Run) -> Link:
    return _linked(_expects(run))


def _linked(expects: str | None) -> Link:
    """From free numbers to outputs that the objective takes, example by example."""
    if expects not in LINKS:
        return lambda z: z
    each: Link = LINKS[expects]
    return lambda z: torch.stack([each(row) for row in z])


def _drawn(output: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)


def _descend(value: Callable[[Tensor], Tensor], start: Tensor, unit: float) -> Tensor | None:
    """Where L-BFGS leads from `start`, in steps of `unit`; None where it leaves the finite numbers.

    The value is taken in multiples of its first: a squared error of targets of 1e9 has slopes beyond what a
    line search in single precision can follow.
    """
    moved = torch.zeros_like(start, memory_format=torch.contiguous_format).requires_grad_()
    rule = LBFGS([moved], max_iter=_ROUNDS, line_search_fn="strong_wolfe")
    first = abs(float(value(start).detach()))
    scale = first if unit > 1 and 0 < first < math.inf else 1.0

    def closure() -> Tensor:
        rule.zero_grad()
        loss = value(start + unit * moved) / scale
        loss.backward()
        return loss.detach()

    rule.step(closure)  # pyright: ignore[reportArgumentType] (torch's own stub asks for a float)
    free = (start + unit * moved).detach()
    return free if bool(torch.isfinite(free).all()) else None
