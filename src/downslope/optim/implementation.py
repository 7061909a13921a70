"""Arguments of torch's classes that choose among its implementations; here backends do that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from downslope.core.errors import RecipeError
from downslope.optim.domains import check_name

__all__ = ["IMPLEMENTATION", "check_implementation"]

IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")
"""They leave the mathematics alone."""

OF_ALL = ("backend", "nonfinite", "rounding", "rounding_seed", "schedules", "state_dtype")
"""What every constructor takes beside its hyper-parameters."""

_REFUSED = {
    "capturable": "steps are not captured in CUDA graphs; leave it False",
    "differentiable": "no gradient flows through a step; leave it False, or differentiate torch's optimizer",
}


def check_implementation(
    owner: str, given: Mapping[str, Any], taken: Sequence[str], settings: Sequence[str]
) -> None:
    """Lets pass, and forgets, the arguments `given` that only choose an implementation.

    Args:
        owner: the class that was called.
        given: arguments that are none of its `settings`.
        taken: those that torch's class of that name has.
        settings: its hyper-parameters, for the hint.

    Raises:
        RecipeError: another name (the nearest is named), a value that is not True, False or None, or a true
            ``capturable`` or ``differentiable``.
    """
    for name, value in given.items():
        if name not in (*settings, *taken):
            check_name(name, [*settings, *taken, *OF_ALL], owner)
        if value is not None and not isinstance(value, bool):
            raise RecipeError(f"{name}={value!r}: must be True, False or None; it chooses nothing here")
        if value and name in _REFUSED:
            raise RecipeError(f"{name}=True: not supported, {_REFUSED[name]}")
