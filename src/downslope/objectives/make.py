"""Objectives from names and settings, and other settings for one that is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from torch import nn

from downslope.core import names, table
from downslope.core.errors import ObjectiveError
from downslope.core.spelling import Spelt, parse
from downslope.core.stated import reference, without_module
from downslope.objectives.composite import Composite
from downslope.objectives.configured import Configured, settings_of
from downslope.objectives.penalised import Penalised, is_strength, penalised
from downslope.objectives.penalties import Penalty


def make(objective: str | Callable[..., Any], **settings: Any) -> Any:
    """An objective with settings: ``make("cross_entropy", label_smoothing=0.1, l2=1e-3)``.

    Its text, ``cross_entropy(label_smoothing=0.1)``, is what the folder of a run holds, what ``objective=``
    takes, and what ``--set objective.label_smoothing=0.2`` changes.

    Args:
        objective: a name of the table, or a function ``(output, target, *, ...) -> scalar`` of one's own.
        **settings: its keyword arguments; ``l1``, ``l2`` and ``elastic`` add penalties.

    Returns:
        The objective itself without settings, else one that has its attributes.

    Raises:
        UnknownNameError: no such objective.
        ObjectiveError: a setting that it does not have, or outside its domain.

    Example:
        >>> from downslope.objectives import make
        >>> make("huber", delta=2)
        huber(delta=2.0)
    """
    found: Any = names.resolve("objective", objective) if isinstance(objective, str) else objective
    return edited(found, settings)


def edited(objective: Any, changes: Mapping[str, Any]) -> Any:
    """`objective` with other settings; what the keys ``objective.<setting>`` of a problem change.

    Raises:
        ObjectiveError: a setting that it does not have, or code whose settings cannot be changed.
    """
    if not changes:
        return objective
    strengths = {key: value for key, value in changes.items() if is_strength(key)}
    others = {key: value for key, value in changes.items() if key not in strengths}
    if others:
        objective = _with(objective, others)
    return penalised(objective, **strengths) if strengths else objective


def _with(objective: Any, settings: Mapping[str, Any]) -> Any:
    if isinstance(objective, Penalised):
        return Penalised(_with(objective.objective, settings), objective.terms)
    if isinstance(objective, Composite):
        return objective.edited(settings, _with)
    if isinstance(objective, Configured):
        return Configured(objective.function, {**objective.settings, **settings})
    if objective is None or isinstance(objective, nn.Module) or not settings_of(objective):
        key = next(iter(settings))
        known = ["l1", "l2", "elastic"]
        if not names.nearest(key, known):
            told = without_module(reference(objective) or "output.loss")
            raise ObjectiveError(
                f"objective.{key}: {told} has no settings that could be changed; name an objective, such as "
                "objective='cross_entropy'"
            )
        raise ObjectiveError(f"objective.{key}: no such setting{names.did_you_mean(key, known)}")
    return Configured(objective, settings)


def from_text(text: str) -> Any:
    """The objective that `text` spells.

    Raises:
        InputError: text that is no name with settings, or settings that it does not have.
    """
    found = _made(parse(text))
    if isinstance(found, Penalty):
        raise ObjectiveError(
            f"{text} is a penalty, which goes beside an objective: penalised(cross_entropy, {text})"
        )
    return found


def _made(spelt: Spelt) -> Any:
    settings = {key: _value(value) for key, value in spelt.settings.items()}
    args = [_value(value) for value in spelt.args]
    if (form := table.FORMS["objective"].get(spelt.name)) is not None:
        try:
            return names.load(form)(*args, **settings)
        except TypeError as error:
            raise ObjectiveError(f"{spelt}: {error}") from None
    names.resolve("objective", spelt.name)
    if args:
        raise ObjectiveError(f"{spelt}: settings go by name, such as huber(delta=2.0)")
    return make(spelt.name, **settings)


def _value(value: Any) -> Any:
    if isinstance(value, Spelt):
        return _made(value)
    if isinstance(value, Mapping):
        return {key: _value(each) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, tuple):
        return tuple(_value(each) for each in cast("tuple[Any, ...]", value))
    return value
