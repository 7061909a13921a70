"""Names of optimizers around another one: ``sam(adamw)``, ``lookahead(torch.optim:NAdam)``."""

from __future__ import annotations

from collections.abc import Callable, Collection

from downslope.core.errors import UnknownNameError

__all__ = ["WRAPPERS", "innermost", "wrapped"]

WRAPPERS = {"sam": "sgd", "lookahead": "adam"}
"""Which they are, and around which unless one is told."""


def innermost(name: str) -> str:
    """The optimizer inside: "adam" of ``lookahead(adam)``, and any other name itself."""
    return name.rpartition("(")[2].rstrip(")")


def wrapped(given: str, canonical: Callable[[str], str], optimizers: Collection[str] = ()) -> str | None:
    """The one spelling of such a name, ``"sam(sgd)"`` for ``" SAM"``; None for any other name.

    Args:
        given: As it was given.
        canonical: The one spelling of the name inside.
        optimizers: All names, for the message.

    Raises:
        UnknownNameError: there is no such wrapper, or no such base, or a bracket is not closed.
    """
    head, bracket, inside = given.strip().partition("(")
    if "=" in inside or ("," in inside and ":" not in inside):
        words = [part.partition("(")[0].strip() for part in inside.rstrip(")").split(",")]
        bare = ", ".join(word for word in words if "=" not in word)
        name = f"{head}({bare})" if bare else head
        raise UnknownNameError(
            f"optimizer {given!r}: settings stand beside the name, Recipe(optimizer={name!r}, lr=0.1); in "
            "the name there is only another optimizer, as in 'lookahead(adam)'"
        )
    spelt = head.strip().lower().replace("-", "_").replace(" ", "_")
    if spelt not in WRAPPERS:
        if bracket and inside.endswith(")"):
            known = ", ".join(sorted(WRAPPERS))
            joined = f"{spelt}_{inside.removesuffix(')').strip().lower()}"
            meant = f"; write {joined!r}" if joined in optimizers else ""
            raise UnknownNameError(
                f"optimizer {given!r}: {head!r} takes no other optimizer; {known} do{meant}"
            )
        return None
    if bracket and not inside.endswith(")"):
        named = inside.partition(")")[0].strip() or WRAPPERS[spelt]
        raise UnknownNameError(f"optimizer {given!r}: write it as {spelt}({named})")
    if bracket and not inside.removesuffix(")").strip():
        raise UnknownNameError(f"optimizer {given!r}: name what is in it, as in '{spelt}({WRAPPERS[spelt]})'")
    base = inside.removesuffix(")").strip() if bracket else WRAPPERS[spelt]
    return f"{spelt}({base if ':' in base and '(' not in base else canonical(base)})"
