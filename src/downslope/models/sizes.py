"""Sizes that a model of the catalogue takes from the data: inputs, outputs, channels, vocabulary."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from downslope.core import batches, names
from downslope.core.class_targets import refuse_negative, refuse_single
from downslope.core.errors import DataError, ModelError
from downslope.core.part import part
from downslope.core.problem import Problem
from downslope.core.samples import first_input, sample
from downslope.core.sources import Memory
from downslope.models.multi_task import multi_task
from downslope.models.sequences import check_steps

SPARSE_FROM = 1000
"""Largest class index from which on it is told that most classes are empty."""

_log = logging.getLogger("downslope")


def from_data(problem: Problem, factory: Callable[..., Any]) -> dict[str, Any]:
    """The size arguments of `factory` that can be read from the training data.

    Args:
        problem: Its data and split count.
        factory: A function of `downslope.models`, or a `functools.partial` of one; ``inputs``, ``outputs``,
            ``channels``, ``size``, ``vocabulary`` and ``steps`` are filled in where it takes them, of several
            tasks those of the trunk, and the heads.

    Returns:
        Argument to value.

    Raises:
        DataError: the batches hold no input tensor.
        ModelError: a model of images or of tokens, and data that are none.
    """
    factory, given = _unwrapped(factory, problem.arguments)
    found = _of_tasks(problem, given) if factory is multi_task else _sizes(problem, factory, given)
    return {key: value for key, value in found.items() if key not in given}


def lacking(problem: Problem, factory: Callable[..., Any]) -> dict[str, Any]:
    """`from_data` of a factory that lacks an argument without a default; nothing for any other."""
    inner, given = _unwrapped(factory, problem.arguments)
    if inner is multi_task:
        trunk = given.get("trunk", "mlp")
        whole = isinstance(trunk, nn.Module) or not _required(_factory(trunk), {*given, "outputs"})
        return {} if whole and "heads" in given else from_data(problem, factory)
    return from_data(problem, factory) if _required(inner, given) else {}


def _unwrapped(
    factory: Callable[..., Any], arguments: Mapping[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function inside of partials, and what it is given."""
    given = dict(arguments)
    while isinstance(factory, functools.partial):
        partial = cast("functools.partial[Any]", factory)
        bound = inspect.signature(partial.func).bind_partial(*partial.args, **partial.keywords).arguments
        given = {**bound, **bound.get("arguments", {}), **given}
        factory = partial.func
    return factory, given


def _required(factory: Callable[..., Any], given: Iterable[str]) -> set[str]:
    """Arguments without a default that are not given."""
    parameters = inspect.signature(factory).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name for p in parameters if p.default is p.empty and p.kind not in kinds} - set(given)


def _factory(trunk: Any) -> Callable[..., Any]:
    return names.resolve("model", trunk) if isinstance(trunk, str) else trunk


def _of_tasks(problem: Problem, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of the trunk, and a head for each task of the objective.

    Raises:
        ModelError: heads that nothing tells.
    """
    trunk = given.get("trunk", "mlp")
    found: dict[str, Any] = {}
    if not isinstance(trunk, nn.Module) and names.catalogued("model", _factory(trunk)):
        found = _sizes(problem, _factory(trunk), given)
        found.pop("outputs", None)
    if "heads" in given:
        return found
    objective: Any = getattr(problem.objective, "objective", problem.objective)  # of one with penalties
    its_tasks: Any = getattr(objective, "tasks", None)
    if not isinstance(its_tasks, Mapping):
        raise ModelError(
            "multi_task: heads are missing: give each task its head, such as heads={'digit': 10, 'odd': 1}, "
            "or an objective by task, ds.objectives.composite({...})"
        )
    target, held = problem.splitter(sample(problem))[2], _held(problem)[1]
    by_name = cast("Mapping[str, Any]", its_tasks)
    tasks, heads = tuple(by_name), dict[str, int]()
    for task, own in by_name.items():
        its = [part(each, task, tasks, "target") if batches.tensors(each) else () for each in (target, held)]
        count = _outputs(own, *its)
        heads[task] = count if count is not None else 1
    return {**found, "heads": heads}


def _sizes(problem: Problem, factory: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that `factory` takes."""
    x = first_input(problem)
    target = problem.splitter(sample(problem))[2]
    held = _held(problem)
    known: dict[str, Any] = {
        "inputs": x[0].numel(),
        "outputs": _outputs(problem.objective, target, held[1]),
    }
    if x.dim() == 4:
        known |= {
            "channels": x.shape[1],
            "size": x.shape[2] if x.shape[2] == x.shape[3] else tuple(x.shape[2:]),
        }
    taken = inspect.signature(factory).parameters
    if "channels" in taken and x.dim() != 4 and not {"channels", "size"} <= set(given):
        raise ModelError(
            f"{factory.__name__} takes images (n, channels, height, width), and the inputs are "
            f"{tuple(x.shape)}: reshape them, or take another model, such as 'mlp'"
        )
    if "tokens" in taken:  # a model of sequences
        known |= _steps(x, held[0], factory.__name__, given)
    if "vocabulary" in taken:
        known |= _vocabulary(x, (target, held), factory.__name__)
    told = getattr(problem.train_source, "vocabulary", None)
    if told is not None:  # the source knows tokens that the sample may lack
        known |= {"vocabulary": told, "inputs": told}
    return {key: value for key, value in known.items() if key in taken and value is not None}


def _held(problem: Problem) -> tuple[Any, Any]:
    """Inputs and target of the validation data, where it is in memory: it may hold what training lacks."""
    source = problem.valid_source
    if not isinstance(source, Memory):
        return (), ()
    args, kwargs, target = problem.splitter(source.batch)
    return (args, kwargs), target


def _most(*trees: Any) -> int:
    """The largest whole number."""
    found = [each for each in batches.tensors(trees) if not each.is_floating_point() and each.numel()]
    return max((int(each.max()) for each in found), default=0)


def _steps(x: Tensor, held: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers a step; of tokens how many there are, as far as the data in memory shows."""
    tokens = bool(given.get("tokens", x.dim() == 2 and not x.is_floating_point()))
    check_steps(x, name, tokens=tokens)
    if tokens:
        return {"inputs": _most(x, held) + 1, "tokens": True}
    return {"inputs": x.shape[-1]}


def _vocabulary(x: Tensor, target: Any, name: str) -> dict[str, Any]:
    """Tokens and steps; a token that is only ever a target counts too."""
    check_steps(x, name, tokens=True)
    return {"vocabulary": _most(x, target) + 1, "steps": x.shape[1]}


def _outputs(objective: Any, target: Any, held: Any) -> int | None:
    """Entries of the output: one for each class, or one for each number of the target; of two classes by one
    score alone, but of two labels of yes and no by two.

    Raises:
        DataError: the objective wants class indices, and these are none, or class 0 alone.
    """
    count = _entries(objective, target, held)
    labels = any(each.dim() > 1 and each.shape[1] > 1 for each in batches.tensors(target)[:1])
    scored = getattr(objective, "expects", None) in ("logit", "probability")
    return 1 if count == 2 and scored and not labels else count


def _entries(objective: Any, target: Any, held: Any) -> int | None:
    found = batches.tensors(target)
    if not found:
        return None
    y: Tensor = found[0]
    said = names.load("downslope.objectives.meaning:meaning")(objective)
    meant = said.target
    whole = y.dtype != torch.bool and not y.is_floating_point() and not y.is_complex()
    column = y.dim() == 2 and y.shape[1] == 1
    if meant == "class" and len(found) == 1 and (y.dim() == 1 or column):
        if not whole:
            kind = str(y.dtype).removeprefix("torch.")
            raise DataError(f"train: the target is {kind}: class indices must be whole numbers; y.long()")
        outputs = _most(y, held) + 1
        ignored = int(getattr(objective, "ignore_index", -100))
        refuse_negative(y, "train", ignored)
        if outputs == 1:
            refuse_single(y, "train", ignored)
        _look(y, outputs, ignored)
        return outputs
    if whole and y.dim() == 1 and not (meant == "binary" and (said.expects != "sign" or _signs(y))):
        return _most(y, held) + 1
    return y[0].numel() if y.dim() > 1 else 1


def _signs(y: Tensor) -> bool:
    """Whether labels are -1 and 1, which one score tells apart."""
    return int(y.min()) == -1 and int(y.max()) <= 1


def _look(y: Tensor, outputs: int, ignored: int) -> None:
    """Tell of classes most of which are empty."""
    if outputs <= SPARSE_FROM:
        return
    classes = set(cast("list[int]", y.flatten().tolist())) - {ignored}
    count = len(classes)
    if 10 * count < outputs:
        _log.warning(
            "the target holds %d classes, and the largest index is %d: the model gets %d outputs; "
            "torch.unique(y, return_inverse=True)[1] numbers the classes from 0",
            count, outputs - 1, outputs,
        )  # fmt: skip
