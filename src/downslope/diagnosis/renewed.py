"""An optimizer that a script makes anew for every step or epoch: its training goes on."""

from __future__ import annotations

import torch

from downslope.diagnosis.held_out import Place
from downslope.diagnosis.role import Role
from downslope.diagnosis.settings import parameters_of, settings_of

SHORT = 100
"""Steps of an optimizer from which it has trained by itself: what is made after it at the same place may be
the next fold, or the next rate, of a model that was put back to its start. Convention."""


def renewed(roles: dict[int, Role], optimizer: torch.optim.Optimizer, place: Place) -> bool:
    """Let `optimizer` go on with the role of one that was made at the same place, for the same parameters.

    Args:
        roles: Those that are followed, by the id of their optimizer; changed where there is such a one.
        optimizer: Made just now.
        place: Where in the script.

    Returns:
        Whether there was one.
    """
    held = {id(p) for p in parameters_of(optimizer)}
    for role in roles.values():
        old = role.track.optimizers[0]
        if role.place != place or type(old) is not type(optimizer) or role.track.step - role.since >= SHORT:
            continue
        if {id(p) for p in parameters_of(old)} == held and settings_of(old) == settings_of(optimizer):
            del roles[id(old)]
            roles[id(optimizer)] = role
            role.renew(optimizer)
            return True
    return False
