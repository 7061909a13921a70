"""Edits: remedies as things that can be applied, compared, saved and undone.

An edit says which of the three entities it touches: ``model``, ``objective`` or ``optimisation``. Every edit
gives a new Problem or Recipe; nothing is changed in place.
"""

from __future__ import annotations

from downslope.core.edits.apart import BatchFirst, OverClasses, PermuteView
from downslope.core.edits.augment import SetAugment
from downslope.core.edits.calls import LetThrough, OneMode, ReplaceCall
from downslope.core.edits.combined import Advice, Combined
from downslope.core.edits.data import Shuffle
from downslope.core.edits.dropout import LessDropout
from downslope.core.edits.edit import Edit, Entity, ModuleFactory, several
from downslope.core.edits.files import KINDS, code_of, from_dict, load, save
from downslope.core.edits.metric import SetMetric
from downslope.core.edits.missing import FillInputs, LeaveOut
from downslope.core.edits.modules import ReplaceModule, SetArgument, WrapModel
from downslope.core.edits.objective import SetObjective
from downslope.core.edits.recipe import SetRecipe
from downslope.core.edits.scale import StandardiseInputs, StandardiseTargets
from downslope.core.edits.weights import Reinitialise, Unfreeze
from downslope.core.edits.whiten import WhitenInputs
from downslope.core.edits.widen import Widen, widening

__all__ = [
    "KINDS", "Advice", "BatchFirst", "Combined", "Edit", "Entity", "FillInputs", "LeaveOut",
    "LessDropout", "LetThrough", "ModuleFactory", "OneMode", "OverClasses", "PermuteView", "Reinitialise",
    "ReplaceCall", "ReplaceModule", "SetArgument", "SetAugment",
    "SetMetric", "SetObjective", "SetRecipe", "Shuffle",
    "StandardiseInputs", "StandardiseTargets", "Unfreeze", "WhitenInputs", "Widen", "WrapModel",
    "code_of", "from_dict", "load", "save", "several", "widening",
]  # fmt: skip
