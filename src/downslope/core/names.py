"""One table from names to code, so that a name can be stored in a file and means one thing.

A table maps a name to ``"module:attribute"``; nothing is imported until a name is resolved. The kinds
are those of `Kind`. Adding an algorithm is one file, its test, and one line in `downslope.core.table`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from downslope.core.errors import UnknownNameError
from downslope.core.table import ALIASES, MAKERS, TABLE, Kind
from downslope.core.wrapped import wrapped

RECIPE_KEYS = {
    "learning_rate": "lr", "eta": "lr", "n_epochs": "epochs", "num_epochs": "epochs", "max_epochs": "epochs",
    "max_steps": "steps", "iterations": "steps", "bs": "batch_size", "wd": "weight_decay",
    "l2": "weight_decay",
    "scheduler": "schedule", "lr_scheduler": "schedule", "warmup_steps": "warmup", "opt": "optimizer",
    "grad_clip": "clip_norm", "max_grad_norm": "clip_norm", "clip": "clip_norm", "early_stopping": "patience",
    "llrd": "layer_decay", "lr_decay": "layer_decay", "gradual_unfreezing": "unfreeze",
    "dtype": "precision", "random_state": "seed", "ema": "average", "swa": "average",
    "swa_start": "average_from", "initialisation": "init",
}  # fmt: skip
"""What other libraries call a key of a recipe."""


def nearest(given: str, allowed: Iterable[str], limit: int = 3, ratio: float = 0.7) -> list[str]:
    """The `limit` names of `allowed` close to `given`, best first.

    Close is a name of difflib's `ratio` or more (a slip in a name of four letters has 0.75, words of another
    meaning come up to 0.67), first those of the same letters, and one that `given` begins or is a word of:
    "decay" is near "weight_decay".
    """
    given, allowed = given.lower(), list(allowed)
    slips = difflib.get_close_matches(given, allowed, n=limit + 3, cutoff=ratio)
    swapped_first = sorted(slips, key=lambda name: sorted(name) != sorted(given))
    longer = [name for name in allowed if len(given) > 2 and _begins_or_is_word(given, name.lower())]
    return list(dict.fromkeys([*swapped_first[:limit], *sorted(longer, key=len)]))[:limit]


def _begins_or_is_word(given: str, name: str) -> bool:
    return name.startswith(given) or given in re.split(r"[-_. ]", name)


def did_you_mean(given: str, allowed: Iterable[str], ratio: float = 0.7) -> str:
    """``"; did you mean 'adam'?"``, or the list of what is allowed where nothing is near.

    Of a key with a dot the head alone may be near: "model.width" for "modle.width".
    """
    allowed = sorted(allowed)
    close = nearest(given, allowed, 1, ratio)
    if close:
        return f"; did you mean {close[0]!r}?"
    head, dot, rest = given.partition(".")
    if dot and head not in allowed and (close := nearest(head, allowed, 1, ratio)):
        return f"; did you mean {close[0] + dot + rest!r}?"
    return f"; known: {', '.join(allowed) or 'none'}"


def canonical(kind: Kind, name: str) -> str:
    """The table's own spelling of `name`: case, ``-`` and aliases do not matter; a class has its own too.

    Raises:
        UnknownNameError: no such name; the message names the nearest.
    """
    given: Any = name
    if not isinstance(given, str):
        known = sorted(TABLE[kind])
        raise UnknownNameError(f"{kind}={given!r}: must be a name, one of {', '.join(known)}")
    if kind == "optimizer":
        around = wrapped(name, functools.partial(canonical, kind), TABLE[kind])
        if around is not None:
            return around
    spelt = name.strip().lower().replace("-", "_").replace(" ", "_")
    found = ALIASES[kind].get(spelt, spelt)
    if found not in TABLE[kind]:
        found = _run_together(kind).get(spelt, "")
    if not found:
        raise UnknownNameError(f"{kind} {name!r} is not known{_near(kind, spelt)}")
    return found


@functools.cache
def _run_together(kind: Kind) -> dict[str, str]:
    """Name by itself without its underscores: "schedulefreeadamw", as the class is spelt in lower case."""
    known = {**{name: name for name in TABLE[kind]}, **ALIASES[kind]}
    return {spelt.replace("_", ""): name for spelt, name in known.items()}


_LISTS: dict[str, str] = {"optimizer": "ds.optim.catalogue() and ds.methods.catalogue() list"}
"""Where the names of a kind are listed that has too many for a line."""


_SETTINGS = {
    "amsgrad": "it is a setting, optimizer='adam' with amsgrad=True",
    "centered_rmsprop": "it is a setting, optimizer='rmsprop' with centered=True",
    "centred_rmsprop": "it is a setting, optimizer='rmsprop' with centered=True",
    "d_adaptation": "its heir is 'prodigy'",
    "dadaptation": "its heir is 'prodigy'",
}
"""Optimizers by the name of their paper that are another's setting, or have given way to another."""


def _near(kind: Kind, spelt: str) -> str:
    """`did_you_mean` of a name of `kind`; of one with many names a few, and where all are listed."""
    if kind == "optimizer" and spelt in _SETTINGS:
        return f": {_SETTINGS[spelt]}"
    known = set(TABLE[kind]) | set(ALIASES[kind])
    if kind not in _LISTS or nearest(spelt, known, 1):
        return did_you_mean(spelt, known)
    few = ", ".join(nearest(spelt, sorted(TABLE[kind]), 3, 0.0))
    return f"; the nearest are {few}; {_LISTS[kind]} all {len(TABLE[kind])}"


def catalogued(kind: Kind, thing: Any) -> bool:
    """Whether `thing` is what a name of the table stands for; nothing is imported to tell."""
    place, name = getattr(thing, "__module__", None) or "", getattr(thing, "__name__", None)
    return any(
        place.startswith(module) and name == attribute
        for module, _, attribute in (each.partition(":") for each in TABLE[kind].values())
    )


def load(reference: str) -> Any:
    """The object at ``"package.module:attribute"`` or ``"file.py:attribute"`` (dots are followed).

    Raises:
        UnknownNameError: the module or the attribute does not exist.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute:
        raise UnknownNameError(f"{reference!r} is no reference: write 'package.module:attribute'")
    try:
        found: Any = _module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UnknownNameError(f"{reference!r} cannot be loaded: {error}") from error
    return found


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    from downslope.core.code_file import imported

    return imported(Path(name))


def resolve(kind: Kind, name: str) -> Any:
    """What `name` stands for: a table's entry, one with settings, or any ``"package.module:attribute"``.

    Raises:
        UnknownNameError: neither; the message names the nearest.
        InputError: settings that it does not have.
    """
    given: Any = name
    if kind == "optimizer" and isinstance(given, str) and ":" not in given:
        name = given = canonical(kind, name)
    if kind in MAKERS and isinstance(given, str) and "(" in given:
        return load(MAKERS[kind])(name)
    return load(name) if isinstance(given, str) and ":" in name else load(TABLE[kind][canonical(kind, name)])
