"""What a chain refuses: links whose names meet, in an order that is none, or that are no rules."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from downslope.core.errors import RecipeError

if TYPE_CHECKING:
    from downslope.optim.rule import AnyRule

__all__ = ["check_linked", "check_links", "check_written", "no_rule"]


def no_rule(given: object) -> RecipeError:
    """The error for what stands in a chain and is no rule."""
    if isinstance(given, type):
        what = f"{given.__name__} is a class"
        way = f"make the link: {given.__name__}(...)"
    elif isinstance(given, torch.optim.Optimizer):
        what = f"{type(given).__name__}(...) is an optimizer, which has its parameters"
        way = f"take its rules: {type(given).__name__}.compose(settings), or the links it is made of"
    else:
        what, way = f"{given!r} is no rule", "pass links such as ScaleByAdam() and ScaleByLr(lr=0.001)"
    return RecipeError(f"chain takes rules, chains and routes, and {what}; {way}")


def check_linked(chains: Iterable[Sequence[AnyRule]]) -> None:
    """Refuses a chain without links, which would step by the gradient as it is.

    Raises:
        RecipeError: one of them has none.
    """
    if not all(chains):
        raise RecipeError(
            "a chain without links would step by the whole gradient: end it with ScaleByLr(lr=...); what "
            "shall not move is left out of params, or has lr=0"
        )


def check_links(links: Sequence[AnyRule]) -> None:
    """Refuses links that cannot be one chain.

    Raises:
        RecipeError: two links have a hyper-parameter or a state of one name, unless one of them only shares
            it, or share one with another value; a link behind one that must be the last.
    """
    for kind, names in (("hyper-parameter", _owners(links)), ("state", _holders(links))):
        for name, owners in names.items():
            if len(owners) > 1:
                raise RecipeError(_same_name(kind, name, owners))
    _check_shared(links)
    _check_ends(links)


def _same_name(kind: str, name: str, owners: Sequence[AnyRule]) -> str:
    told = [type(link).__name__ for link in owners]
    who = " and ".join(told) if len(set(told)) > 1 else f"{told[0]} and a second {told[0]}"
    what, where = ("field", "a parameter group") if kind == "hyper-parameter" else ("key", "the state")
    theirs = [type(link).__name__ for link in owners if not type(link).__module__.startswith("downslope.")]
    way = f"keep one, or write the other as a rule of your own with another {what} (guide, chapter 22)"
    if theirs:
        way = f"rename the {what} in {theirs[0]}"
    return (
        f"{who} both have a {kind} {name!r}: names in a chain must differ, they become entries of "
        f"{where}; {way}"
    )


def check_written(links: Sequence[AnyRule], p: Tensor) -> None:
    """Refuses a rule of the user's own whose methods do not return what they must, before its first step.

    Raises:
        RecipeError: `init` makes other states than `keys` names, `update` returns no step and state,
            or one of scope "element" looks at more than its element.
    """
    blank = torch.empty_like(p, device="meta") if p.layout == torch.strided else torch.empty(2, device="meta")
    for link in links:
        if type(link).__module__.startswith("downslope."):
            continue
        name, keys = type(link).__name__, link.keys_of(blank)
        state: Any = link.init(blank)
        if not isinstance(state, tuple) or len(cast("tuple[Any, ...]", state)) != len(keys):
            n = len(cast("tuple[Any, ...]", state)) if isinstance(state, tuple) else 1
            raise RecipeError(
                f"{name}.init makes {n} tensor{'s' * (n != 1)}, and its keys are {keys!r}: init returns a "
                "tuple, and keys names each of it as optimizer.state shall; () for none"
            )
        if keys and link.memory is tuple and type(link).remember.__module__ == "downslope.optim.rule":
            raise RecipeError(
                f"{name} has keys {keys!r} and no memory: name the NamedTuple of its state there"
            )
        if link.scope == "element" and not link.measures:
            _check_update(link, blank, cast("tuple[Tensor, ...]", state))


def _check_update(link: AnyRule, blank: Tensor, state: tuple[Tensor, ...]) -> None:
    name, k = type(link).__name__, _scalars(link)
    fitted = k.fit(blank)
    fitted.raw = blank
    try:
        made: Any = link.update(blank, state, blank, fitted)
    except (RuntimeError, TypeError) as error:
        raise RecipeError(
            f"{name} cannot be run: {str(error).partition(chr(10))[0]}; init takes its tensors from p "
            "(torch.zeros_like), update uses operators only: torch.where for `if`, and no item()"
        ) from error
    parts = cast("tuple[Any, ...]", made) if isinstance(made, tuple) else ()
    if len(parts) != 2 or not isinstance(parts[1], tuple) or len(cast("Any", parts[1])) != len(state):
        raise RecipeError(
            f"{name}.update must return (step, state), with a state of {len(state)} as init "
            "makes it: return g, () where there is none"
        )
    for what, new, old in zip(
        ("step", *link.keys_of(blank)),
        (parts[0], *cast("tuple[Any, ...]", parts[1])),
        (blank, *state),
        strict=True,
    ):
        if isinstance(new, Tensor) and new.shape != old.shape:
            raise RecipeError(
                f"{name}.update makes {what} of shape {tuple(new.shape)} where {tuple(old.shape)} is due: "
                "a step has the shape of g, a state that which init gave it"
            )
    if not any(isinstance(value, Tensor) and value.ndim for value in vars(k).values()):
        _check_element(link, k)


def _scalars(link: AnyRule) -> Any:
    name, k = type(link).__name__, cast("Any", link.advance(1, link.tally)[0])
    if not hasattr(k, "fit"):
        raise RecipeError(f"{name}.at returns {type(k).__name__}: return Scalars(name=value, ...)")
    for each, value in vars(k).items():
        if isinstance(value, float) and math.isnan(value):
            raise RecipeError(f"{name}.at makes {each} NaN at the first step: correct its formula")
    return k


def _check_element(link: AnyRule, k: Any) -> None:
    """Refuses a rule that looks at more than the element: large tensors are stepped in pieces."""
    p = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], dtype=torch.float64)
    g = torch.tensor([[2.0, 1.0, -1.0], [3.0, -5.0, 7.0]], dtype=torch.float64)
    state = link.init(p)
    if any(x.shape != p.shape for x in state):
        return  # never cut

    def made(part: slice | None) -> list[Tensor]:
        cut = [each if part is None else each.reshape(-1)[part] for each in (p, g, *state)]
        x, y, *kept = [each.clone() for each in cut]
        given = k.fit(x)
        given.raw = y
        step, after = link.update(y, link.remember(kept), x, given)
        return [each.reshape(-1) for each in (step, *after)]

    whole, again = made(None), made(None)
    if not all(map(torch.equal, whole, again)):
        return  # it draws by chance
    cut = map(torch.cat, zip(made(slice(0, 2)), made(slice(2, 6)), strict=True))
    if not all(torch.allclose(x, y, rtol=1e-9, equal_nan=True) for x, y in zip(whole, cut, strict=True)):
        raise RecipeError(
            f"{type(link).__name__}.update of scope 'element' makes another step of a tensor in pieces than "
            "of the whole: it has a sum, mean or other look at all elements or the shape; form sums by "
            "`measures` and `settle` with scope 'tensor' or 'global', or say scope 'matrix'"
        )


def _check_ends(links: Sequence[AnyRule]) -> None:
    for former, link in itertools.pairwise(links):
        if former.ends and link.ends < 2:
            raise RecipeError(
                f"{type(link).__name__} stands behind {type(former).__name__}, which holds weights of its "
                f"own and must see the whole step: put {type(former).__name__} last in the chain"
            )


def _check_shared(links: Sequence[AnyRule]) -> None:
    values = {
        name: value for link in links for name, value in link.fields().items() if name not in link.shares
    }
    for link in links:
        for name in link.shares:
            value = link.fields()[name]
            if values.setdefault(name, value) != value:
                raise RecipeError(
                    f"{type(link).__name__} has {name}={value!r}, the chain {values[name]!r}: it is one "
                    "hyper-parameter; give both the same"
                )


def _owners(links: Sequence[AnyRule]) -> dict[str, list[AnyRule]]:
    owners: dict[str, list[AnyRule]] = {}
    for link in links:
        for name in [name for name in link.fields() if name not in link.shares]:
            owners.setdefault(name, []).append(link)
    return owners


def _holders(links: Sequence[AnyRule]) -> dict[str, list[AnyRule]]:
    holders: dict[str, list[AnyRule]] = {}
    for link in links:
        for name in (*link.keys, *link.tally):
            holders.setdefault(name, []).append(link)
    return holders
