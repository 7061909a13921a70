"""The model before its first step: first loss, signal and gradient layer by layer, scale of the weights."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches, randomness
from downslope.core.adapted import unwrap
from downslope.core.fixed_sample import PROBED, precision, sample
from downslope.core.loss import Objective
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.data.inspect import sampled
from downslope.diagnosis.loose import Weights
from downslope.diagnosis.measure.matrices import lean, matrices
from downslope.training.facts.data import scales

_NORMS = ("Norm",)


def measure(problem: Problem, recipe: Recipe) -> dict[str, Any]:
    """One forward and one backward pass of the untrained model on a sample.

    Returns:
        ``loss`` (user's units; None if it cannot be computed, then ``error``), ``layers``: in forward order,
        for every module with a matrix of weights, ``name``, ``type``, ``fan_in``, ``fan_out``,
        ``weight_rms``, ``gain`` (weight_rms * sqrt(fan_in): 1.41 is He's rule, 0.58 torch's default),
        ``lean`` (size of their mean in their root mean square: 0 but for chance where signs are drawn),
        ``in_rms``, ``out_rms``, ``out_spread`` (deviation over examples, root mean square over units),
        ``grad_rms``, ``equal_rows`` (all units start alike), and of the first also ``entry``, the scales of
        the features that it is given; ``matrices``, the weights that no such module shows (`matrices`); and
        ``norms``, the number of norm layers.
    """
    model = problem.build(recipe.seed, recipe.init)
    batch = sample(problem.train_source, PROBED, precision(model))
    inner = unwrap(model)
    objective = Objective(problem)
    loss: Tensor | None = None
    with watched(inner) as layers, randomness.seeded(recipe.seed, "probe", 0):
        try:
            found = objective(model, batch)
            loss = found.value
        except Exception as error:  # noqa: BLE001 (anybody's model and objective; the reason is kept)
            text = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {text[0][:200] if text else ''}"
            return {"loss": None, "error": reason, "layers": layers, "norms": count_norms(inner)}
    if loss.requires_grad and bool(torch.isfinite(loss)):
        loss.backward()
    named = dict(named_modules(inner))
    for layer in layers:
        weight = named[layer["name"]].get_parameter("weight")
        if weight.grad is not None:
            layer["grad_rms"] = _rms(weight.grad)
    raw = objective.restored(model, found, batch)
    return {
        "loss": float(raw),
        "layers": layers,
        "matrices": matrices(inner),
        "norms": count_norms(inner),
        "trained_loss": float(loss.detach()),
    }


def has_matrix(module: nn.Module) -> bool:
    """Whether a module multiplies its input by a matrix of weights of its own."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() > 1 and not isinstance(module, nn.Embedding)


@contextmanager
def watched(model: nn.Module) -> Generator[list[dict[str, Any]]]:
    """A block in which the modules with a matrix of weights note what they do, in forward order."""
    layers: list[dict[str, Any]] = []
    handles = [
        module.register_forward_hook(layer_hook(name, layers))
        for name, module in named_modules(model)
        if has_matrix(module)
    ]
    try:
        yield layers
    finally:
        for handle in handles:
            handle.remove()


def layer_hook(name: str, layers: list[dict[str, Any]]) -> Any:
    """A forward hook that adds to `layers` what the first call of a module with a matrix of weights shows."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if any(layer["name"] == name for layer in layers):
            return
        given = next((each for each in batches.tensors(args) if each.is_floating_point()), None)
        made = next((each for each in batches.tensors(output) if each.is_floating_point()), None)
        if made is None or not isinstance(module.weight, Tensor):
            return
        weight, out = module.weight.detach(), made.detach()
        rows = rows_of(module, weight)
        spread = out.std(0, correction=0).square().mean().sqrt() if len(out) > 1 else out.new_tensor(math.nan)
        layers.append(
            {
                "name": name,
                "type": type(module).__name__,
                "fan_in": rows.shape[1],
                "fan_out": rows.shape[0],
                "weight_rms": _rms(weight),
                "gain": _rms(weight) * math.sqrt(rows.shape[1]),
                "lean": lean(weight),
                "in_rms": None if given is None else _rms(given),
                "out_rms": _rms(out),
                "out_spread": float(spread),
                "grad_rms": None,
                "equal_rows": bool(rows.shape[0] > 1 and (rows == rows[:1]).all()),
                "trainable": bool(module.weight.requires_grad),
            }
            | ({"entry": _entry(given)} if not layers else {})
        )

    return hook


def rows_of(module: nn.Module, weight: Tensor) -> Tensor:
    """The weights of `module` with one row for each of its units, (fan out, fan in)."""
    if isinstance(module, Weights):
        return module.as_rows(weight)
    transposed = isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    return (weight.transpose(0, 1) if transposed else weight).flatten(1)


def _entry(given: Tensor | None) -> dict[str, Any] | None:
    if given is None or given.dim() == 0 or not given.numel():
        return None
    return scales(given[: sampled(given)].detach().to("cpu", torch.float64))


def _rms(x: Tensor) -> float:
    return float(x.detach().double().square().mean().sqrt())


def count_norms(model: nn.Module) -> int:
    """How many normalisation layers a model has."""
    return sum(any(word in type(module).__name__ for word in _NORMS) for module in model.modules())
