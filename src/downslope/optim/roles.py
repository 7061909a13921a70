"""What a parameter is in its model: embedding, head, norm, bias, or hidden."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from torch import Tensor, nn

from downslope.core.errors import RecipeError
from downslope.core.groups import Group
from downslope.core.names import did_you_mean, nearest

__all__ = [
    "ROLES",
    "Role",
    "check_found",
    "check_roles",
    "known_as",
    "head_of_sequential",
    "role_of",
    "roles",
    "spellings",
]

Role = Literal["embedding", "head", "norm", "bias", "hidden"]

ROLES: tuple[Role, ...] = ("embedding", "head", "norm", "bias", "hidden")

_WORDS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("embedding", re.compile(r"embed(ding)?s?|embed_tokens|wte|wpe|\w+_embed(ding)?s?")),
    ("head", re.compile(r"(lm|cls)?_?head|classifier|unembed|output_(layer|projection)")),
)
"""What the parts of a name say where no model was asked: those of the public language and vision models."""


def roles(model: nn.Module, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The role of each parameter of `model`, by its name.

    "embedding": of an embedding. "head": the weight of the last linear layer, in the order of the model's
    layers, also where an embedding holds the same one. "norm": of a layer that normalises. "bias": any other
    of fewer than two dimensions. "hidden": the rest, matrices and kernels of convolutions.

    Args:
        model: its layers are looked at, no batch is needed.
        known: names, or patterns in which ``*`` is any text, to roles that cannot be seen from its layers.

    Raises:
        RecipeError: a name or pattern of `known` that no parameter has.
    """
    found: dict[int, str] = {}
    last: Tensor | None = None
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear) and isinstance(weight, Tensor):
            last = weight
        for p in module.parameters(recurse=False):
            found.setdefault(id(p), _role_in(module, p))
    if last is not None:
        found[id(last)] = "head"
    named = list(model.named_parameters(remove_duplicate=False))
    check_found(tuple(known or ()), [name for name, _ in named])
    return {name: _known(p, name, known or {}) or found[id(p)] for name, p in named}


def _known(p: Tensor, name: str, known: Mapping[str, str]) -> str | None:
    found = known_as(name, known)
    if found is not None:
        return found
    names = spellings(name)
    patterns = (pattern for pattern in known if Group(params=(pattern,)).takes(names, p.ndim))
    return next((known[pattern] for pattern in patterns), None)


def known_as(name: str, known: Mapping[str, str]) -> str | None:
    """The role under a parameter's own name, in any of its spellings; no patterns are asked."""
    names = spellings(name)
    return next((known[each] for each in (*names, f"module.{names[-1]}") if each in known), None)


def spellings(name: str) -> tuple[str, ...]:
    """A parameter's name as given, and without what torch.compile and DistributedDataParallel put into it."""
    bare = name.replace(_COMPILED, "")
    return tuple(dict.fromkeys((name, bare, bare.removeprefix("module."))))


_COMPILED = "_orig_mod."


def check_found(written: Sequence[str], named: Sequence[str]) -> None:
    """Refuses names or patterns that are those of no parameter.

    Raises:
        RecipeError: one of `written` fits none of `named`.
    """
    spelt = [each for name in named for each in spellings(name)]
    there = set(spelt)
    for pattern in written:
        plain = pattern.replace(_COMPILED, "")
        if plain in there or plain.removeprefix("module.") in there:
            continue
        if not ("*" in pattern and Group(params=(plain,)).takes(spelt, 1)):
            close = nearest(plain, dict.fromkeys(named), 1, 0.5)
            some = ", ".join(map(repr, named[:4])) + ", ..." * (len(named) > 4)
            hint = f"nearest: {close[0]!r}" if close else f"there are {some}"
            raise RecipeError(f"no parameter is called {pattern!r}; {hint}; correct it or leave it out")


def _role_in(module: nn.Module, p: Tensor) -> Role:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    if p.ndim > 1:
        return "hidden"
    return "norm" if re.search("norm", type(module).__name__, re.IGNORECASE) else "bias"


def role_of(p: Tensor, name: str = "", known: Mapping[str, str] | None = None) -> str:
    """The role of a parameter: what is `known` of its name, else what its name and shape say.

    Args:
        p: the parameter.
        name: its name; "" where it was given without.
        known: names, or patterns in which ``*`` is any text, to roles; as `roles` gives them.
    """
    told = _known(p, name, known or {})
    if told is not None:
        return told
    if p.ndim < 2:
        return "bias"
    for role, words in _WORDS:
        if any(words.fullmatch(part) for part in name.split(".")):
            return role
    return "hidden"


def head_of_sequential(named: Sequence[tuple[str, Tensor]]) -> dict[str, str] | None:
    """The last matrix as the head, where the names are those of a plain Sequential: ``0.weight``, ``0.bias``,
    ``2.weight``, ... None for other names, and where no vector comes with the matrices: these were then
    chosen by hand.

    Args:
        named: names and parameters, in the order of the model.
    """
    if not all(re.fullmatch(r"\d+\.(weight|bias)", name) for name, _ in named):
        return None
    if all(p.ndim > 1 for _, p in named):
        return None
    matrices = [name for name, p in named if p.ndim == 2]
    return {matrices[-1]: "head"} if matrices else None


def check_roles(given: object) -> dict[str, str] | None:
    """`given` as names or patterns to roles; None stays.

    Raises:
        RecipeError: no table of names to roles, or a role that is none.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise RecipeError(
            f"roles={given!r}: must be a table of names or patterns to one of {', '.join(ROLES)}, such as "
            "{'embed.*': 'embedding'}; ds.optim.roles(model) makes one"
        )
    found: dict[str, str] = {}
    for name, role in cast("Mapping[object, object]", given).items():
        if role not in ROLES:
            raise RecipeError(
                f"roles[{name!r}]={role!r}: must be one of {', '.join(ROLES)}{did_you_mean(str(role), ROLES)}"
            )
        found[str(name).replace(_COMPILED, "")] = str(role)
    return found
