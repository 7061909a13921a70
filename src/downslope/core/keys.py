"""The keys of a recipe as they are given: names made canonical, factories recognised, settings gathered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from downslope.core import names, rates, scheduled, starts
from downslope.core.errors import RecipeError
from downslope.core.groups import RATES, read
from downslope.core.method import WHOLE, is_named, key_of, optimizer_defaults, optimizer_of

__all__ = ["normalised"]

_DEFAULT_EPOCHS = 20

DOMAINS = {
    "lr": "a number in [0, inf)",
    "batch_size": "an integer in [1, inf), or 'full'",
    "accumulate": "an integer in [1, inf): parts of each batch",
    "epochs": "an integer in [1, inf)",
    "steps": "an integer in [1, inf)",
    "warmup": "an integer in [0, inf): steps",
    "weight_decay": "a number in [0, inf)",
    "layer_decay": "a number in (0, 1]: the rate from one depth to the next below; leave it out for one rate",
    "unfreeze": "an integer in [1, inf): epochs; leave it out to train all from the start",
    "average": "'ema', 'polyak' or 'swa'; leave it out to keep the last weights",
    "average_from": "a number in [0, 1): the share of the run after which the average begins",
    "average_every": "an integer in [1, inf): steps",
    "average_decay": "a number in [0, 1)",
    "clip_norm": "a number in (0, inf); leave it out to clip nothing",
    "clip_value": "a number in (0, inf); leave it out to clip nothing",
    "patience": "an integer in [1, inf): epochs; leave it out never to stop early",
    "seed": "an integer in [0, 2**63)",
}
"""What the numbers of a recipe may be, in the words of its error messages."""


def normalised(given: Mapping[str, Any], fields: Sequence[str]) -> tuple[dict[str, Any], frozenset[str]]:
    """The fields' values, settings gathered under ``settings``; and the keys that were said.

    Args:
        given: Key to value; None counts as not given.
        fields: What a recipe has besides settings.

    Raises:
        RecipeError: a key that no recipe has, or a value outside its domain.
    """
    own = given.get("settings") or {}
    if not isinstance(own, Mapping):
        raise RecipeError(f"settings={own!r}: must be a table of settings: {{'momentum': 0.9}}")
    flat = starts.gathered({**cast("Mapping[str, Any]", own), **given})
    values = {k: _number(v) for k, v in flat.items() if v is not None and k != "settings"}
    settings: dict[str, Any] = {}
    values["optimizer"], known = optimizer_of(values.get("optimizer", "adam"))
    values = known | values
    said = frozenset(values if "optimizer" in given else values.keys() - {"optimizer"})
    defaults = optimizer_defaults(values["optimizer"])
    allowed = defaults.keys() - set(fields)
    for key in [key for key in values if key not in fields]:
        if key not in allowed:
            raise RecipeError(
                f"{key!r} is no key of a recipe{_with(values)}{_meant(key, [*fields, *allowed], values)}"
            )
        settings[key] = values.pop(key)
    if isinstance(values["optimizer"], str) and ":" not in values["optimizer"]:
        settings = {key: _checked(values["optimizer"], key, value) for key, value in settings.items()}
    _group(values, defaults)
    if _below_one(values.get("batch_size")):
        raise RecipeError(f"batch_size={values['batch_size']!r}: must be {DOMAINS['batch_size']}")
    for key in DOMAINS.keys() & values.keys():
        if isinstance(values[key], bool):
            raise RecipeError(f"{key}={values[key]!r}: must be {DOMAINS[key]}")
    if "schedule" in values:
        values["schedule"] = rates.read(values["schedule"])
    if "schedules" in values:
        values["schedules"] = scheduled.read(values["schedules"], defaults, values["optimizer"])
    if "init" in values:
        values["init"] = starts.read(values["init"])
    values.setdefault("lr", defaults.get("lr"))
    values.setdefault("weight_decay", defaults.get("weight_decay", 0.0))
    _full_batch(values)
    _average(values)
    if "epochs" not in values and "steps" not in values:
        values["epochs"] = _DEFAULT_EPOCHS
    elif "epochs" in values and "steps" in values:
        raise RecipeError(
            f"epochs={values['epochs']} and steps={values['steps']}: give one of them, not both"
        )
    return values | {"settings": {key: _tupled(value) for key, value in settings.items()}}, said


def _group(values: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Groups read and checked; the mask of the decay is not laid over them."""
    if not values.get("groups", True):
        del values["groups"]
    if "groups" not in values:
        return
    optimizer = values["optimizer"]
    if not is_named(optimizer):
        raise RecipeError(
            f"groups with optimizer {optimizer!r}, which is code: that code makes its groups itself; "
            "give a name or a class"
        )
    own = ":" not in optimizer

    def check(key: str, value: Any) -> Any:
        return _checked(optimizer, key, _number(value)) if own or key in RATES else _tupled(value)

    values["groups"] = read(values["groups"], [key for key in defaults if key not in WHOLE], check)
    if values.setdefault("decay", "all") != "all":
        raise RecipeError(
            "decay='weights' with groups: say which parameters do not decay as a group, "
            "{'ndim': [0, 1], 'weight_decay': 0.0}"
        )


def _checked(optimizer: str, key: str, value: Any) -> Any:
    """A setting of an optimizer, inside its domain: the class's own, or that of all."""
    own = getattr(names.resolve("optimizer", optimizer), "domains", None)
    return names.load("downslope.optim.domains:check")(key, _tupled(value), own)


def _with(values: Mapping[str, Any]) -> str:
    """The optimizer whose settings were looked through, for a message."""
    return f" with {values['optimizer']}" if isinstance(values["optimizer"], str) else ""


def _meant(key: str, known: Iterable[str], values: Mapping[str, Any]) -> str:
    """The hint after an unknown key of `values`: what it is called here, or the nearest."""
    optimizer, known = values["optimizer"], list(known)
    own = key_of(optimizer, key)
    if own in known:
        return f"; write Recipe(optimizer={optimizer!r}, {own}={values[key]!r})"
    near = names.nearest(key, names.RECIPE_KEYS, 1, 0.8)  # "betas" is no misspelt "eta"
    if near and not names.nearest(key, known, 1):
        return f"; did you mean {names.RECIPE_KEYS[near[0]]!r}?"
    return names.did_you_mean(key, known)


def _full_batch(values: dict[str, Any]) -> None:
    """Full-batch methods take the whole training set at every step, those of large batches unless told."""
    target = names.resolve("optimizer", values["optimizer"]) if isinstance(values["optimizer"], str) else None
    needs = getattr(target, "batch", None)
    if needs == "large":
        values.setdefault("batch_size", "full")
    if needs == "full" and values.setdefault("batch_size", "full") != "full":
        raise RecipeError(
            f"batch_size={values['batch_size']!r}: {values['optimizer']} sees the whole training set at "
            "every step, so it must be 'full'; 'sgd' is the same method on mini-batches"
        )


def _average(values: Mapping[str, Any]) -> None:
    """Settings of an average belong to one."""
    kind = values.get("average")
    for key in ("average_from", "average_every", "average_decay"):
        fits = kind == "ema" if key == "average_decay" else kind is not None
        if key in values and not fits:
            one = "average='ema'" if key == "average_decay" else "average= (ema, polyak or swa)"
            raise RecipeError(f"{key}={values[key]!r} belongs to {one}, and average is {kind!r}")


def _below_one(value: Any) -> bool:
    return isinstance(value, (int, float)) and not (value >= 1 and float(value).is_integer())


def _number(value: Any) -> Any:
    """Scalars of numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _tupled(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value
