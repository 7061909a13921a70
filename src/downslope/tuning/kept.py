"""The folder of a search: what it was asked beside its journal, so that it goes on without being told again.

search.toml     what was asked: recipe, space, sampler, budget, storage
problem.json    what the problem is, so that it is found again
journal.log     the trials, Optuna's own format
curves.jsonl    the measure over the steps, a line a trial
result.json     what was found, once it has ended
best.toml       the best recipe
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from downslope.core.errors import InputError, RecipeError, RunFolderError
from downslope.core.plain import plain, to_toml
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.recipe_file import read_table
from downslope.core.run import Run, read_lines
from downslope.core.space import parse, settled
from downslope.tuning.alike import judged_alike
from downslope.tuning.database import hidden, sqlite_file
from downslope.tuning.plan import Plan
from downslope.tuning.storage import NAME
from downslope.tuning.trained import Curve

SEARCH, PROBLEM, CURVES, RESULT, BEST = (
    "search.toml",
    "problem.json",
    "curves.jsonl",
    "result.json",
    "best.toml",
)
FORMAT = 1

_log = logging.getLogger("downslope")

_NUMBERS = tuple(
    each.name for each in fields(Plan) if each.name not in ("problem", "recipe", "space", "asked", "pruner")
)


def is_search(folder: Path) -> bool:
    """Whether `folder` is that of a search."""
    return (folder / SEARCH).is_file()


def tell_if_foreign(place: str | Path | None) -> None:
    """Say where a new search, or its journal, comes into a folder that holds other things already."""
    if place is None or "://" in str(place):
        return
    folder = Path(place).expanduser()
    if not folder.is_dir() or is_search(folder) or (folder / NAME).exists():
        return
    others = sorted(each.name for each in folder.iterdir())
    if others:
        some = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        _log.warning("tune: %s is not empty (%s): the files of the search come beside these", folder, some)


def write_plan(folder: Path, plan: Plan, storage: str | None, more: Mapping[str, Any]) -> None:
    """Write what was asked; what is code is left out, and refused when the search is to go on from the file.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    coded = plan.recipe.coded
    table: dict[str, Any] = {"format": FORMAT} | {key: getattr(plan, key) for key in _NUMBERS}
    if isinstance(plan.pruner, str):
        table["pruner"] = plan.pruner
    table |= {"storage": storage, "measure": plan.measure, **more}
    table["code"] = list(coded)
    table["recipe"] = {} if coded else plan.recipe.to_dict()
    table["space"] = {key: each.text() for key, each in plan.space.items()}
    table["asked"] = {key: each.text() for key, each in plan.asked.items()}
    described = json.dumps(plain(_as_given(plan.problem).describe()), indent=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / SEARCH, to_toml(table))
        _replace(folder / PROBLEM, described + "\n")
    except OSError as error:
        raise RunFolderError(f"{folder} cannot be written: {error.strerror or error}") from None


def _as_given(problem: Problem) -> Problem:
    """The problem as its task states it; `judged_alike` comes again when the search goes on."""
    return problem.edit(metric=None, metric_goal=None) if problem.metric is problem.objective else problem


def lasting(storage: str | Path) -> str:
    """A storage as a file may hold it: paths from the root, and no password.

    That of a database is found elsewhere: PGPASSWORD or ~/.pgpass, MYSQL_PWD or ~/.my.cnf.
    """
    text = str(storage)
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    if text.startswith("sqlite") and (file := sqlite_file(text)) is not None:
        return f"sqlite:///{file}"
    return hidden(text, "")


def read_plan(
    folder: Path, problem: Problem | None = None, recipe: Recipe | None = None
) -> tuple[Plan, dict[str, Any]]:
    """The plan in `folder`, and the rest of its table.

    Args:
        folder: Of a search.
        problem: The problem, where it cannot be found from the folder.
        recipe: The recipe, where it holds code.

    Raises:
        RunFolderError: no search there, or a file of a later version.
        ModelError: the problem is not found again.
    """
    if not is_search(folder):
        raise RunFolderError(f"{folder}: no search there ({SEARCH} is missing)")
    try:
        table = read_table(folder / SEARCH)
        if table.get("format") != FORMAT:
            raise RunFolderError(f"{folder}: format {table.get('format')}, this version reads {FORMAT}")
        if recipe is None:
            if table.get("code"):
                code = " and ".join(table["code"])
                raise RunFolderError(
                    f"{folder}: the {code} of its recipe was code, which no file holds: go on from Python, "
                    "ds.tune(problem, recipe, space, folder=..., resume=True)"
                )
            recipe = Recipe.from_dict(table.get("recipe", {}))
        space = {key: parse(text) for key, text in table["space"].items()}
        asked = {key: parse(text) for key, text in table["asked"].items()}
    except (KeyError, TypeError, RecipeError, InputError) as error:
        raise RunFolderError(f"{folder / SEARCH} cannot be read: {error}") from None
    if problem is None:
        described = json.loads((folder / PROBLEM).read_text(encoding="utf-8"))
        problem = Run(described=described, recipe=recipe).the_problem()
    own = {key: table[key] for key in _NUMBERS if key in table}
    plan = Plan(
        problem=judged_alike(problem, space),
        recipe=recipe,
        space=settled(problem, recipe, space),
        asked=settled(problem, recipe, asked),
        pruner=table.get("pruner"),
        **own,
    )
    return plan, table


def read_command(folder: Path) -> dict[str, Any]:
    """What the command line was given besides, when the search in `folder` began; empty from Python."""
    return dict(read_table(folder / SEARCH).get("command", {}))


def add_curves(folder: Path | None, curves: Mapping[int, Curve]) -> None:
    """Append curves of trials; a disk that takes nothing costs the curves alone."""
    if folder is None or not curves:
        return
    rows = (
        {"trial": number, "steps": steps, "values": plain(values)}
        for number, (steps, values) in curves.items()
    )
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    with contextlib.suppress(OSError), (folder / CURVES).open("ab", buffering=0) as file:
        file.write(text.encode())  # at once, as another process may append to it too


def read_curves(folder: Path | None) -> dict[int, Curve]:
    """What `add_curves` wrote."""
    if folder is None:
        return {}
    found: dict[int, Curve] = {}
    for row in read_lines(folder / CURVES):
        values = (
            float("nan") if each is None else float(each) for each in cast("Iterable[Any]", row["values"])
        )
        found[int(row["trial"])] = tuple(row["steps"]), tuple(values)
    return found


def write_result(folder: Path | None, found: Mapping[str, Any]) -> None:
    """Write what was found."""
    if folder is not None:
        _replace(folder / RESULT, json.dumps(plain(found), indent=1) + "\n")


def read_result(folder: Path | None) -> dict[str, Any]:
    """What `write_result` wrote; empty where nothing was."""
    if folder is None or not (folder / RESULT).is_file():
        return {}
    try:
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two may go on with one search
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
