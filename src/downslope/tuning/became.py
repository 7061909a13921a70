"""A member that becomes another while it trains: weights and optimizer's state, with other settings."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from downslope.core.errors import InputError
from downslope.core.recipe import Recipe, optimizer_defaults
from downslope.training.optimizer import build_optimizer
from downslope.training.population.members import Member
from downslope.training.rates import Rates
from downslope.training.shown import Shown

CHANGING = ("lr", "weight_decay", "clip_norm", "clip_value")
"""Keys of a recipe that may change while it trains, besides the settings of its optimizer."""


def check_changing(recipe: Recipe, keys: Iterable[str]) -> None:
    """Refuse hyper-parameters that cannot change while a member trains.

    Raises:
        InputError: naming the first, and what can change.
    """
    own = [key for key in optimizer_defaults(recipe.optimizer) if key not in CHANGING]
    for key in keys:
        if key.split(".")[0] not in (*CHANGING, *own):
            raise InputError(
                f"{key!r} cannot change while a member trains, and population-based training changes what it "
                f"searches: {', '.join((*CHANGING, *own))} can; search the others by trials"
            )
    if recipe.average is not None:
        raise InputError(
            f"average={recipe.average!r} holds weights of steps before a member became another: population-"
            "based training takes none"
        )


def take_over(own: Member, other: Member, recipe: Recipe, values: Mapping[str, Any]) -> None:
    """Let `own` go on from where `other` stands, which may be itself, as `recipe` says from here on.

    Its best is the best from here on: what `other` had before is of `other`, and would stand there twice.

    Args:
        own: Paused between two epochs.
        other: Of the same shape, after as many steps.
        recipe: With the new settings.
        values: What changes, as the run tells it.

    Raises:
        InputError: the new settings give the optimizer other groups of parameters.
    """
    if own.settle is not None:
        own.settle(own)
    if other is not own:
        if other.settle is not None:
            other.settle(other)
        own.state.model.load_state_dict(other.state.model.state_dict())
    own.best, own.watchman.best, own.watchman.waited = None, None, 0
    own.watchman.best_loss = math.nan
    optimizer, saved = own.state.optimizer, copy.deepcopy(other.state.optimizer.state_dict())
    groups = _groups(recipe, own, saved["param_groups"])
    optimizer.load_state_dict({**saved, "param_groups": groups})
    if isinstance(own.average, Shown):
        own.average.forget()
    own.state.recipe = recipe
    own.rates, former = Rates(recipe, optimizer, own.total), other.rates
    own.rates.follow(former)
    told = cast("list[dict[str, Any]]", own.state.run.facts.setdefault("became", []))
    told.append({"step": own.state.step, "member": other.index, **values})
    own.recorder.fact("became", told)


def _groups(recipe: Recipe, member: Member, former: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The optimizer's groups as `recipe` has them, on the parameters of `former`."""
    made = build_optimizer(recipe, member.state.model, member.state.depths).state_dict()["param_groups"]
    if [len(group["params"]) for group in made] != [len(group["params"]) for group in former]:
        raise InputError(
            f"weight_decay={recipe.weight_decay:g} while a member trains gives its parameters other groups: "
            "search it above 0, such as ds.log(1e-7, 1e-1)"
        )
    return [{**old, **new, "params": old["params"]} for old, new in zip(former, made, strict=True)]
