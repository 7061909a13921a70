"""What the untrained model puts out: the last activation, its range, and what the objective expects of it.

The activation is read off the graph of the output itself, so a softmax called as a function inside a custom
forward is seen like a module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import randomness
from downslope.core.adapted import Adapted, unwrap
from downslope.core.edits import StandardiseTargets
from downslope.core.fixed_sample import PROBED, precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.core.outputs import judged, read_by
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.objectives.meaning import meaning
from downslope.training.facts.expects import agreeing
from downslope.training.facts.place import place
from downslope.training.facts.tied import tied, tied_squares

_NODES = {
    "SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid", "ReluBackward0": "relu",
    "TanhBackward0": "tanh", "LogSoftmaxBackward0": "log_softmax", "LogSigmoidBackward0": "log_sigmoid",
    "HardtanhBackward0": "hardtanh", "HardsigmoidBackward0": "hardsigmoid", "SoftplusBackward0": "softplus",
}  # fmt: skip

_PASSED = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "TBackward", "Permute",
    "Select", "Slice", "Clone", "ToCopy", "Expand", "Alias", "Clamp", "AsStrided", "Unbind", "Index",
)  # fmt: skip
"""Nodes that move values without changing them (a clamp changes those beyond its ends only)."""

RANGES: dict[str, tuple[float, float]] = {
    "softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0),
    "relu": (0.0, float("inf")), "softplus": (0.0, float("inf")),
    "log_softmax": (float("-inf"), 0.0), "log_sigmoid": (float("-inf"), 0.0),
}  # fmt: skip


BEYOND = 1e-3
"""What a probability may lie beyond 0 or 1 by: the rounding of half precision."""


ROUNDED = 1e-2
"""What the sum of probabilities may be off by: half precision, and an epsilon under a logarithm."""


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """The last activation (None if there is none), where it is, and the output's values on a sample.

    Returns:
        ``activation``, ``module`` (qualified name, None for a function), ``units`` (per example), ``shape``,
        ``min``, ``max``, ``std``, ``rows_sum_to_one``, ``rows_normalised``, ``over_batch``, ``expects``,
        ``expects_target``, ``objective``, ``reduction``, ``dead`` (all outputs equal), ``outside``, ``tied``
        (`outside`), ``place`` (where the user's forward calls the activation: `place.place`).
    """
    model = problem.build(recipe.seed, recipe.init)
    batch = sample(problem.train_source, PROBED, precision(model))
    args, kwargs, target = problem.splitter(batch)
    seen: list[tuple[str, Any]] = []
    handles = [
        module.register_forward_hook(node_hook(name, seen))
        for name, module in named_modules(unwrap(model))
        if not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    ]
    try:
        with randomness.seeded(recipe.seed, "probe", 0):
            # What the edits put after the model belongs to the output; a change of units does not.
            call: Any = model.training_output if isinstance(model, Adapted) else model
            output: Any = read_by(problem.objective, call(*args, **kwargs))
    finally:
        for handle in handles:
            handle.remove()
    found = of_call(problem, output, as_trained(problem, target), args, seen)
    if found["activation"] is not None and found["module"] is None:
        found["place"] = place(model, str(found["activation"]))
    return found


def of_call(
    problem: Problem, output: Any, target: Any, args: tuple[Any, ...], seen: list[tuple[str, Any]]
) -> dict[str, Any]:
    """The same of a forward pass that was made.

    Args:
        problem: Its objective is asked what it expects.
        output: What the model put out, its graph still there.
        target: What the objective was handed beside it.
        args: The inputs, for an objective that asks for them.
        seen: What `node_hook` saw.
    """
    said = meaning(problem.objective)
    found: dict[str, Any] = {
        "expects": said.expects, "expects_target": said.target, "objective": said.name,
        "reduction": said.reduction, "activation": None, "module": None,
    }  # fmt: skip
    tensors = [each for each in judged(output) if each.is_floating_point()]
    if len(tensors) != 1:
        return found | {"tensors": len(tensors)}
    found |= described(tensors[0], seen) | {"tensors": 1}
    if said.expects is None and problem.objective is not None and isinstance(output, Tensor):
        found["expects"] = agreeing(Objective(problem), output, target, args)
    found["clipped"] = clipped(found["activation"], target)
    return found | outside(found["expects"], target)


def outside(expects: str | None, target: Any) -> dict[str, Any]:
    """``outside``, the targets' range where it leaves what a logistic loss is made for.

    ``log(1 + exp(z)) - y z`` has a least value for y in [0, 1] only: for any other y it falls without end.

    Returns:
        ``outside`` with ``low``, ``high`` and ``two`` (whether of two values), where they leave it; else, of
        probabilities and of numbers, ``tied``, what it costs that they share a sum (`tied`); or nothing.
    """
    if expects not in ("logit", "probability", "real") or not isinstance(target, Tensor):
        return {}
    if target.is_complex() or not target.numel():
        return {}
    if expects == "real":
        return {"tied": tied_squares(target)}
    y = target.detach().double()
    low, high = float(y.min()), float(y.max())
    if not (low < -BEYOND or high > 1.0 + BEYOND):
        return {"tied": tied(target)} if expects == "probability" else {}
    two = bool(torch.isin(y, y.new_tensor([low, high])).all())
    return {"outside": {"low": low, "high": high, "two": two}}


def as_trained(problem: Problem, target: Any) -> Any:
    """`target` as the objective is handed it: in standard units where an edit says so."""
    for edit in problem.edits:
        if isinstance(edit, StandardiseTargets) and edit.scale is not None and isinstance(target, Tensor):
            target = (target - edit.scale[0].to(target.device)) / edit.scale[1].to(target.device)
    return target


def clipped(activation: str | None, target: Any) -> float | None:
    """Share of the targets' variance that lies beyond the range of the last activation."""
    limits = RANGES.get(activation or "")
    if limits is None or not isinstance(target, Tensor) or target.is_complex():
        return None
    y = target.double()
    lost = (y - y.clamp(*limits)).square().mean()
    return float(lost / y.var(correction=0).clamp_min(1e-300)) if float(lost) else 0.0


def node_hook(name: str, seen: list[tuple[str, Any]]) -> Any:
    """A forward hook that adds to `seen` the graph node by which a module made its output."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        if isinstance(output, Tensor) and output.grad_fn is not None:
            seen.append((name, output.grad_fn))

    return hook


def described(output: Tensor, seen: list[tuple[str, Any]], node: Any = None) -> dict[str, Any]:
    """The last activation of `output`, the module of `seen` that made it, and the values.

    Of values without a graph `node` is what made them.
    """
    node = last_node(output) if node is None else node
    activation = _NODES.get(type(node).__name__) if node is not None else None
    values = output.detach()
    columns = values.shape[1] if values.dim() > 1 else 1
    sums = bool(
        columns > 1 and (values >= 0).all() and ((values.sum(1) - 1).abs() < 1e-4).all() and values.std() > 0
    )
    if activation is None and sums:
        activation = "softmax"
    module = next((name for name, own in reversed(seen) if own is node), None) if activation else None
    return {
        "activation": activation,
        "module": module,
        "units": columns,
        "shape": list(values.shape[1:]),
        "min": float(values.min()),
        "max": float(values.max()),
        "std": float(values.std(correction=0)),
        "rows_sum_to_one": sums,
        **_normalised(values),
        "dead": bool(values.numel() > 1 and values.max() == values.min()),
    }


def _normalised(values: Tensor) -> dict[str, bool]:
    """Over what the outputs, or their exponentials, sum to 1, whoever normalised them.

    Returns:
        ``rows_normalised`` (the exponentials of an example: log-probabilities) and ``over_batch`` (the
        probabilities of a class over the examples; not told of a square matrix, as of pairs).
    """
    if values.dim() < 2 or min(values.shape[:2]) < 2:
        return {"rows_normalised": False, "over_batch": False}
    logs = bool((values <= ROUNDED).all())
    p = values.detach().double()
    p = p.exp() if logs else p
    rows, columns = (bool(((p.sum(axis) - 1.0).abs() < ROUNDED).all()) for axis in (1, 0))
    lone = values.dim() == 2 and values.shape[0] != values.shape[1]
    return {
        "rows_normalised": logs and rows,
        "over_batch": lone and columns and not rows and bool((p >= 0).all()),
    }


def last_node(output: Tensor) -> Any:
    """The node of the graph that made the output's values, behind views and copies; None without a graph."""
    node: Any = output.grad_fn
    for _ in range(32):
        if node is None or not type(node).__name__.startswith(_PASSED):
            return node
        parents: list[Any] = [parent for parent, _ in node.next_functions if parent is not None]
        node = parents[0] if len(parents) == 1 else None
    return node
