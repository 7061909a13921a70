"""What an optimizer refuses of what it is given, beside hyper-parameters (`domains`): one clear line each."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from downslope.core.errors import ModelError, RecipeError
from downslope.core.names import nearest
from downslope.optim.domains import DOMAINS
from downslope.optim.looks import check_memory
from downslope.optim.options import GROUP_OPTIONS

__all__ = [
    "KindError", "check_alike", "check_entry", "check_foreign", "check_group_names", "check_has_params",
    "check_leaf", "check_members", "check_saved", "check_sizes", "check_there", "check_trainable", "listed",
]  # fmt: skip

_ALIASES = {
    "wd": "weight_decay", "l2": "weight_decay", "learning_rate": "lr", "eta": "lr", "beta": "betas",
    "beta1": "betas", "beta2": "betas", "lrate": "lr", "learnrate": "lr", "learn_rate": "lr",
    "learningrate": "lr", "step_size": "lr", "wdecay": "weight_decay", "weightdecay": "weight_decay",
    "batas": "betas", "epsilon": "eps",
}  # fmt: skip
"""What settings are called elsewhere."""

_BESIDE = ("scale", "mult", "multiplier", "factor", "decay", "max", "min", "group")
"""Ends of names such as ``lr_scale``, which other programs keep in groups for themselves."""


class KindError(ModelError, TypeError):
    """What is given in the place of parameters or of a closure is of another kind: torch's TypeError."""


def listed(params: Any) -> list[Any]:
    """The groups or parameters that an optimizer was given.

    Raises:
        ModelError: something else, such as the model.
    """
    if isinstance(params, Tensor):
        raise KindError(
            f"the params argument is one tensor of shape {tuple(params.shape)}: put it into a list, "
            "[parameter]"
        )
    if isinstance(params, torch.nn.Module):
        name = type(params).__name__
        raise ModelError(f"params is a model ({name}): pass its parameters, model.parameters()")
    if isinstance(params, str | Mapping) or not isinstance(params, Iterable):
        raise ModelError(
            f"params is {type(cast('object', params)).__name__}: must be parameters, named parameters or a "
            "list of groups, such as model.parameters()"
        )
    found = list(cast("Iterable[Any]", params))
    groups = [isinstance(each, Mapping) for each in found]
    if any(groups) and not all(groups):
        i = groups.index(not groups[0])
        what, other = ("group", "parameter") if groups[i] else ("parameter", "group")
        raise KindError(
            f"params has a {other} first and a {what} at {i}, and an optimizer can only optimize Tensors or "
            'groups of them: give all as groups, {"params": [...], ...}'
        )
    return found


def check_there(group: Mapping[str, Any], settings: Iterable[str]) -> None:
    """Refuses a group that has lost one of the `settings`.

    Raises:
        RecipeError: it is missing.
    """
    for name in settings:
        if name not in group:
            raise RecipeError(
                f"a parameter group has no {name!r} (any more): every group keeps all settings; set "
                f"group[{name!r}] again"
            )


def check_group_names(
    owner: str, group: Mapping[str, Any], settings: Collection[str], fixed: Collection[str]
) -> None:
    """Refuses a group's entry that sounds like a setting and is none; other entries may stand, as in torch.

    Args:
        owner: the class, for the message.
        group: whose entries are looked through.
        settings: names of the hyper-parameters.
        fixed: names whose value is known.

    Raises:
        RecipeError: a misspelt setting, one of another optimizer, or an argument of the constructor.
    """
    usual = (*settings, *GROUP_OPTIONS, *fixed, "params", "param_names", "name")
    for name in [each for each in group if each not in usual]:
        if name in ("backend", "nonfinite", "schedules"):
            raise RecipeError(
                f"parameter group has {name!r}: it is one for all groups; pass it to {owner}(..., {name}=...)"
            )
        close = _sounding(name, [*settings, *GROUP_OPTIONS])
        if close or name in DOMAINS:
            hint = f"; did you mean {close!r}?" if close else f"; it has {', '.join(sorted(settings))}"
            raise RecipeError(f"parameter group has {name!r}: {owner} has no such hyper-parameter{hint}")


def _sounding(given: str, known: Collection[str]) -> str | None:
    low = given.lower()
    meant = _ALIASES.get(low, low)
    if meant in known:
        return meant
    for name in known:
        if low.startswith(f"{name}_") and low.removeprefix(f"{name}_") not in _BESIDE:
            return name
        if len(low) > 3 and low in name.split("_"):
            return name
    close = nearest(low, known, 1)
    alike = close and low.replace("_", "").startswith(close[0][:4]) and abs(len(low) - len(close[0])) <= 3
    return close[0] if alike else None


def check_has_params(group: Any) -> None:
    """Refuses a parameter group without parameters.

    Raises:
        ModelError: no group, no ``params`` in it, or something else there than parameters.
    """
    if not isinstance(group, dict):
        raise KindError(
            f"a parameter group is {type(group).__name__}: param_group must be a dict, such as "
            '{"params": [...], "lr": ...}'
        )
    own: Any = cast("dict[str, Any]", group).get("params", ())
    if isinstance(own, torch.nn.Module | str | Mapping) or not isinstance(own, Iterable):
        raise KindError(
            f"a parameter group's params is {type(cast('object', own)).__name__}: must be a list of "
            "parameters, such as model.parameters()"
        )
    group = cast("dict[str, Any]", group)
    if "params" not in group:
        raise ModelError(
            f"a parameter group has {', '.join(map(repr, group)) or 'nothing'}, but no 'params': "
            'write {"params": [...], "lr": ...}'
        )


def check_entry(i: int, entry: Any) -> Tensor:
    """The tensor of an entry: a parameter, or a pair of its name and it.

    Raises:
        ModelError: something else.
    """
    own: Any = entry
    pair: tuple[Any, ...] = own if isinstance(entry, tuple) else ("", own)
    if len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], Tensor):
        return pair[1]
    what = f"({', '.join(type(each).__name__ for each in pair)})" if isinstance(entry, tuple) else ""
    raise KindError(
        f"parameter {i} is {what or type(own).__name__}: an optimizer can only optimize Tensors, or "
        "pairs of name and Tensor; pass model.parameters() or model.named_parameters()"
    )


def check_leaf(i: int, p: Tensor) -> None:
    """Refuses a tensor that no gradient can reach: of whole numbers, unless it is a model's parameter (a
    quantised one, frozen), or computed from others, as torch does, unless it keeps its gradient.

    Raises:
        ModelError: `p` is no leaf, or neither real nor complex.
    """
    if not (p.is_floating_point() or p.is_complex() or isinstance(p, torch.nn.Parameter)):
        raise ModelError(
            f"parameter {i} of shape {tuple(p.shape)} is {p.dtype}, which has no gradient: pass parameters "
            "of real or complex numbers; p.float() makes a tensor of them"
        )
    if p.requires_grad and p.is_floating_point() and p.dtype.itemsize < 2:
        raise ModelError(
            f"parameter {i} of shape {tuple(p.shape)} is {p.dtype}, in which no step can be taken: allowed "
            "are float16, bfloat16, float32, float64 and complex; keep it in bfloat16 and cast it in "
            "the forward pass, or freeze it"
        )
    if not (p.is_leaf or p.retains_grad):
        raise ModelError(
            f"parameter {i} of shape {tuple(p.shape)} is a non-leaf tensor, the result of an operation: a "
            "step would change what is computed anew; pass the parameters that it is computed from"
        )
    if p.requires_grad:
        _check_apart(p)


def _check_apart(p: Tensor) -> None:
    """Refuses elements that share memory, of which each would be moved by the others' steps too."""
    if p.layout == torch.strided and _overlaps(p):
        raise ModelError(
            f"a parameter of shape {tuple(p.shape)} and strides {p.stride()} has elements that share "
            "memory, as after expand(): a step cannot move one without the others; train what it was made "
            "from, or clone() it"
        )


def _overlaps(p: Tensor) -> bool:
    """Whether elements share memory; strides tell it but for odd ones, where all places are compared."""
    if not p.numel():
        return False
    reach = 0
    for stride, size in sorted((by, n) for by, n in zip(p.stride(), p.shape, strict=True) if n > 1):
        if stride <= reach:
            places = sum(
                (by * torch.arange(n)).view(-1, *[1] * (p.ndim - 1 - i))
                for i, (by, n) in enumerate(zip(p.stride(), p.shape, strict=True))
            )
            return torch.as_tensor(places).unique().numel() < p.numel()
        reach += stride * (size - 1)
    return False


def check_trainable(groups: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a step where all is frozen. One frozen parameter among others waits to be thawed, as in torch:
    fine-tuning hands over ``model.parameters()`` whole and thaws layers one after another.

    Raises:
        ModelError: no parameter asks for a gradient.
    """
    if not any(p.requires_grad for group in groups for p in group["params"]):
        raise ModelError(
            "every parameter of this optimizer is frozen (requires_grad=False): nothing can move; call "
            "requires_grad_(True) on what shall be trained"
        )


def check_alike(g: Tensor, p: Tensor) -> None:
    """Refuses a gradient that its parameter could not have made.

    Raises:
        RecipeError: another shape, dtype or device, or a parameter that is a lazy view of others' negatives.
    """
    if p.is_neg() or p.is_conj():
        raise RecipeError(
            f"a parameter of shape {tuple(p.shape)} is a lazy negative or conjugate: a step would move what "
            "it is a view of; call p.data = p.data.resolve_conj().resolve_neg()"
        )
    _check_apart(p)
    pairs = (
        ("shape", tuple(g.shape), tuple(p.shape)),
        ("dtype", g.dtype, p.dtype),
        ("device", g.device, p.device),
    )
    for what, own, wanted in pairs:
        if own != wanted:
            raise RecipeError(
                f"the gradient of a parameter of shape {tuple(p.shape)} has {what} {own}, the parameter "
                f"{wanted}: they must be alike; forget it with zero_grad(), or cast it before the step"
            )


def check_members(settings: Iterable[tuple[str, Any]], p: Tensor) -> None:
    """Refuses a setting of one number per member for a parameter of other members, its first dimension.

    Raises:
        RecipeError: as many numbers as `p` has no members.
    """
    for name, value in settings:
        if not isinstance(value, Tensor) or value.numel() == 1:
            continue
        if value.ndim != 1 or p.ndim == 0 or p.shape[0] != value.shape[0]:
            raise RecipeError(
                f"{name} is a tensor of shape {tuple(value.shape)}, one number for each member of a "
                f"population, for a parameter of shape {tuple(p.shape)}: its first dimension must be the "
                f"members; give {name} as one number"
            )


def check_saved(state_dict: Any) -> None:
    """Refuses what is no optimizer's state_dict.

    Raises:
        RecipeError: no mapping, or ``state`` or ``param_groups`` is missing.
    """
    if not isinstance(state_dict, Mapping):
        raise RecipeError(
            f"a state_dict that is {type(state_dict).__name__}: load what optimizer.state_dict() gave"
        )
    given = cast("Mapping[str, Any]", state_dict)
    if not {"state", "param_groups"} <= set(given):
        found = ", ".join(map(repr, list(given)[:3])) or "nothing"
        raise RecipeError(
            f"a state_dict with {found} in it: an optimizer's has 'state' and 'param_groups'; load what "
            "optimizer.state_dict() gave"
        )
    state, groups = given["state"], given["param_groups"]
    rows = cast("list[Any]", groups) if isinstance(groups, list | tuple) else [None]
    right = all(isinstance(row, Mapping) and isinstance(row.get("params"), list | tuple) for row in rows)
    if not right or not isinstance(state, Mapping):
        key, value, must = ("state", state, "a table of a table for each parameter")
        if not right:
            key, value, must = ("param_groups", groups, "a list of tables that have params")
        raise RecipeError(
            f"a state_dict whose {key!r} is {str(cast('object', value))[:40]}: must be {must}; load what "
            "optimizer.state_dict() gave"
        )
    for place, each in cast("Mapping[object, object]", state).items():
        if isinstance(place, int) and not isinstance(each, Mapping):
            raise RecipeError(
                f"a state_dict whose state of parameter {place} is {type(each).__name__}: must be a table; "
                "load what optimizer.state_dict() gave"
            )
        check_memory(cast("Mapping[str, Any]", each).values() if isinstance(each, Mapping) else ())


def check_sizes(groups: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a state of other groups, or of groups of another number of parameters.

    Raises:
        RecipeError: `saved` has them.
    """
    own, theirs = ([len(group["params"]) for group in each] for each in (groups, saved))
    if own != theirs:
        raise RecipeError(
            f"the state_dict has {_sizes(theirs)}, the optimizer {_sizes(own)}: they must be alike; make the "
            "optimizer over the parameters and groups that the saved one had, in their order"
        )


def _sizes(sizes: Sequence[int]) -> str:
    parts = ", ".join(map(str, sizes[:4])) + ", ..." * (len(sizes) > 4)
    return f"{len(sizes)} group{'s' * (len(sizes) != 1)} of {parts or 'no'} parameters"


_LATER = ("maximize", "decoupled_weight_decay")
"""What torch's classes did not have from the first."""


def check_foreign(
    cls: type, group: Mapping[str, Any], settings: Collection[str], fixed: Collection[str]
) -> None:
    """Refuses a loaded group with other hyper-parameters, as of another optimizer, whose state looks alike.

    Args:
        cls: the class into which it is loaded; torch's of the same name may have fewer settings.
        group: as it was saved.
        settings: names of what the class has.
        fixed: names of what torch's has and the class cannot change.

    Raises:
        RecipeError: a hyper-parameter that is none of `settings`, or one of these too few.
    """
    torchs: Any = getattr(torch.optim, cls.__name__, None)
    theirs = () if torchs is None else tuple(inspect.signature(torchs).parameters)
    beside = {*GROUP_OPTIONS, *fixed, "params"}
    foreign = [name for name in group if name not in {*settings, *beside} and name in DOMAINS]
    needed = {name for name in settings if name in theirs or not theirs}
    lacking = needed - set(group) - {*_LATER, *GROUP_OPTIONS}
    if foreign or lacking:
        what = f"have {', '.join(sorted(foreign))}" if foreign else f"have no {', '.join(sorted(lacking))}"
        raise RecipeError(
            f"the state_dict's groups {what}, {cls.__name__} has {', '.join(sorted(settings))}: "
            "it was saved by another optimizer; load it into one of that class"
        )
