"""The run: what happened. Written to its folder while it happens, read back from there."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from torch import nn

from downslope.core import names, starts
from downslope.core.errors import EditError, InputError, ModelError, RecipeError, RunFolderError
from downslope.core.history import History, Probes, replay
from downslope.core.lock import held
from downslope.core.loss import learnt
from downslope.core.other_folder import held_instead
from downslope.core.plain import plain
from downslope.core.pretrained import as_described
from downslope.core.problem import Problem
from downslope.core.recipe import Lost, Recipe
from downslope.core.recipe_file import read_table
from downslope.core.spelling import is_code
from downslope.core.weights import load_tensors

_log = logging.getLogger("downslope")

FORMAT = 1
"""Version of the folder's layout; a folder of a later one is refused."""

OBJECTIVE = "objective"
"""Key of what an objective has learnt, among the weights of a run."""

Which = Literal["best", "last"]
Status = Literal[
    "running", "done", "goal", "early-stopped", "stopped", "converged", "stalled", "interrupted", "diverged",
    "failed",
]  # fmt: skip
ENDED = ("done", "goal", "early-stopped", "stopped", "converged", "stalled", "diverged")
"""Status of runs that came to an end of their own; nothing is left to resume."""


@dataclass(kw_only=True, eq=False)
class Run:
    """What happened when a recipe was followed.

    Attributes:
        recipe: How; None for a loop that was only watched.
        problem: What; None until it is given or found.
        folder: Where it is written; None for a run kept in memory.
        status: "running", "done", "goal" (reached), "early-stopped", "stopped" (by a search),
            "converged" (no step lowers the loss
            within rounding), "stalled" (a method found no step), "interrupted", "diverged", "failed".
            Of a run read from its folder whose process was killed: "interrupted", and ``facts["killed"]``.
        summary: ``train_loss``, ``train_metric``, ``valid_loss``, ``valid_metric`` (None where there is
            none) of the model that `model` gives, ``steps``, ``seconds``, ``model`` ("best" or "last"). The
            losses are risks: with penalties, ``train_objective`` has them in it. Standard errors over the
            examples, where they are known: ``valid_loss_stderr``, ``valid_metric_stderr``, ... Where the
            training data was measured on a drawn part of it, ``train_n`` says on how many examples.
        history: Columns by step: ``train_loss`` (of the batch), ``lr``, ``valid_loss``, ``valid_metric``.
        probes: Statistics by module and step.
        facts: Measurements made once, by name; symptoms read them.
        choices: What was chosen by device and timing: device, precision, backend, sampling.
        environment: Versions, machine, threads.
    """

    recipe: Recipe | None = None
    problem: Problem | None = None
    folder: Path | None = None
    status: Status = "running"
    summary: dict[str, Any] = field(default_factory=dict[str, Any])
    history: History = field(default_factory=History)
    probes: Probes = field(default_factory=Probes)
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    choices: dict[str, Any] = field(default_factory=dict[str, Any])
    environment: dict[str, Any] = field(default_factory=dict[str, Any])
    described: dict[str, Any] = field(default_factory=dict[str, Any])
    """What `Problem.describe` said, for a run whose problem is not at hand."""
    weights: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]], repr=False)
    """State dicts in memory, by "best" and "last"; by "objective" what the objective learnt."""

    def model(self, which: Which | None = None) -> nn.Module:
        """The trained model, in eval mode on the CPU.

        Args:
            which: "best" on validation, or "last"; left out: the best where there was validation data,
                else the last (`summary["model"]` says which).

        Raises:
            RunFolderError: no such checkpoint.
            ModelError: the problem is neither given nor can it be found again.
        """
        which = which or self.summary.get("model", "last")
        if which not in ("best", "last"):
            raise ModelError(f"which={which!r}: must be 'best' or 'last'")
        problem = self.the_problem()
        recipe = self.recipe or Recipe()
        init = None if isinstance(recipe.init, Lost) else recipe.init  # the weights are read in any case
        model = problem.build(recipe.seed, init, weights=False)
        if self.choices.get("precision") == "float64":
            model = model.double()
        try:
            model.load_state_dict(self.state(which))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the weights of this run do not fit its problem's model: {reason}") from error
        return model.eval()

    @property
    def objective(self) -> Any:
        """The objective as it stood at the end: a copy with what it learnt, such as weights of tasks
        (``run.objective.factors``); of one that learns nothing the problem's own.

        Raises:
            ModelError: the problem is neither given nor can it be found again.
            RunFolderError: what it learnt was not kept.
        """
        found = self.the_problem().objective
        if learnt(found) is None:
            return found
        found = copy.deepcopy(found)
        if OBJECTIVE not in self.weights and self.folder is None:
            raise RunFolderError("this run kept nothing of what its objective learnt")
        state = self.weights.get(OBJECTIVE) or load_tensors(objective_file(cast("Path", self.folder)))[0]
        cast("nn.Module", learnt(found)).load_state_dict(state)
        return found

    def predict(self, data: Any, which: Which | None = None) -> Any:
        """What the trained model says of new examples, without targets.

        A file is read with the columns, categories and classes of the training file; what the run has kept
        is enough, the training file may be gone.

        Args:
            data: A file of the kind that was trained on (its target may be missing), or inputs as a tensor,
                an array, or a list of rows; several in a tuple or a dict, as the model's forward takes them.
            which: As in `model`.

        Returns:
            A `downslope.training.predict.Prediction`: ``values``, ``probabilities``, ``output``, ``places``.

        Raises:
            DataError: the file cannot be read as the training file was.
            ModelError: the model is not at hand, or does not take such inputs.
        """
        return names.load("downslope.training.predict:predict")(self, data, which)

    def continued(
        self,
        prompt: str,
        count: int = 200,
        *,
        temperature: float = 0.8,
        seed: int = 0,
        which: Which | None = None,
    ) -> str:
        """`prompt`, and `count` tokens more that a model of text writes after it.

        Args:
            prompt: At least one character; all of them occur in the training text.
            count: Tokens to write, at least 0.
            temperature: Float in (0, inf), divides the logits; near 0 the likeliest token is taken.
            seed: Of the draws.
            which: As in `model`.

        Raises:
            DataError: no run on text, or a character that it does not know.
            ModelError: a model that does not generate.
        """
        write = names.load("downslope.training.predict:continued")
        return write(self, prompt, count, temperature=temperature, seed=seed, which=which)

    def state(self, which: Which) -> Mapping[str, Any]:
        """The state dict of the best or last model.

        Raises:
            RunFolderError: the run holds no such checkpoint.
        """
        if which in self.weights:
            return self.weights[which]
        if self.folder is None:
            raise RunFolderError(f"this run kept no {which!r} weights")
        path = self.folder / "checkpoints" / f"{which}.safetensors"
        if not path.exists() and which == "best" and self.summary.get("model") != "best":
            path = path.with_name("last.safetensors")
        return load_tensors(path)[0]

    def the_problem(self) -> Problem:
        """The problem: as given, or found again from where it was read.

        Raises:
            ModelError: neither.
        """
        if self.problem is None:
            task = self.described.get("task")
            if not task:
                raise ModelError("this run's problem is not at hand: load_run(folder, problem=...)")
            found: Any = names.load("downslope.training.tasks:load_task")(task)
            problem: Problem = found.problem
            self._take_init(found.recipe)
            from downslope.core.edits import from_dict

            try:
                later = self.described.get("edits", ())[len(problem.edits) :]
                self.problem = _as_described(
                    problem.edit(*(from_dict(each) for each in later)), self.described
                )
            except EditError as error:
                raise ModelError(
                    f"the edits of this run cannot be repeated: {error}; give problem="
                ) from None
        return self.problem

    def _take_init(self, stated: Recipe) -> None:
        """The initialisation of the task's recipe, where this run's was code of the same source."""
        mine, own = self.recipe, stated.init
        source = cast("Mapping[str, Any]", self.facts.get("init") or {}).get("source")
        if mine is None or not isinstance(mine.init, Lost) or source is None or not callable(own):
            return
        if starts.told(own).get("source") == source and starts.said(own) == mine.init.__name__:
            self.recipe = mine.edit(init=own)

    @property
    def maximize(self) -> bool:
        """Whether the objective is maximised; read off the folder where the problem is not at hand."""
        return bool(self.described.get("maximize")) if self.problem is None else self.problem.maximize

    @property
    def metric_up(self) -> bool:
        """Whether a higher metric is better."""
        if self.problem is None:
            return self.described.get("metric_goal") == "max"
        return self.problem.direction == "max"

    @property
    def metric_name(self) -> str:
        """Name of the metric's function; "" where there is none."""
        if self.problem is None:
            return str(self.described.get("metric") or "").rpartition(":")[2]
        return str(getattr(self.problem.metric, "__name__", ""))

    def __repr__(self) -> str:
        said = {k: v for k, v in self.summary.items() if v is not None and "_stderr" not in k}
        numbers = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in said.items())
        return f"Run({self.status}: {numbers or 'nothing recorded'})"


def _as_described(problem: Problem, described: Mapping[str, Any]) -> Problem:
    """The task's problem with what was set beside it when the run was made: goal, metric, model arguments.

    Raises:
        ModelError: something was set that no file holds.
    """
    problem = problem.edit(weights=as_described(problem.weights, described.get("weights")))
    own, changes = problem.describe(), dict[str, Any]()
    kinds: tuple[names.Kind, ...] = ("objective", "metric")
    for key in kinds:
        found = described.get(key, own[key])
        code = is_code(found, key)
        if found != own[key] and not (code and is_code(own[key], key)):  # of code only a repr is kept
            if code:
                raise ModelError(
                    f"the {key} of this run was code ({found}), which no file holds: give problem="
                )
            changes[key] = found
    for key, package in (("augment", "augment"), ("constraint", "constraints")):
        if (found := described.get(key, own[key])) == own[key]:
            continue
        try:
            changes[key] = found if found is None else names.load(f"downslope.{package}:read")(found)
        except InputError:
            raise ModelError(
                f"the {key} of this run was code ({found}), which no file holds: give problem="
            ) from None
    for key in ("goal", "maximize", "metric_goal"):
        if described.get(key, own[key]) != own[key] or (key == "metric_goal" and "metric" in changes):
            changes[key] = described[key]
    arguments, there = plain(own["arguments"]), cast("Mapping[str, Any]", described.get("arguments") or {})
    differ = {k: v for k, v in there.items() if k not in arguments or arguments[k] != v}
    changes |= {f"model.{k}": v for k, v in differ.items() if not is_code(v)}
    return problem.edit(**changes) if changes else problem


def objective_file(folder: Path) -> Path:
    """Where a run keeps what its objective learnt."""
    return folder / "checkpoints" / f"{OBJECTIVE}.safetensors"


def _environment(root: Path) -> dict[str, Any]:
    """What stands in the folder; of a member of a population what stands above it for all of them."""
    places = (root / "environment.json", root.parent / "environment.json")
    return next((_json(each) for each in places if each.exists()), dict[str, Any]())


def load_run(folder: str | Path, problem: Problem | None = None) -> Run:
    """The run in `folder`, finished or not.

    Args:
        folder: What `Run.folder` said.
        problem: The problem, where it cannot be found from the folder (code in a notebook); only
            `Run.model` and a re-fit need it.

    Raises:
        RunFolderError: no run there, a broken file, or a folder of a later version.
    """
    root = Path(folder)
    head = _json(root / "run.json")
    if head.get("format") != FORMAT:
        raise RunFolderError(f"{root}: format {head.get('format')}, this version reads {FORMAT}")
    run = Run(
        problem=problem,
        folder=root,
        status=head.get("status", "failed"),
        summary=head.get("summary", {}),
        choices=head.get("choices", {}),
        described=head.get("problem", {}),
        environment=_environment(root),
    )
    if (root / "recipe.toml").exists():
        try:
            table = read_table(root / "recipe.toml")
            for key in ("optimizer", "schedule", "init"):
                if (code := table.pop(f"{key}_code", None)) is not None:
                    table[key] = Lost(str(code), key)
            run.recipe = Recipe(**table)
        except RecipeError as error:
            raise RunFolderError(f"{root}: {error}") from error
    try:
        replay(read_lines(root / "history.jsonl"), run.history, run.probes, run.facts)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{root / 'history.jsonl'} is no history of a run: {error!r}") from error
    if run.status == "running" and not held(root / "history.jsonl"):
        _killed(run, root)
    elif (lost := _cut(run)) is not None:
        run.facts["cut_short"] = f"{root / 'history.jsonl'} {lost}"
        _log.warning(run.facts["cut_short"])
    return run


def _killed(run: Run, root: Path) -> None:
    """What is known of a run whose process is gone and that nobody summed up."""
    steps = run.history.series("train_loss").steps
    taken = int(steps[-1]) if len(steps) else 0
    kept = [each for each in ("best", "last") if (root / "checkpoints" / f"{each}.safetensors").exists()]
    run.status = "interrupted"
    run.facts["killed"] = {"step": taken, "weights": kept}
    run.summary = {"steps": taken, "model": kept[0] if kept else "last"}


def _cut(run: Run) -> str | None:
    """What the history lacks, by the number of steps that the head knows of; None where it is whole."""
    steps, taken = run.history.series("train_loss").steps, run.summary.get("steps")
    if run.recipe is None or not isinstance(taken, int) or len(steps) >= taken:
        return None
    return f"holds {len(steps)} of {taken} steps: it was cut or deleted"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of an append-only file; a last line cut off by a kill is left out.

    Raises:
        RunFolderError: a broken line before the last.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from error
    rows = text.split("\n")
    lines: list[dict[str, Any]] = []
    for number, row in enumerate(rows):
        if not row:
            continue
        try:
            lines.append(json.loads(row))
        except json.JSONDecodeError as error:
            if number == len(rows) - 1:
                break
            raise RunFolderError(f"{path}, line {number + 1} is broken: {error}") from error
    return lines


def _json(path: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{path.parent}: no run there ({held_instead(path.parent)})") from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} holds {type(found).__name__}, not the head of a run")
    return cast("dict[str, Any]", found)
