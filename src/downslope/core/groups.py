"""Groups of parameters with settings of their own, as data: which parameters, and what differs for them.

    [[groups]]
    params = ["backbone.*"]     # names or patterns, `*` is any text
    lr = 1e-4
    [[groups]]
    ndim = [0, 1]               # biases and norms
    weight_decay = 0.0

A parameter belongs to the first group that it fits; what fits none takes the recipe's own settings.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from downslope.core import names
from downslope.core.errors import RecipeError

if TYPE_CHECKING:
    from downslope.core.adapted import Named

__all__ = ["RATES", "Group", "assigned", "read", "scaled"]

RATES = ("lr", "weight_decay")
"""Settings of which the groups keep the ratio when the recipe's own is edited."""

_WHICH = ("params", "ndim", "train")


@dataclass(frozen=True)
class Group:
    """Which parameters, and the settings in which they differ from the recipe.

    Args:
        params: Qualified names, or patterns of them in which ``*`` is any text; empty takes any name.
        ndim: Numbers of dimensions; empty takes any.
        train: False holds them fixed.
        settings: The optimizer's settings, ``lr`` and ``weight_decay`` among them.
    """

    params: tuple[str, ...] = ()
    ndim: tuple[int, ...] = ()
    train: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def takes(self, its_names: Sequence[str], ndim: int) -> bool:
        """Whether a parameter of these names and dimensions fits."""
        if self.ndim and ndim not in self.ndim:
            return False
        return not self.params or any(_fits(each, name) for each in self.params for name in its_names)

    def to_dict(self) -> dict[str, Any]:
        """The table that `read` reads."""
        table: dict[str, Any] = {}
        if self.params:
            table["params"] = list(self.params)
        if self.ndim:
            table["ndim"] = list(self.ndim)
        if not self.train:
            table["train"] = False
        listed = {k: list(cast("Any", v)) if isinstance(v, tuple) else v for k, v in self.settings.items()}
        return table | listed

    def __str__(self) -> str:
        shown = [repr(each) for each in self.params[:3]] + ["..."] * (len(self.params) > 3)
        which = " ".join(filter(None, [", ".join(shown), f"ndim {list(self.ndim)}" if self.ndim else ""]))
        return f"{which}: {', '.join(f'{k} {v}' for k, v in self.settings.items()) or '-'}"


def read(rows: Any, allowed: Sequence[str], check: Callable[[str, Any], Any]) -> tuple[Group, ...]:
    """The groups that tables (or `Group` objects) say.

    Args:
        rows: One table a group.
        allowed: Settings that the optimizer has.
        check: From name and value of a setting to its value, inside its domain.

    Raises:
        RecipeError: no list of tables, a misspelt key, a group that does not say which parameters.
    """
    listed = list(cast("Sequence[Any]", rows)) if isinstance(rows, (list, tuple)) else None
    if listed is None or not all(isinstance(row, (Mapping, Group)) for row in listed):
        raise RecipeError(
            f"groups={rows!r}: must be a list of tables, such as [{{'params': 'backbone.*', 'lr': 1e-4}}]"
        )
    return tuple(_read(f"group {i + 1}", row, allowed, check) for i, row in enumerate(listed))


def _read(where: str, row: Any, allowed: Sequence[str], check: Callable[[str, Any], Any]) -> Group:
    table: dict[str, Any] = row.to_dict() if isinstance(row, Group) else dict(row)
    for key in table:
        if key not in _WHICH and key not in allowed:
            raise RecipeError(
                f"{where}: {key!r} is no key of a group{names.did_you_mean(key, [*_WHICH, *allowed])}"
            )
    params = _several(table.pop("params", ()), str)
    ndim = _several(table.pop("ndim", ()), int)
    train = table.pop("train", True)
    if params is None or ndim is None or not isinstance(train, bool):
        raise RecipeError(
            f"{where}: params takes names or patterns, ndim numbers of dimensions, train True or False"
        )
    if not params and not ndim:
        raise RecipeError(
            f"{where} does not say which parameters: give params (names, such as 'backbone.*') or ndim"
        )
    if not train and table:
        raise RecipeError(f"{where} has train=False and {', '.join(table)}: what is fixed has no settings")
    return Group(params, ndim, train, {key: check(key, value) for key, value in table.items()})


def _several(given: Any, kind: type[Any]) -> tuple[Any, ...] | None:
    """One value of `kind` or a list of them, as a tuple; None where it is something else."""
    listed: list[Any] = [given] if isinstance(given, kind) else list(given) if _is_list(given) else [None]
    right = all(isinstance(each, kind) and not isinstance(each, bool) for each in listed)
    return tuple(listed) if right else None


def _is_list(given: Any) -> bool:
    return isinstance(given, (list, tuple))


@functools.lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or ("*" in pattern and _pattern(pattern).fullmatch(name) is not None)


def assigned(groups: Sequence[Group], named: Sequence[Named]) -> list[int | None]:
    """For every parameter the index of the first group that it fits, or None.

    Args:
        groups: In the order in which they are asked.
        named: What `downslope.core.adapted.named_parameters` gives for the model.

    Raises:
        RecipeError: a name or pattern that no parameter has, or a group whose parameters earlier ones took.
    """
    known = [name for its_names, _ in named for name in its_names]
    for i, group in enumerate(groups):
        for pattern in group.params:
            if not any(_fits(pattern, name) for name in known):
                raise RecipeError(
                    f"group {i + 1}: the model has no parameter {pattern!r}"
                    f"{_nearest(pattern, known)}; its groups were made for another model: edit groups"
                )
    found = [
        next((i for i, group in enumerate(groups) if group.takes(its_names, p.dim())), None)
        for its_names, p in named
    ]
    for i, group in enumerate(groups):
        if i not in found and any(group.takes(its_names, p.dim()) for its_names, p in named):
            raise RecipeError(
                f"group {i + 1} ({group}): earlier groups have all of its parameters; put it before them"
            )
    return found


def _nearest(pattern: str, known: Sequence[str]) -> str:
    close = names.nearest(pattern, known, 1, 0.5)
    return f" (nearest: {close[0]!r})" if close else ""


def scaled(groups: Sequence[Group], key: str, old: float | None, new: float | None) -> tuple[Group, ...]:
    """The groups with their own `key` in the ratio to `new` that they had to `old`.

    Where `new` is 0, there is no ratio: what had its own value, other than 0, takes the recipe's from now on.

    Raises:
        RecipeError: `old` is 0 and groups have their own, so that there is no ratio to keep.
    """
    own = [group.settings[key] for group in groups if group.settings.get(key)]
    if old == new or old is None or new is None or not own:
        return tuple(groups)
    if old == 0:
        raise RecipeError(
            f"{key}={new:g}: the recipe's own is 0 and groups have theirs "
            f"({', '.join(f'{x:g}' for x in own)}), so there is no ratio to keep; edit groups"
        )
    return tuple(_scaled(group, key, old, new) for group in groups)


def _scaled(group: Group, key: str, old: float, new: float) -> Group:
    own = group.settings.get(key)
    if not own:
        return group
    rest = {name: value for name, value in group.settings.items() if name != key}
    return replace(group, settings=rest if new == 0 else {**group.settings, key: own * (new / old)})
