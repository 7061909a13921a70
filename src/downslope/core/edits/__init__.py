"""Edits: remedies as things that can be applied, compared, saved and undone.

An edit says which of the three entities it touches: ``model``, ``objective`` or ``optimisation``. Every edit
gives a new Problem or Recipe; nothing is changed in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.core.edits.apart import BatchFirst, OverClasses, PermuteView
    from downslope.core.edits.augment import SetAugment
    from downslope.core.edits.calls import LetThrough, OneMode, ReplaceCall
    from downslope.core.edits.combined import Advice, Combined
    from downslope.core.edits.data import Shuffle
    from downslope.core.edits.dropout import LessDropout
    from downslope.core.edits.edit import Edit, Entity, ModuleFactory, several
    from downslope.core.edits.files import KINDS, from_dict, load
    from downslope.core.edits.metric import SetMetric
    from downslope.core.edits.missing import FillInputs, LeaveOut
    from downslope.core.edits.modules import ReplaceModule, SetArgument, WrapModel
    from downslope.core.edits.objective import SetObjective
    from downslope.core.edits.recipe import SetRecipe
    from downslope.core.edits.scale import StandardiseInputs, StandardiseTargets
    from downslope.core.edits.weights import Reinitialise, Unfreeze
    from downslope.core.edits.whiten import WhitenInputs
    from downslope.core.edits.widen import Widen, widening
    from downslope.core.edits.written import code_of, save

__all__ = [
    "KINDS", "Advice", "BatchFirst", "Combined", "Edit", "Entity", "FillInputs", "LeaveOut",
    "LessDropout", "LetThrough", "ModuleFactory", "OneMode", "OverClasses", "PermuteView", "Reinitialise",
    "ReplaceCall", "ReplaceModule", "SetArgument", "SetAugment",
    "SetMetric", "SetObjective", "SetRecipe", "Shuffle",
    "StandardiseInputs", "StandardiseTargets", "Unfreeze", "WhitenInputs", "Widen", "WrapModel",
    "code_of", "from_dict", "load", "save", "several", "widening",
]  # fmt: skip

lazily(
    __name__,
    {
        "apart": "BatchFirst OverClasses PermuteView",
        "augment": "SetAugment",
        "calls": "LetThrough OneMode ReplaceCall",
        "combined": "Advice Combined",
        "data": "Shuffle",
        "dropout": "LessDropout",
        "edit": "Edit Entity ModuleFactory several",
        "files": "KINDS from_dict load",
        "metric": "SetMetric",
        "missing": "FillInputs LeaveOut",
        "modules": "ReplaceModule SetArgument WrapModel",
        "objective": "SetObjective",
        "recipe": "SetRecipe",
        "scale": "StandardiseInputs StandardiseTargets",
        "weights": "Reinitialise Unfreeze",
        "whiten": "WhitenInputs",
        "widen": "Widen widening",
        "written": "code_of save",
    },
)
