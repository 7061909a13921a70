"""Names of optimizers around another one: ``sam(adamw)``, ``lookahead(torch.optim:NAdam)``."""

from __future__ import annotations

from collections.abc import Callable

from downslope.core.errors import UnknownNameError

__all__ = ["WRAPPERS", "innermost", "wrapped"]

WRAPPERS = {"sam": "sgd", "lookahead": "adam"}
"""Which they are, and around which unless one is told."""


def innermost(name: str) -> str:
    """The optimizer inside: "adam" of ``lookahead(adam)``, and any other name itself."""
    return name.rpartition("(")[2].rstrip(")")


def wrapped(given: str, canonical: Callable[[str], str]) -> str | None:
    """The one spelling of such a name, ``"sam(sgd)"`` for ``" SAM"``; None for any other name.

    Args:
        given: As it was given.
        canonical: The one spelling of the name inside.

    Raises:
        UnknownNameError: there is no such wrapper, or no such base, or a bracket is not closed.
    """
    head, bracket, inside = given.strip().partition("(")
    spelt = head.strip().lower().replace("-", "_").replace(" ", "_")
    if spelt not in WRAPPERS:
        if bracket and inside.endswith(")"):
            known = ", ".join(sorted(WRAPPERS))
            raise UnknownNameError(f"optimizer {given!r}: {head!r} takes no other optimizer; {known} do")
        return None
    if bracket and not inside.endswith(")"):
        raise UnknownNameError(f"optimizer {given!r}: write it as {spelt}({inside.partition(')')[0]})")
    base = inside.removesuffix(")").strip() if bracket else WRAPPERS[spelt]
    return f"{spelt}({base if ':' in base and '(' not in base else canonical(base)})"
