"""The verb `extract`: a problem on what a trained model makes of the inputs, computed once."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.depth import units
from downslope.core.errors import DataError, DownslopeError, InputError, ModelError, told
from downslope.core.modules import named_modules
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Memory, Source
from downslope.models.joined import Body, Joined
from downslope.training.choices import choose_device
from downslope.training.evaluate import BATCH, evaluating
from downslope.training.feature_store import Store, cached, key_of

__all__ = ["Features", "extract"]

_DROPPED = {"split": None, "weights": None, "augment": None, "constraint": None, "task": None}
"""Fields of a problem that speak of raw inputs, or of the whole model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features(Problem):
    """A problem on features; `join` puts a trained head and the body that made them together again.

    Args:
        body: Makes features of raw inputs.
        place: Qualified name of the layer whose place a head can take, so that the model stays a plain one;
            None where only `downslope.models.joined.Joined` fits.
    """

    body: Body | None = None
    place: str | None = None

    def join(self, head: Run | nn.Module) -> nn.Module:
        """One model from raw inputs to outputs, in eval mode on the CPU; body and head are copied.

        Where the features are what the model's last layer was given, the head takes its place and all other
        names stay; else it is a `Joined`.

        Args:
            head: The run of this problem, or a module on its features.
        """
        if self.body is None:
            raise ModelError("these features do not know their body: give those that extract made")
        own = head.model() if isinstance(head, Run) else copy.deepcopy(head)
        if self.place is None:
            return Joined(copy.deepcopy(self.body), own).cpu().eval()
        whole = copy.deepcopy(self.body.model)
        owner, _, leaf = self.place.rpartition(".")
        setattr(whole.get_submodule(owner), leaf, _bare(own))
        return whole.cpu().eval()


def _bare(head: nn.Module) -> nn.Module:
    """The layer alone of a head that flattens what is flat already, so that names stay those of the model."""
    if type(head) is nn.Sequential and [type(each) for each in head] == [nn.Flatten, nn.Linear]:
        return head[1]
    return head


def extract(
    problem: Problem,
    model: nn.Module | Run | None = None,
    layer: str | None = None,
    *,
    head: Any = "linear",
    pool: bool = False,
    cache: bool | None = None,
    batch_size: int = BATCH,
    device: str = "auto",
    progress: bool = True,
) -> Features:
    """The problem of training a head on the frozen features ``phi(x)`` of a model.

    Features are computed once, in eval mode and without gradients, batch by batch. They stand in memory, or
    in a file below the cache folder that is mapped into it; a file is found again by the hash of weights,
    layer and data.

    Args:
        problem: Its data, objective, metric and goal; what it says of raw inputs or of the whole model
            (augmentation, constraint, weights) stays behind with the body.
        model: Trained; a run, or None for what ``problem.build()`` gives with the problem's `weights`.
        layer: Qualified name of the layer whose output the features are; None takes what the last layer is
            given.
        head: The model on the features: a name such as "linear", "softmax" or "mlp", a factory, a module.
        pool: Whether to average over pixels or steps.
        cache: Whether features are kept in a file; None where they take more than 2 GiB.
        batch_size: Examples a forward pass, for data in memory.
        device: Where the body runs; "auto" takes a CUDA device where there is one.
        progress: Whether to say on standard error what was computed and how large it is.

    Returns:
        The problem; ``features.join(run)`` is the whole model.

    Raises:
        ModelError: no such layer, or one that the forward pass does not reach.
        DataError: data without an end.
        InputError: a problem whose loss comes out of its model.
    """
    if problem.objective is None:
        raise InputError(
            "objective=None takes the loss that the model gives, and a head gives none: name one"
        )
    whole = _model_of(problem, model)
    body, place, shown = _body(problem, whole, layer, pool)
    where = choose_device(Recipe(device=device))
    body.to(where)
    parts: dict[str, Memory | None] = {}
    for name, source in (("train", problem.train_source), ("valid", problem.valid_source)):
        parts[name] = None if source is None else _part(problem, body, source, name, cache, batch_size, where)
    body.cpu()
    kept: dict[str, Any] = {each.name: getattr(problem, each.name) for each in fields(Problem)}
    kept |= {key: value for key, value in _DROPPED.items() if key in kept}
    edits = tuple(each for each in problem.edits if each.kind == "standardise-targets")
    if progress:
        sys.stderr.write(f"extract: {_size(parts)} {'before' if body.before else 'of'} layer {shown!r}\n")
    known = {"outputs": _classes(parts)} if isinstance(head, str) else {}
    arguments = {key: value for key, value in known.items() if value is not None}
    made: dict[str, Any] = {**kept, **parts, "model": head, "arguments": arguments, "edits": edits}
    return Features(**made, body=body, place=place)


def _model_of(problem: Problem, model: Any) -> nn.Module:
    if model is None:
        return problem.build().eval()
    if isinstance(model, Run):
        return model.model()
    if not isinstance(model, nn.Module):
        raise ModelError(f"model={model!r}: must be a module, a Run, or None for the problem's own")
    return copy.deepcopy(model).eval()


def _body(problem: Problem, whole: nn.Module, layer: str | None, pool: bool) -> tuple[Body, str | None, str]:
    """The model up to the layer, where a head can stand in its place, and the layer's name in one's model."""
    own = unwrap(whole)
    inside = next((name for name, module in named_modules(whole) if module is own), "")
    if layer is not None:
        return Body(whole, f"{inside}.{layer}" if inside else layer, pool=pool), None, layer
    found = units(own)
    if len(found) < 2 or len(found[-1].modules) != 1:
        raise ModelError("the model has no single last layer to leave out: name the layer to take (layer=)")
    last = found[-1].modules[0]
    name = f"{inside}.{last}" if inside else last
    ends = not pool and _ends(problem, whole, name)
    return Body(whole, name, before=True, pool=pool), name if ends else None, last


def _ends(problem: Problem, whole: nn.Module, name: str) -> bool:
    """Whether what the layer gives is what the model gives, so that another may stand in its place."""
    gave: list[Any] = []
    handle = whole.get_submodule(name).register_forward_hook(lambda _m, _a, output: gave.append(output))
    try:
        with evaluating(whole):
            batch = next(iter(problem.train_source.stored(2)))
            parameter = next(whole.parameters())
            args, kwargs, _ = problem.splitter(batches.to(batch, parameter.device, parameter.dtype))
            output = whole(*args, **kwargs)
    except DownslopeError:
        raise
    except Exception as error:
        raise ModelError(f"the model cannot take the problem's data: {told(error)}") from error
    finally:
        handle.remove()
    return len(gave) == 1 and gave[0] is output


def _part(
    problem: Problem,
    body: Body,
    source: Source,
    name: str,
    cache: bool | None,
    batch_size: int,
    where: torch.device,
) -> Memory:
    """Features and targets of one part of the data."""
    if source.steps(batch_size) is None:
        raise DataError(f"{name}: data without an end has no features that could be computed once")
    key = key_of(body, source, name) if cache is not False else None
    if key is not None and (found := cached(key)) is not None:
        return Memory((found, _targets(problem, source, batch_size)))
    store = Store(key, source.size, cache)
    targets: list[Any] = []
    parameter = next(body.parameters(), None)
    dtype = None if parameter is None else parameter.dtype
    try:
        with evaluating(body):
            for batch in source.stored(batch_size):
                args, kwargs, target = problem.splitter(batches.to(batch, where, dtype))
                store.add(body(*args, **kwargs).cpu())
                targets.append(batches.to(target, torch.device("cpu")))
        return Memory((store.close(), batches.join(targets)))
    except BaseException as error:
        store.drop()
        if isinstance(error, DownslopeError) or not isinstance(error, Exception):
            raise
        raise ModelError(f"{name}: the body cannot take a batch: {told(error)}") from error


def _targets(problem: Problem, source: Source, batch_size: int) -> Any:
    rows = [problem.splitter(batch)[2] for batch in source.stored(batch_size)]
    return batches.join(rows)


def _classes(parts: dict[str, Memory | None]) -> int | None:
    """How many classes the targets tell, where they are class numbers."""
    most = 0
    for part in parts.values():
        if part is None:
            continue
        target = part.batch[-1]
        if not isinstance(target, Tensor) or target.is_floating_point() or target.dim() != 1:
            return None
        most = max(most, int(target.max()) + 1)
    return most or None


def _size(parts: dict[str, Memory | None]) -> str:
    held = [part for part in parts.values() if part is not None]
    shape = "x".join(map(str, held[0].batch[0].shape[1:])) or "1"
    rows = " and ".join(str(part.size) for part in held)
    megabytes = sum(part.batch[0].numel() * part.batch[0].element_size() for part in held) / 1e6
    return f"{shape} features of {rows} examples, {megabytes:.3g} MB,"
