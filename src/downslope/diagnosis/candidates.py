"""Which edits are worth a proof: the remedies of each root cause, alone and together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from downslope.core.edits import (
    Combined,
    Edit,
    FillInputs,
    LeaveOut,
    LetThrough,
    OneMode,
    Reinitialise,
    ReplaceCall,
    ReplaceModule,
    SetArgument,
    SetAugment,
    SetMetric,
    SetObjective,
    SetRecipe,
    StandardiseInputs,
    StandardiseTargets,
    WhitenInputs,
    Widen,
    WrapModel,
)  # fmt: skip
from downslope.core.recipe import Recipe
from downslope.diagnosis.diagnosis import Diagnosis

MOST = 6
"""Candidates that are tried; the first are the likeliest."""

_SIZES: dict[type[Edit], int] = {
    SetObjective: 2, SetMetric: 1,
    SetAugment: 1, StandardiseInputs: 1, StandardiseTargets: 1, WhitenInputs: 2,
    FillInputs: 1, LeaveOut: 1, Reinitialise: 2, SetArgument: 2, ReplaceModule: 2, Widen: 2,
    ReplaceCall: 2, LetThrough: 2, OneMode: 2, WrapModel: 3,
}  # fmt: skip


def candidates(diagnosis: Diagnosis) -> tuple[list[Edit], list[Edit]]:
    """Edits to prove, the likeliest first, and advice that no trial can prove.

    The first remedy of each root cause comes first, then all of them together where there are several, then
    the second remedies. None changes what the output means to who reads it.
    """
    output: Mapping[str, Any] = diagnosis.run.facts.get("output") or {}
    serious = [each for each in diagnosis.findings if each.severity != "info"]
    firsts = [each.remedies[0] for each in serious if each.remedies and each.remedies[0].provable]
    seconds = [edit for each in serious for edit in each.remedies[1:] if edit.provable and edit not in firsts]
    firsts, seconds = ([meant(edit, output) for edit in edits] for edits in (firsts, seconds))
    together: list[Edit] = [Combined(tuple(firsts))] if len(firsts) > 1 else []
    advice = [edit for each in serious for edit in each.remedies if not edit.provable]
    return unique([*firsts, *together, *seconds])[:MOST], unique(advice)


def meant(edit: Edit, output: Mapping[str, Any]) -> Edit:
    """`edit` such that the output goes on saying what it said: a probability stays a probability.

    Where a softmax or a sigmoid at the end would be taken away because the objective wants scores, an
    objective that wants probabilities is put in the place of that one instead; it is the same likelihood.

    Args:
        edit: A remedy.
        output: What is known of the model's output (``facts["output"]``).
    """
    if isinstance(edit, ReplaceCall):
        if edit.by != "identity" or edit.which != "last" or edit.name != output.get("activation"):
            return edit
        sigmoid: Edit = ReplaceCall(edit.name, "sigmoid", "last")
    elif isinstance(edit, ReplaceModule) and edit.factory == "torch.nn:Identity":
        if edit.name != output.get("module"):
            return edit
        sigmoid = ReplaceModule(edit.name, "torch.nn:Sigmoid")
    else:
        return edit
    activation, expects = output.get("activation"), output.get("expects")
    if activation == "softmax" and expects == "logits":
        return SetObjective("categorical")
    if activation == "sigmoid" and expects == "logit":
        return SetObjective("bernoulli")
    if activation == "softmax" and expects == "logit":
        return Combined((sigmoid, SetObjective("bernoulli")))
    return edit


def unique(edits: Iterable[Edit]) -> list[Edit]:
    """Each edit once, by its words, in order."""
    return list({str(edit): edit for edit in edits}.values())


def parts(edit: Edit) -> tuple[Edit, ...]:
    """The single edits of an edit."""
    if isinstance(edit, Combined):
        return tuple(part for each in edit.edits for part in parts(each))
    return (edit,)


def size(edit: Edit) -> int:
    """How much an edit changes: a key of the recipe or a scale 1, code 2 or 3, several their sum."""
    if isinstance(edit, SetRecipe):
        return len(edit.changes)
    return sum(map(size, edit.edits)) if isinstance(edit, Combined) else _SIZES.get(type(edit), 3)


def rate_alone(edit: Edit) -> bool:
    """Whether an edit changes the learning rate and nothing else."""
    return all(isinstance(each, SetRecipe) and set(each.changes) == {"lr"} for each in parts(edit))


def joined(first: Edit, then: Edit, recipe: Recipe) -> Edit:
    """`first` and `then` as one edit of the untouched problem and of `recipe`.

    A key of the recipe that `then` sets is no longer set by `first`, and what is said twice is said once.
    """
    later = parts(then)
    keys = {key for each in later if isinstance(each, SetRecipe) for key in each.changes}
    if keys & {"epochs", "steps"}:
        keys |= {"epochs", "steps"}
    found: list[Edit] = []
    for each in parts(first):
        if isinstance(each, SetRecipe):
            left = {key: value for key, value in each.changes.items() if key not in keys}
            found += [SetRecipe(left, each.before)] if left else []
        else:
            found.append(each)
    for each in later:
        if isinstance(each, SetRecipe):
            found.append(_from(each, recipe))
        elif str(each) not in {str(other) for other in found}:
            found.append(each)
    found = [kept for each in found if (kept := _without_idle(each, found, recipe)) is not None]
    return found[0] if len(found) == 1 else Combined(tuple(found))


def _from(edit: SetRecipe, recipe: Recipe) -> SetRecipe:
    """`edit`, whose values before are those of `recipe`."""
    known = {key: getattr(recipe, key, None) for key in edit.changes}
    told = {key: value for key, value in known.items() if value not in (None, edit.changes[key])}
    return SetRecipe(edit.changes, told)


def _without_idle(edit: Edit, beside: list[Edit], recipe: Recipe) -> Edit | None:
    """`edit` without a rate that is the recipe's own again; None where nothing is left."""
    if not isinstance(edit, SetRecipe) or edit.changes.get("lr") != recipe.lr:
        return edit
    if any(
        isinstance(each, SetRecipe) and {"batch_size", "optimizer"} & set(each.changes) for each in beside
    ):
        return edit  # it keeps the rate from being another
    left = {key: value for key, value in edit.changes.items() if key != "lr"}
    return SetRecipe(left, edit.before) if left else None
