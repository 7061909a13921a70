"""Tasks: where a problem comes from when it is named on the command line.

``package.module:problem``, ``file.py`` (with ``problem()`` or ``problem``, and ``recipe`` if wanted), a file
or folder of data, with a target column if it is a table, or one of the standard data sets by name.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from downslope.core import names
from downslope.core.code_file import executed
from downslope.core.errors import DownslopeError, TaskError, told
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.data.paths import ENDINGS
from downslope.training.of_data import chosen


@dataclass(frozen=True)
class Task:
    """A problem with the recipe that belongs to it."""

    problem: Problem
    recipe: Recipe
    reference: str
    """What finds the same task again."""
    told: list[str] = field(default_factory=list[str])
    """What was decided for the user, one line each."""


def load_task(reference: str, target: str | None = None) -> Task:
    """The task that `reference` names.

    Args:
        reference: ``"module:attribute"``, a Python file, a data file, or the name of a bundled data set;
            ``"wine.csv:quality"`` names the target column as well.
        target: Column to predict, for data.

    Raises:
        TaskError: it cannot be found, or its code raises; the message names file and line.
        DataError: a data file that cannot be read, or has no such column.
    """
    path = Path(reference)
    stem = Path(reference.partition(":")[0])
    if target is not None and (stem.suffix == ".py" or (":" in reference and not stem.exists())):
        raise TaskError(f"target {target!r} goes with data; {reference} is code, whose problem has its own")
    if path.suffix == ".py":
        if not path.exists():
            raise TaskError(f"{reference}: no such file")
        return _of_code(_module_of(path), "problem", str(path.resolve()), reference)
    if path.exists():
        return _of_data(str(path.resolve()), target)
    stem, _, attribute = reference.partition(":")
    if attribute and Path(stem).suffix == ".py":
        if not Path(stem).exists():
            raise TaskError(f"{stem}: no such file")
        return _of_code(_module_of(Path(stem)), attribute, f"{Path(stem).resolve()}:{attribute}", reference)
    if attribute and Path(stem).exists() and not Path(stem, "__init__.py").exists():
        return _of_data(str(Path(stem).resolve()), target or attribute)
    if attribute and ("/" in stem or Path(stem).suffix.lower() in ENDINGS):
        raise TaskError(f"{stem}: no such file")
    if attribute:
        return _of_code(_import(stem), attribute, reference, reference)
    if path.suffix or "/" in reference:
        raise TaskError(f"{reference}: no such file")
    if reference.lower() in names.TABLE["data"]:
        if target is not None:
            raise TaskError(f"target {target!r} goes with a file; the bundled {reference} has its own target")
        return _of_data(reference.lower(), None)
    near = names.nearest(reference.lower(), names.TABLE["data"], 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise TaskError(
        f"{reference!r} is no task: give package.module:problem, a file.py, a data file, or one of "
        f"{', '.join(sorted(names.TABLE['data']))}{meant}"
    )


def is_data(reference: str) -> bool:
    """Whether a task is data alone, whose model was chosen for the user."""
    stem = Path(reference.partition(":")[0])
    if reference.lower() in names.TABLE["data"]:
        return not Path(reference).exists()
    return stem.suffix != ".py" and stem.is_file()


def linear(problem: Problem) -> tuple[Problem, str]:
    """A problem of data alone with the linear model of its objective, in units of its target; in words."""
    model = "linear" if getattr(problem.objective, "target", None) == "real" else "softmax"
    edits = tuple(each for each in problem.edits if each.kind != "standardise-targets")
    objective = str(getattr(problem.objective, "__name__", "")).replace("_", " ")
    return replace(problem, model=model, edits=edits), f"model {model}, {objective}, inputs standardised"


def _module_of(path: Path) -> ModuleType:
    try:
        return executed(path)
    except DownslopeError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"{path} failed while it was imported: {told(error, path.absolute())}") from error


def _import(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(
            f"{error.name}."
        ):  # it was found, and imports another
            raise TaskError(f"module {name} failed while it was imported: {told(error)}") from error
        raise TaskError(
            f"module {error.name!r} is not found; tasks are package.module:problem or file.py"
        ) from None
    except DownslopeError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"module {name} failed while it was imported: {told(error)}") from error


def _of_code(module: ModuleType, attribute: str, reference: str, given: str) -> Task:
    """The task of a module; `reference` finds it again from anywhere, `given` is what the user wrote."""
    found: Any = getattr(module, attribute, None)
    if found is None:
        there = [name for name, value in vars(module).items() if isinstance(value, Problem)]
        hint = names.did_you_mean(attribute, [*there, "problem"]) if there else ""
        raise TaskError(f"{given}: it has no {attribute!r}; write problem() -> ds.Problem(...){hint}")
    problem = _called(found, given)
    recipe: Any = None
    if isinstance(problem, tuple):
        problem, recipe = [*cast("tuple[Any, ...]", problem), None][:2]
    if not isinstance(problem, Problem):
        kind = type(cast("Any", problem)).__name__
        raise TaskError(f"{given}: {attribute!r} gives {kind}, it must give a ds.Problem")
    if recipe is None and hasattr(module, "recipe"):
        recipe = _called(module.recipe, given)
    if recipe is not None and not isinstance(recipe, Recipe):
        raise TaskError(f"{given}: 'recipe' gives {type(recipe).__name__}, it must give a ds.Recipe")
    stem = Path(reference.rpartition(":")[0] or reference).stem if ".py" in reference else reference
    named = replace(problem, task=reference, name=problem.name or stem)
    told_lines = [] if recipe is not None else [f"no recipe in {given}: {Recipe()}"]
    return Task(named, recipe or Recipe(), reference, told_lines)


def _called(found: Any, given: str) -> Any:
    if not callable(found):
        return found
    try:
        return found()
    except DownslopeError:
        raise
    except (Exception, SystemExit) as error:
        raise TaskError(f"{given} failed: {told(error)}") from error


def _of_data(reference: str, target: str | None) -> Task:
    """A data set becomes a problem: what it is decides model, objective and metric, and this is told."""
    problem, recipe, lines = chosen(reference, target)
    return Task(problem, recipe, problem.task or reference, lines)
