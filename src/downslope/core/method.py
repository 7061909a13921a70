"""The optimizer of a recipe: a name, a class, or code; what its settings are, and what a factory settles."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from downslope.core import names
from downslope.core.errors import RecipeError

__all__ = ["WHOLE", "Factory", "Lost", "is_named", "known_of", "optimizer_defaults", "optimizer_of", "whom"]

Factory = Callable[..., Any]

WHOLE = ("nonfinite", "backend")
"""What our classes take for all parameters together, and no group has: what to do with gradients that are not
finite, and what makes the steps."""


class Lost:
    """Stands for an optimizer or an init that was code when its run was kept; no file holds it."""

    def __init__(self, name: str, key: str = "optimizer") -> None:
        self.__name__, self.key = name, key

    def __call__(self, params: Any) -> Any:
        """Refused.

        Raises:
            RecipeError: always.
        """
        del params
        raise RecipeError(
            f"the {self.key} of this run was code ({self.__name__}), which no file holds: "
            f"say it again, recipe.edit({self.key}=...)"
        )


def is_named(optimizer: Any) -> bool:
    """Whether a recipe's optimizer is a name or a class, and no factory."""
    if not isinstance(optimizer, str):
        return False
    return ":" not in optimizer or "(" in optimizer or isinstance(names.load(optimizer), type)


def optimizer_of(given: Any) -> tuple[Any, dict[str, Any]]:
    """The optimizer as a name where it has one, and the keys that a factory settles.

    Raises:
        RecipeError: neither a name nor a factory, or a factory that fails.
    """
    if isinstance(given, str) and (":" not in given or "(" in given):
        return names.canonical("optimizer", given), {}
    if isinstance(given, Lost):
        return given, {}
    factory = names.load(given) if isinstance(given, str) else given
    made = isinstance(factory, type)
    if hasattr(factory, "param_groups") and not made:
        kind = type(factory).__name__
        raise RecipeError(
            f"optimizer: a made {kind} holds the parameters of one model, and every run makes its own; give "
            f"a name, a class, or a factory: optimizer=lambda params: torch.optim.{kind}(params, lr=0.1)"
        )
    if not callable(factory):
        raise RecipeError(f"optimizer={given!r}: must be a name or a factory params -> torch.optim.Optimizer")
    known: dict[str, Any] = {}
    if not (made and isinstance(given, str)):  # a place stays: with other settings ours may differ
        found = names.load("downslope.optim.recognise:recognise")(factory)
        given, known = given if found.name is None else found.name, known_of(found)
    if made:
        known.pop("decay", None)  # nobody wrote it, as in a factory: it is the recipe that gives the groups
        if "weight_decay" in _class_defaults(factory) and not _decays_by_group(factory):
            known["decay"] = "all"
    return given, known


def _decays_by_group(made: type) -> bool:
    """Whether a class lets parameters have a weight decay of their own, as all of torch's and ours do."""
    return names.load("downslope.optim.recognise:decays_by_group")(made)


def whom(optimizer: Any, decay: str, grouped: bool) -> str:
    """Whom the weight decay of a recipe takes, in words behind it; nothing where its groups or code tell."""
    if grouped or not (isinstance(optimizer, type) or is_named(optimizer)):
        return ""
    return " (not on biases and norms)" if decay == "weights" else " (biases and norms too)"


def known_of(found: Any) -> dict[str, Any]:
    """The keys of a recipe that a `downslope.optim.recognise.Recognised` settles."""
    known = dict(found.settings) | {"lr": found.lr, "groups": found.groups or None, "decay": "all"}
    if any(not group.train for group in found.groups or ()):
        known["frozen"] = "train"  # as the loop has it that the factory was written for
    return {key: value for key, value in known.items() if value is not None}


def optimizer_defaults(optimizer: Any) -> dict[str, Any]:
    """Settings that an optimizer's class takes, with their defaults; none for a factory.

    Args:
        optimizer: As a recipe holds it: a name, ``"module:attribute"``, or a factory.
    """
    target = names.resolve("optimizer", optimizer) if isinstance(optimizer, str) else optimizer
    return dict(_class_defaults(target)) if isinstance(target, type) else {}


def key_of(optimizer: Any, setting: str) -> str:
    """What a `setting` of a wrapper's own is called in a recipe: "la_steps" for k of ``lookahead(adam)``."""
    target = names.resolve("optimizer", optimizer) if isinstance(optimizer, str) else optimizer
    return getattr(target, "called", {}).get(setting, setting)


@functools.lru_cache(maxsize=64)
def _class_defaults(target: type) -> dict[str, Any]:
    taken = inspect.signature(target).parameters
    skipped = {"params", "backend", "self"}
    options: dict[str, Any] = getattr(target, "options", {})
    whole: dict[str, Any] = dict.fromkeys(WHOLE) if options else {}
    return (
        options
        | whole
        | {
            key: None if each.default is each.empty else each.default
            for key, each in taken.items()
            if key not in skipped and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        }
    )
