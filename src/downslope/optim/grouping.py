"""The groups that a factory made, as data: what they have in common, what is their own, and whom they hold.

Whom they hold is told by the number of dimensions, where lists of throw-away parameters in different orders
and lengths leave no other reading, or by the names of a model's parameters, whole modules as ``module.*``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from downslope.core.adapted import Named, named_parameters, unwrap
from downslope.core.errors import RecipeError
from downslope.core.groups import RATES, Group

__all__ = [
    "PositionError", "about_positions", "arguments", "by_dimensions", "by_names", "common_settings",
    "factory_arguments", "has_others", "takes_all_alike", "throw_away", "wanted",
]  # fmt: skip

Wanted = Literal["params", "named_parameters", "model"]

_SHAPES = [
    (4, 3), (4,), (2, 3, 3, 3), (4,), (), (3, 4, 5), (1,), (2, 2, 3, 3, 3), (1, 1), (200,), (64, 50),
    (1, 1, 1, 1), (2,), (7, 1, 2), (1, 1, 1, 1, 1), (),
]  # fmt: skip


class PositionError(RecipeError):
    """A factory counts on as many parameters as its model has."""


def wanted(factory: Any) -> Wanted:
    """What the factory's first argument is named: the model, its named parameters, or else parameters."""
    try:
        first = next(iter(inspect.signature(factory).parameters), "")
    except (TypeError, ValueError):
        return "params"
    return cast("Wanted", first) if first in ("model", "named_parameters") else "params"


def arguments(kind: Wanted, model: nn.Module, named: Sequence[Named]) -> tuple[Any, list[Tensor]]:
    """What a factory that wants `kind` is called with, and the parameters that it thereby sees."""
    if kind == "model":
        own = unwrap(model)
        seen = {id(p) for p in own.parameters()}
        return own, [p for _, p in named if id(p) in seen]
    params: list[Tensor] = [p for _, p in named]
    return (params if kind == "params" else [(its_names[0], p) for its_names, p in named]), list(params)


def factory_arguments(factory: Any, model: nn.Module) -> Any:
    """What `factory` is called with to make the optimizer of `model`: see `wanted`."""
    named = [(its_names, p) for its_names, p in named_parameters(model) if p.requires_grad]
    return arguments(wanted(factory), model, named)[0]


def about_positions(error: Exception) -> bool:
    """Whether a factory may have failed only because the list of parameters was not its model's."""
    told = str(error)
    return isinstance(error, (IndexError, StopIteration)) or (
        isinstance(error, ValueError) and ("unpack" in told or "empty parameter list" in told)
    )


def throw_away() -> list[list[nn.Parameter]]:
    """Lists of parameters that differ in order, length and sizes, with 0 to 5 dimensions in each."""
    orders = [_SHAPES, _SHAPES[::-1], [*_SHAPES[5:], *_SHAPES, *_SHAPES[:9]]]
    return [[nn.Parameter(torch.zeros(shape)) for shape in shapes] for shapes in orders]


def takes_all_alike(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> bool:
    """Whether there is one group, and it has all of `params`."""
    groups = optimizer.param_groups
    return len(groups) == 1 and {id(p) for p in groups[0]["params"]} == {id(p) for p in params}


def has_others(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    """Whether the optimizer holds a parameter that is none of the model's."""
    own = {id(p) for p in model.parameters()}
    return any(id(p) not in own for group in optimizer.param_groups for p in group["params"])


def common_settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The settings that stand for the whole: what differs from the class's defaults, and ``lr``.

    The largest ``lr`` and ``weight_decay`` of any group, so that others have a ratio to it; of other settings
    what all groups have, else the optimizer's own default.
    """
    return {
        key: value
        for key, (value, default, _) in _settings(optimizer).items()
        if value != default or key == "lr"
    }


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, tuple[Any, Any, list[Any]]]:
    """Setting to its common value, the class's default, and the value in each group."""
    found: dict[str, tuple[Any, Any, list[Any]]] = {}
    groups = optimizer.param_groups
    made: Any = getattr(optimizer, "named_class", type(optimizer))  # of one around another both settings
    taken = {name: each.default for name, each in inspect.signature(made).parameters.items()}
    options: dict[str, Any] = getattr(made, "options", {})
    for name, default in (taken | options).items():
        if name == "params" or any(name not in group and name not in options for group in groups):
            continue
        values = [_plain(group.get(name, default)) for group in groups]
        common = values[0]
        if name in RATES:
            common = max(values)
        elif any(value != common for value in values):
            own = _plain(optimizer.defaults.get(name))
            common = own if own in values else common
        found[name] = (common, default, values)
    return found


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _own_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """For every group the settings in which it differs from the common ones."""
    settings = _settings(optimizer)
    return [
        {key: values[i] for key, (common, _, values) in settings.items() if values[i] != common}
        for i in range(len(optimizer.param_groups))
    ]


def _places(optimizer: torch.optim.Optimizer) -> dict[int, int]:
    """Parameter (its id) to the index of its group."""
    return {id(p): i for i, group in enumerate(optimizer.param_groups) for p in group["params"]}


def by_dimensions(
    made: Sequence[torch.optim.Optimizer], lists: Sequence[Sequence[Tensor]]
) -> tuple[Group, ...] | None:
    """The groups by numbers of dimensions, where those alone tell them in every list; else None."""
    settings = [_own_settings(optimizer) for optimizer in made]
    if any(each != settings[0] for each in settings) or any(
        common_settings(each) != common_settings(made[0]) for each in made
    ):
        return None
    places: dict[int, int | None] = {}
    for optimizer, params in zip(made, lists, strict=True):
        found = _places(optimizer)
        if not found.keys() <= {id(p) for p in params}:
            return None
        for p in params:
            if places.setdefault(p.dim(), found.get(id(p))) != found.get(id(p)):
                return None
    rows = [*enumerate(settings[0]), (None, None)]
    groups: list[Group] = []
    for place, own in rows:
        ndim = tuple(sorted(d for d, where in places.items() if where == place))
        if ndim:
            groups.append(Group(ndim=ndim, train=own is not None, settings=own or {}))
    return tuple(groups)


def by_names(
    optimizer: torch.optim.Optimizer, named: Sequence[Named], seen: Sequence[Tensor]
) -> tuple[Group, ...]:
    """The groups by names; what was `seen` and is in no group, or is frozen by now, is not trained."""
    found = _places(optimizer)
    there = {id(p) for p in seen}
    fixed = len(optimizer.param_groups)
    place_of = {
        its_names[0]: found.get(id(p), fixed) if p.requires_grad else fixed
        for its_names, p in named
        if id(p) in there
    }
    patterns = _patterns(place_of)
    groups: list[Group] = []
    for place, own in enumerate([*_own_settings(optimizer), None]):
        params = tuple(pattern for pattern, where in patterns if where == place)
        if params:
            groups.append(Group(params=params, train=own is not None, settings=own or {}))
    return tuple(groups)


def _patterns(place_of: Mapping[str, int], prefix: str = "") -> list[tuple[str, int]]:
    """Names to places, shortened to ``module.*`` where a whole module goes to one place."""
    below: dict[str, dict[str, int]] = {}
    for name, place in place_of.items():
        head = name[len(prefix) :].partition(".")[0]
        below.setdefault(prefix + head, {})[name] = place
    found: list[tuple[str, int]] = []
    for head, members in below.items():
        if head in members:
            found.append((head, members[head]))
        elif len(set(members.values())) == 1:
            found.append((f"{head}.*", next(iter(members.values()))))
        else:
            found += _patterns(members, f"{head}.")
    return found
