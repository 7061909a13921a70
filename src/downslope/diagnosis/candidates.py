"""Which edits are worth a proof: the first remedies of each root cause, alone and together."""

from __future__ import annotations

from collections.abc import Iterable

from downslope.core.edits import (
    Combined,
    Edit,
    Reinitialise,
    ReplaceModule,
    SetArgument,
    SetObjective,
    SetRecipe,
    StandardiseInputs,
    StandardiseTargets,
    WrapModel,
)  # fmt: skip
from downslope.core.recipe import Recipe
from downslope.diagnosis.diagnosis import Diagnosis

MOST = 6
"""Candidates that are tried; the first are the likeliest."""

_SIZES: dict[type[Edit], int] = {
    SetRecipe: 1, SetObjective: 2, StandardiseInputs: 1, StandardiseTargets: 1, Reinitialise: 2,
    SetArgument: 2, ReplaceModule: 2, WrapModel: 3,
}  # fmt: skip


def candidates(diagnosis: Diagnosis) -> tuple[list[Edit], list[Edit]]:
    """Edits to prove, the likeliest first, and advice that no trial can prove.

    The first remedy of each root cause comes first, then all of them together where there are several, then
    the second remedies.
    """
    serious = [each for each in diagnosis.findings if each.severity != "info"]
    firsts = [each.remedies[0] for each in serious if each.remedies and each.remedies[0].provable]
    seconds = [edit for each in serious for edit in each.remedies[1:] if edit.provable and edit not in firsts]
    together: list[Edit] = [Combined(tuple(firsts))] if len(firsts) > 1 else []
    advice = [edit for each in serious for edit in each.remedies if not edit.provable]
    return unique([*firsts, *together, *seconds])[:MOST], unique(advice)


def unique(edits: Iterable[Edit]) -> list[Edit]:
    """Each edit once, by its words, in order."""
    return list({str(edit): edit for edit in edits}.values())


def size(edit: Edit) -> int:
    """How much an edit changes: a key of the recipe or a scale 1, code 2 or 3, several their sum."""
    if isinstance(edit, Combined):
        return sum(size(each) for each in edit.edits)
    return _SIZES.get(type(edit), 3)


def with_rate(edit: Edit, recipe: Recipe, factor: float) -> Edit | None:
    """`edit` with a learning rate `factor` times that which it leaves; None where there is none."""
    rate = recipe.lr
    rest: list[Edit] = []
    for each in edit.edits if isinstance(edit, Combined) else (edit,):
        if isinstance(each, SetRecipe) and set(each.changes) == {"lr"}:
            rate = float(each.changes["lr"])
        else:
            rest.append(each)
    if not rate:
        return None
    change = SetRecipe({"lr": float(f"{rate * factor:.2g}")}, {"lr": recipe.lr})
    return Combined((*rest, change)) if rest else change
