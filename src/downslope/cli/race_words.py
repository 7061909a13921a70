"""The words of ``downslope race``: spaces, settings, and the command as it is said again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def space_of(texts: list[str] | None, contestants: Sequence[str]) -> dict[str, Any] | None:
    """The space of all, and by contestant that of ``--space NAME.KEY=RANGE``."""
    from downslope.core.errors import SpaceError
    from downslope.core.space import parse

    if not texts:
        return None
    names = {each.rpartition(":")[2] for each in contestants}
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise SpaceError(
                f"--space {text}: must be key=range, such as lr=log:1e-4:1, or of one contestant sgd.lr=..."
            )
        who, dot, rest = key.partition(".")
        if dot and who in names:
            found.setdefault(who, {})[rest] = parse(value)
        else:
            found[key] = parse(value)
    return found


def check_settings(settings: Sequence[str], contestants: Sequence[str]) -> None:
    """Refuse a setting that some of the optimizers that race have and others have not."""
    from downslope.core.errors import RecipeError
    from downslope.core.recipe import Recipe

    own = {name: Recipe(optimizer=name).keys() for name in contestants if ":" not in name} if settings else {}
    for text in settings:
        key = text.partition("=")[0].strip()
        lacking = [name for name, keys in own.items() if key not in keys]
        if lacking and len(lacking) < len(own):
            raise RecipeError(
                f"--set {text}: {lacking[0]} has no {key}; what one contestant alone has goes into a recipe "
                "of its own, --with FILE"
            )


def words_of(task: str | None, options: Mapping[str, Any]) -> list[str]:
    """The command as `again` has to say it, paths from the root."""
    words = [] if task is None else [str(Path(task).resolve()) if Path(task).exists() else task]
    for option, value in options.items():
        several: list[Any] = value if isinstance(value, list) else [value]
        for each in several:
            if each is True:
                words.append(option)
            elif each is not None and each is not False:
                words += [option, str(each.resolve()) if isinstance(each, Path) else str(each)]
    return words


def without(words: list[str], option: str) -> list[str]:
    """A command without an option and its value."""
    if option not in words:
        return list(words)
    at = words.index(option)
    return words[:at] + words[at + 2 :]
