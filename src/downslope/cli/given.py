"""From the words of a command to a problem and a recipe."""

from __future__ import annotations

import ast
import inspect
import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from downslope.cli.voice import Voice
from downslope.core.errors import InputError, RecipeError
from downslope.core.names import did_you_mean

if TYPE_CHECKING:
    from downslope.core.edits import Edit
    from downslope.core.problem import Problem
    from downslope.core.recipe import Recipe

_PROBLEM_KEYS = (
    "model", "objective", "metric", "metric_goal", "goal", "maximize", "weights", "augment", "constraint",
    "missing",
)  # fmt: skip
_OPEN_KEYS = ("model.NAME", "objective.NAME", "init.NAME")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line asked for.

    Attributes:
        task: TASK as it was written.
        target: Column to predict, for data files.
        recipe: File of a recipe and edits; None takes the task's own.
        settings: ``key=value`` texts, applied in order after the file.
        seed: Overrides the recipe's.
    """

    task: str
    target: str | None = None
    recipe: Path | None = None
    settings: Sequence[str] = ()
    seed: int | None = None

    @property
    def said(self) -> str:
        """TASK and what belongs to it, as the next command has to say it."""
        words = self._named if self.recipe is None else [*self._named, "--recipe", str(self.recipe)]
        seed = [] if self.seed is None else ["--seed", str(self.seed)]
        return shlex.join([*words, *_set(self.settings), *seed])

    def beside(self, kept: Sequence[Edit]) -> str:
        """TASK and what a recipe file does not hold: the target, and settings of the problem.

        A setting that one of the edits in the file changes is left out, since ``--set`` wins over the file.
        """
        edited = {key for edit in kept for key in _keys(edit)}
        of_problem = [text for text in self.settings if _of_problem(key := _key(text)) and key not in edited]
        return shlex.join([*self._named, *_set(of_problem)])

    def edits(self) -> tuple[Edit, ...]:
        """The edits of the problem in the recipe file that was given.

        Raises:
            RecipeError: the file cannot be read.
            EditError: an unknown edit.
        """
        from downslope.core import edits

        return () if self.recipe is None else edits.load(self.recipe)[1]

    def _untrained(self, lines: Sequence[str], remarks: Sequence[str]) -> list[str]:
        """What was decided for a verb that trains nothing, and whose model of data alone is a linear one."""
        from downslope.training.tasks import is_data

        data = is_data(self.task)
        told = [*lines[: max(len(lines) - (2 if data else 1), 0)], *(() if data else remarks)]
        unused = [text for text in self.settings if _of_training(_key(text))]
        if unused:
            told.append(f"of no use here, where nothing is trained: {', '.join(unused)}")
        models = [text for text in self.settings if data and _key(text).partition(".")[0] == "model"]
        if models:
            told.append(f"of no use here, where data alone gets the linear model: {', '.join(models)}")
        return told

    @property
    def _named(self) -> list[str]:
        return [self.task, *([] if self.target is None else ["--target", self.target])]

    @property
    def is_run(self) -> bool:
        """Whether TASK is the folder of a run."""
        return (Path(self.task) / "run.json").is_file()

    def refuse_with_run(self, folder: Path | None) -> None:
        """A run has a recipe, a target and a folder already.

        Raises:
            InputError: naming the first option that says otherwise.
        """
        options = {
            "--target": self.target, "--recipe": self.recipe, "--set": self.settings, "--seed": self.seed,
            "--folder": folder,
        }  # fmt: skip
        for option, value in options.items():
            if value not in (None, (), []):
                raise InputError(
                    f"{option} goes with a task; {self.task} is a run, of which nothing is trained again"
                )

    def load(self, voice: Voice, *, trained: bool = True) -> tuple[Problem, Recipe]:
        """The problem and recipe asked for; what was chosen for the user is held until work begins.

        Args:
            voice: Holds it.
            trained: Whether the recipe matters; else settings of it are told to be of no use.

        Raises:
            TaskError: the task cannot be found, imported or called.
            RecipeError: a key that does not exist, or a value outside its domain.
            EditError: an edit of the recipe file that does not fit.
        """
        from downslope.training.tasks import load_task

        task = load_task(self.task, target=self.target)
        problem, recipe = task.problem, task.recipe
        if self.recipe is not None:
            from downslope.core import edits

            recipe, changes = edits.load(self.recipe)
            problem = problem.edit(*changes)
        remarks: list[str] = []
        problem, recipe = changed(problem, recipe, self.settings, remarks)
        if self.seed is not None:
            recipe = recipe.edit(seed=self.seed)
        told = [_as_filled(each) for each in task.told] if _fills(problem) else task.told
        lines = (
            _retold(told, str(task.recipe), str(recipe), remarks)
            if trained
            else self._untrained(told, remarks)
        )
        for line in lines:
            voice.hold(line)
        return problem, recipe


def _retold(lines: Sequence[str], former: str, recipe: str, remarks: Sequence[str]) -> list[str]:
    """What was decided for the user, with the recipe as it is after the edits, and remarks on the model."""
    told = [*lines[:-1], lines[-1].replace(former, recipe)] if lines else []
    if not remarks or len(told) < 2:
        return [*remarks, *told]
    return [*told[:-2], "; ".join([told[-2], *remarks]), told[-1]]


def changed(
    problem: Problem, recipe: Recipe, settings: Sequence[str], remarks: list[str] | None = None
) -> tuple[Problem, Recipe]:
    """Problem and recipe with ``key=value`` texts applied, all of them at once.

    Args:
        problem: What is changed.
        recipe: What is changed.
        settings: ``key=value`` texts; of two with one key the last wins.
        remarks: Takes up what a change of the model means for its arguments.

    Raises:
        RecipeError: no ``=``, or a key that neither has; the nearest is told.
        UnknownNameError: no such model.
    """
    of_problem: dict[str, Any] = {}
    of_recipe: dict[str, Any] = {}
    for text in settings:
        key, sign, value = text.partition("=")
        key = key.strip()
        if not sign or not key:
            raise RecipeError(f"--set {text}: must be key=value, such as lr=0.01 or model.width=64")
        if _of_problem(key):
            of_problem[key] = parsed(value)
        else:
            of_recipe[key] = parsed(value)
    if _full_batch(of_recipe.get("optimizer")):
        of_recipe.setdefault("batch_size", "full")
    wanted = {
        key: of_recipe[key] for key in ("optimizer", "init") if isinstance(of_recipe.get(key), (str, dict))
    }
    if "optimizer" in wanted and "batch_size" in of_recipe:
        wanted["batch_size"] = of_recipe["batch_size"]
    fitting = recipe.edit(**wanted) if wanted else recipe
    of_init = {key: value for key, value in of_recipe.items() if key.startswith("init.")}
    if of_init and (fitting.init is None or callable(fitting.init)):
        fitting.edit(**of_init)  # refused in one line, which says whose settings these are
    for key in of_recipe:
        allowed = [*fitting.keys(), *_PROBLEM_KEYS]
        if key not in allowed:
            known = {*allowed, *_OPEN_KEYS}
            raise RecipeError(f"--set {key}=...: no such key{did_you_mean(key, known)}")
    if "model" in of_problem:
        problem, remark = _of_model(problem, of_problem.pop("model"))
        if remarks is not None:
            remarks.append(remark)
    problem = _filled(problem, of_problem.pop("missing", None))
    if (remark := _own_rate(recipe, of_recipe)) and remarks is not None:
        remarks.append(remark)
    return (
        problem.edit(**of_problem) if of_problem else problem,
        recipe.edit(**of_recipe) if of_recipe else recipe,
    )


def _own_rate(recipe: Recipe, settings: dict[str, Any]) -> str:
    """Has `settings` take the rate back to that of the optimizer which they name without one, as the recipe's
    was for the former one, and usual rates differ up to ten thousand times.

    Returns:
        A remark, or "" where the rate stays: both methods have the same usual one.
    """
    name, former = settings.get("optimizer"), recipe.optimizer
    if (
        not isinstance(name, str)
        or not isinstance(former, str)
        or "lr" in settings
        or "lr" not in recipe.said
    ):
        return ""
    own = type(recipe)(optimizer=name).lr
    if own is None or own == type(recipe)(optimizer=former).lr:
        return ""
    settings["lr"] = None
    return f"lr {own:g}, {name}'s own, as {recipe.lr:g} was for {former}: lr=... says another"


def _full_batch(optimizer: Any) -> bool:
    """Whether an optimizer, by name, sees the whole training set at every step unless told otherwise."""
    from downslope.core import names

    if not isinstance(optimizer, str) or ":" in optimizer:
        return False
    return getattr(names.resolve("optimizer", optimizer), "batch", None) in ("full", "large")


def _of_model(problem: Problem, model: Any) -> tuple[Problem, str]:
    """The problem with another model, and what is to be told: arguments that it does not take are left out.

    Raises:
        RecipeError: no name.
        UnknownNameError: no such model; the nearest is told.
    """
    from downslope.core import names

    if not isinstance(model, str):
        raise RecipeError(f"--set model={model}: must be a name, such as model=linear")
    model = model if ":" in model else names.canonical("model", model)
    taken = inspect.signature(names.resolve("model", model)).parameters
    open_ended = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    kept = {key: value for key, value in problem.arguments.items() if open_ended or key in taken}
    lost = [f"{key}={value!r}" for key, value in problem.arguments.items() if key not in kept]
    told = f"model {model} instead" + (f", which takes no {', '.join(lost)}" if lost else "")
    return problem.edit(model=model, arguments=kept), told


def _filled(problem: Problem, missing: Any) -> Problem:
    """The problem, inputs that are not there filled in as ``--set missing=...`` says.

    Raises:
        RecipeError: anything but "mean".
    """
    if missing is None:
        return problem
    if missing != "mean":
        raise RecipeError(f"--set missing={missing}: must be mean, that of the feature in training")
    from downslope.core.edits import FillInputs

    return problem.edit(FillInputs())


def _fills(problem: Problem) -> bool:
    return any(each.kind == "fill-inputs" for each in problem.edits)


def _as_filled(told: str) -> str:
    from downslope.data.csv_file import KEPT

    return told.replace(KEPT, "missing values are filled in by the mean of their column in training")


def _key(text: str) -> str:
    return text.partition("=")[0].strip()


def _of_problem(key: str) -> bool:
    return key.startswith(("model.", "objective.")) or key in _PROBLEM_KEYS


def _of_training(key: str) -> bool:
    return not _of_problem(key) or key in ("weights", "augment")


def _set(settings: Sequence[str]) -> list[str]:
    return [word for text in settings for word in ("--set", text)]


def _keys(edit: Edit) -> list[str]:
    """The keys of ``--set`` that an edit changes too."""
    if edit.kind == "set-objective":
        return ["objective"]
    if edit.kind == "set-augment":
        return ["augment"]
    if edit.kind == "fill-inputs":
        return ["missing"]
    return [f"model.{edit.to_dict()['name']}"] if edit.kind == "set-argument" else []


def parsed(text: str) -> Any:
    """The value that a text stands for: TOML, else a number as Python writes it, none, or the text itself."""
    text = text.strip()
    if text.lower() in ("none", "null"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value
