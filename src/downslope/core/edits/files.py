"""Edits out of files and tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from downslope.core import names
from downslope.core.edits.apart import BatchFirst, OverClasses, PermuteView
from downslope.core.edits.augment import SetAugment
from downslope.core.edits.calls import LetThrough, OneMode, ReplaceCall
from downslope.core.edits.combined import Advice, Combined
from downslope.core.edits.data import Shuffle
from downslope.core.edits.dropout import LessDropout
from downslope.core.edits.edit import Edit
from downslope.core.edits.metric import SetMetric
from downslope.core.edits.missing import FillInputs, LeaveOut
from downslope.core.edits.modules import ReplaceModule, SetArgument, WrapModel
from downslope.core.edits.objective import SetObjective
from downslope.core.edits.recipe import SetRecipe
from downslope.core.edits.scale import StandardiseInputs, StandardiseTargets
from downslope.core.edits.weights import Reinitialise, Unfreeze
from downslope.core.edits.whiten import WhitenInputs
from downslope.core.edits.widen import Widen
from downslope.core.errors import EditError, RecipeError
from downslope.core.recipe import Recipe
from downslope.core.recipe_file import read_table

KINDS: dict[str, type[Edit]] = {
    each.kind: each
    for each in (SetRecipe, StandardiseInputs, WhitenInputs, StandardiseTargets, SetObjective, SetMetric,
                 SetAugment,
                 ReplaceModule, WrapModel, SetArgument, Widen, LessDropout, Reinitialise, Unfreeze, Shuffle,
                 FillInputs, LeaveOut, ReplaceCall, LetThrough, OneMode, BatchFirst, PermuteView, OverClasses,
                 Combined, Advice)
}  # fmt: skip


def from_dict(saved: Mapping[str, Any]) -> Edit:
    """The edit that `Edit.to_dict` saved.

    Raises:
        EditError: an unknown kind or field.
    """
    kind = saved.get("kind")
    skipped = {"kind"} if kind == "advice" else {"kind", "text"}  # of the others "text" is how they read
    values = {key: value for key, value in saved.items() if key not in skipped}
    if kind not in KINDS:
        raise EditError(f"edit kind {kind!r} is not known{names.did_you_mean(str(kind), KINDS)}")
    if kind == "combined":
        return Combined(tuple(from_dict(each) for each in values.get("edits", ())))
    values |= {"modules": tuple(values["modules"])} if "modules" in values else {}
    try:
        return KINDS[kind](**values)
    except TypeError as error:
        raise EditError(f"edit {kind!r}: {error}") from None


def load(path: str | Path) -> tuple[Recipe, tuple[Edit, ...]]:
    """The recipe, and the edits of the problem, in a file that `save` or a person wrote.

    Raises:
        RecipeError: no such file, not TOML, a misspelt key.
        EditError: an unknown edit.
    """
    table = read_table(path)
    for key in ("optimizer", "init"):
        if (code := table.get(f"{key}_code")) is not None:
            raise RecipeError(
                f"{path}: the {key} of that run was code ({code}), which no file holds: "
                f"write {key} = ... there, or train from Python"
            )
    rows = cast("list[Mapping[str, Any]]", table.pop("edit", []))
    return Recipe.from_dict(table), tuple(from_dict(row) for row in rows)
