"""A watched training taken up again from its first weights, on the examples that were kept of it.

Watching sees what happened; only trying one thing beside another shows what would have happened. A script
runs once, so copies are tried: of its model with its first weights, of its examples, of its optimizer's
settings. What `diagnose` then finds is told where the copy went as the training did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from downslope.core import batches
from downslope.core.errors import DataError, DownslopeError, ModelError, ObjectiveError, RecipeError
from downslope.core.finding import Finding
from downslope.core.method import optimizer_defaults
from downslope.core.modules import named_modules, own_parameters
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.compiled import plain_module
from downslope.diagnosis.diagnose import diagnose
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.early import short
from downslope.diagnosis.gathered import undisturbed
from downslope.diagnosis.progress import progress, smoothed, untold
from downslope.diagnosis.proof import trial_of, unconfirmed, won
from downslope.diagnosis.settings import parameters_of
from downslope.diagnosis.shown import Loss, Shown, copied, output_of, weights
from downslope.diagnosis.symptoms.frozen_parameters import left_out
from downslope.objectives.meaning import meaning
from downslope.optim.inside import wrapped
from downslope.optim.roles import role_of
from downslope.optim.routes import names_of
from downslope.training.facts import one_line

FEWEST = 4
"""Examples at least on which a training is taken up again: those of an exclusive or."""

SECONDS = 20.0
"""Time for it, if not said otherwise; what is being measured when it is up is measured to its end."""

MEANT = (
    "learning-rate-too-low", "too-few-steps", "batch-too-large", "high-bias", "noisy-gradient", "plateau",
    "class-imbalance",
)  # fmt: skip
"""What a training that learnt something may be on purpose: short, small, or out for all examples alike and
not for all classes. Of rare classes that its own held-out answers miss, watching tells by itself."""

STEPS = 60
"""Steps of the training, at least, that have to fit into the time for trials. Convention."""

QUICK = 5.0
"""Seconds of a training that learnt something, up to which others are tried beside it. Convention."""

MORE = 8.0
"""Seconds that such a trial may take beyond the training's own, as of a diagnosis."""

ALIKE = 0.1
"""Difference of two ends in the loss of a constant guess up to which a copy went as the training did.
Convention; bench/diagnosis."""

SEEN = ("high-variance", "dataset-shift", "unshuffled-data", "mode-gap")
"""Of these a part of the examples, in another order and scored in eval mode, tells nothing."""


class Kept(NamedTuple):
    """What is there of a watched training."""

    shown: Shown
    function: Loss | None
    """The objective, as a mean."""
    held: Shown | None
    optimizers: Sequence[torch.optim.Optimizer]


class Scored:
    """An objective that is handed what a script's own was: that tensor of the output, in that shape.

    Args:
        function: The script's.
        shape: Of the output that it was handed, with the examples as the first axis.
        folded: Whether it was handed examples and their steps as one axis.
    """

    def __init__(self, function: Loss, shape: tuple[int, ...], folded: bool) -> None:
        self.function, self._shape, self._folded = function, shape, folded
        said = meaning(function)
        self.expects, self.target, self.reduction = said.expects, said.target, said.reduction
        self.__name__ = said.name

    def __call__(self, output: Any, target: Tensor) -> Tensor:
        """The script's own value."""
        made = output_of(output, (len(target), *self._shape[1:]))
        if self._folded:
            return self.function(made.flatten(0, 1), target.flatten(0, 1))
        return self.function(made, target)

    def taking(self, function: Loss) -> Scored:
        """The same of another function."""
        return Scored(function, self._shape, self._folded)

    @property
    def in_code(self) -> str | None:
        """What the function is in torch's words, where it says that itself."""
        return getattr(self.function, "in_code", None)

    def __str__(self) -> str:
        return str(self.function)


def wanted(found: Diagnosis) -> bool:
    """Whether a watched training has no cause of what it did not learn: it learnt nothing, or it was short
    enough to be tried and came not all the way.
    """
    run = found.run
    if found.root is not None or run.status not in ("done", "diverged") or run.facts.get("rivals"):
        return False
    if found.lost:
        return True
    how, took = progress(run), float(run.summary.get("seconds") or 0.0)
    return took <= QUICK and not (how.solved or short(run) or found.blind)


def alike(run: Run, copy: Run) -> bool:
    """Whether a copy went as the training did: its batches' losses end at the same level.

    What it was not told of, such as a schedule, another order or a penalty, would show there.
    """
    here, there = smoothed(run), smoothed(copy)
    base = progress(run).constant
    if here is None or there is None or base is None:
        return here is None and there is None
    return abs(here - there) <= ALIKE * abs(base)


def adopt(found: Diagnosis, copy: Diagnosis, left: Collection[str] = ()) -> bool:
    """Take over the cause that a trial beside `copy` proved, where it went as the training did.

    What shows without a trial is for watching to see, in what the script itself did; only where nothing was
    learnt, and no cause was seen, it is taken over too. So are inputs that say nothing, where what the script
    itself scored on held-out data never told anything either.

    Args:
        found: Of the training; gets the cause.
        copy: Of the copy.
        left: Modules of the training that no optimizer holds, which are held fixed in the copy.
    """
    run, ended = copy.run, progress(copy.run)
    causes = [
        left_out(each if found.lost else _careful(each), run, left)
        for each in copy.findings
        if each.severity != "info"
        and each.symptom not in (SEEN if found.lost else (*SEEN, *MEANT))
        and (
            found.lost
            or trial_of(run, each.symptom) is not None
            or (each.symptom == "uninformative-inputs" and untold(found.run))
        )
    ]
    same = alike(found.run, run) or (found.lost and (ended.standing or ended.ended_far))
    if not causes or not same:
        return False
    named = {each.symptom for cause in causes for each in (cause, *cause.consequences)}
    found.findings = [*causes, *(each for each in found.findings if each.symptom not in named)]
    found.cleared = [row for row in found.cleared if row[0] not in named]
    found.not_checked = [row for row in found.not_checked if row[0] not in named]
    return True


FAILURES = (DownslopeError, RuntimeError, ValueError, MemoryError)
"""How a copy may fail: refused here, by torch or by NumPy. What the script's own code raises in a step comes
as a `ModelError`; anything else is a fault of ours, and is not kept quiet."""


def retry(found: Diagnosis, kept: Kept, seconds: float, talk: Callable[[str], None] | None = None) -> None:
    """Take a training up again, and add to `found` what that shows.

    Args:
        found: Gets the causes, and a note of what was done.
        kept: What is there of it.
        seconds: Time for it.
        talk: Told before it begins.
    """
    took, steps = float(found.run.summary.get("seconds") or 0.0), int(found.run.summary.get("steps") or 1)
    if took / steps * STEPS > seconds:
        if found.lost:
            found.notes.append(f"Nothing was tried beside it: a step takes {took / steps:.2g} s.")
        return
    why, begun = "no cause in what was seen" if found.lost else "it came not all the way", False
    if not found.lost:
        seconds = min(seconds, MORE + took)
    try:
        problem = problem_of(kept)
        recipe = recipe_of(found.run, problem.train_source.size or 0)
        recipe = stepped_by(recipe, kept)
        if talk is not None:
            talk(f"{why}: what would have helped is tried on copies, for about {seconds:.0f} s")
        begun = True
        with undisturbed(), torch.enable_grad():
            copy = diagnose(problem, recipe, budget=seconds, progress=False, folder=False)
    except KeyboardInterrupt:
        found.notes.append("Ctrl-C: what would have helped was not tried to the end.")
        return
    except FAILURES as error:
        if found.lost or begun:
            found.notes.append(f"Nothing could be tried beside it: {one_line(error)}.")
        return
    run = copy.run
    size = run.problem.train_source.size if run.problem is not None else None
    told = f"on copies of its model and {size} of its examples, from its first weights ({copy.seconds:.0f} s)"
    adopted = adopt(found, copy, left_of(kept))
    if not (adopted or found.lost):
        found.notes.append(f"{outcome(found.run, copy)}, {told}.")
    else:
        proved = adopted and any(trial_of(run, name) is not None for name in found.symptoms)
        seen = "Tried after the script" if proved else "Found after the script"
        how = seen if adopted else "Nothing that was tried after the script helped"
        found.notes.append(f"{how}, {told}.")
    found.run.facts["replay"] = {
        "examples": size, "steps": run.summary.get("steps"), "seconds": copy.seconds,
        "verdict": copy.verdict, "healthy": copy.healthy, "findings": copy.symptoms,
        "alike": alike(found.run, run), "adopted": adopted,
    }  # fmt: skip


def _careful(cause: Finding) -> Finding:
    """Inputs that say nothing, of a training that learnt its examples a little: others may come to tell."""
    if cause.symptom != "uninformative-inputs":
        return cause
    whole = "nothing about the target can be told from these inputs"
    seen = "neither trees nor a linear model find anything about the target in these inputs"
    return replace(cause, severity="warning", message=cause.message.replace(whole, seen))


def outcome(run: Run, copy: Diagnosis) -> str:
    """What came of trials beside a training that learnt something, where none is taken over as its fault."""
    if not alike(run, copy.run):
        here, there = (smoothed(each) for each in (run, copy.run))
        ends = "" if here is None or there is None else f" (loss {there:.4g}, the training {here:.4g})"
        return (
            f"What was tried after the script tells nothing: its copy did not end as the training did{ends}"
        )
    tried = [(f, trial_of(copy.run, f.symptom)) for f in copy.findings if f.severity != "info"]
    helped = [(f, trial) for f, trial in tried if trial is not None and not unconfirmed(trial)]
    if not helped:
        return "Nothing that was tried after the script helped materially"
    first, trial = helped[0]
    edit = f"{trial['edit']} ({first.symptom})"
    return f"Tried after the script, no fault where it is as meant: {edit} {won(trial)}"


def problem_of(kept: Kept) -> Problem:
    """The problem of a watched training.

    Raises:
        ModelError: the model cannot be copied, or its first weights were not kept.
        DataError: too little was kept.
        ObjectiveError: the objective is no function that was heard.
    """
    shown = kept.shown
    model = shown.passes[0].module() if shown.passes else None
    if model is None or shown.first is None or shown.first[0]() is not model:
        raise ModelError("what its model was handed, and the first weights, were not kept")
    if len(kept.optimizers) != 1:
        raise ModelError(f"{len(kept.optimizers)} optimizers trained it")
    if kept.function is None:
        raise ObjectiveError("its objective is not one function of output and target")
    data, split = _data(shown)
    if len(data[-1]) < FEWEST:
        raise DataError(f"only {len(data[-1])} of its examples were kept")
    first = shown.passes[0]
    held = None if kept.held is None or not kept.held.passes else kept.held
    valid = None if held is None or held.passes[0].module() is not model else _data(held)[0]
    objective = kept.function if first.alone else Scored(kept.function, first.shape, first.folded)
    again = _first_model(model, shown.first[1], kept.optimizers)
    return Problem(model=again, objective=objective, train=data, valid=valid, split=split)


def _first_model(
    model: nn.Module, first: Mapping[str, Tensor], optimizers: Sequence[torch.optim.Optimizer]
) -> nn.Module:
    """A copy of `model` with its `first` weights; what no optimizer holds stays as it is.

    Raises:
        ModelError: it cannot be copied, or has other layers by now.
    """
    inner, made = plain_module(model), copied(plain_module(model))
    own = weights(made)
    if {name: each.shape for name, each in own.items()} != {n: each.shape for n, each in first.items()}:
        raise ModelError("its layers are others than they were at its first step")
    with torch.no_grad():
        for name, each in own.items():
            each.copy_(first[name])
    trained = {id(p) for p in parameters_of(*optimizers)}
    for theirs, ours in zip(inner.parameters(), made.parameters(), strict=True):
        ours.requires_grad_(theirs.requires_grad and id(theirs) in trained)
        ours.grad = None
    return made.train()


def left_of(kept: Kept) -> list[str]:
    """The modules of a watched training whose parameters take a gradient, and none is in an optimizer."""
    model = kept.shown.passes[0].module()
    trained = {id(p) for p in parameters_of(*kept.optimizers)}
    own = [] if model is None else named_modules(plain_module(model))
    opened = [(name, [p for p in own_parameters(each) if p.requires_grad]) for name, each in own]
    return [name or "model" for name, p in opened if p and not any(id(each) in trained for each in p)]


def _data(shown: Shown) -> tuple[tuple[Tensor, ...], batches.Split]:
    """The examples that were kept, each once, the targets last; and how they go into a call."""
    calls = [pytree.tree_flatten((each.args, each.kwargs)) for each in shown.passes]
    leaves, form = calls[0]
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    joined = [torch.cat([given[i] for given, _ in calls]) for i in places]
    joined.append(torch.cat([each.target for each in shown.passes]))
    flat = np.concatenate([each.cpu().double().reshape(len(each), -1).numpy() for each in joined], axis=1)
    _, once = np.unique(flat, axis=0, return_index=True)
    rows = torch.from_numpy(np.sort(once))

    def split(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        filled = list(leaves)
        for i, tensor in zip(places, batch, strict=False):
            filled[i] = tensor
        args, kwargs = pytree.tree_unflatten(filled, form)
        return args, kwargs, batch[-1]

    return tuple(each[rows.to(each.device)] for each in joined), split


def recipe_of(run: Run, rows: int) -> Recipe:
    """The recipe of a watched training: its optimizer's settings, its batches, its steps.

    Raises:
        RecipeError: the optimizer is none that a recipe can name, or its rate is not known.
    """
    told: Mapping[str, Any] = run.facts["optimizer"]
    name = str(told["name"]).removesuffix(" by hand")
    try:
        known = optimizer_defaults(name)
    except DownslopeError:
        name = str(told.get("class", name))
        if name == "downslope.optim.custom:Custom":
            raise RecipeError("its optimizer is a chain of the script's own, which no name makes") from None
        known = optimizer_defaults(name)
    given = {key: value for key, value in told.items() if key in known and key != "lr"}
    rates = run.history.series("lr").values
    rates = rates[np.isfinite(rates) & (rates > 0)]
    lr = float(np.median(rates)) if len(rates) else told.get("lr")
    if lr is None or not math.isfinite(lr):
        raise RecipeError("its learning rate is not known")
    batch, steps = int(run.facts.get("batch_size") or rows), int(run.summary.get("steps") or 1)
    return Recipe(optimizer=name, lr=lr, batch_size=min(batch, rows), steps=steps, decay="all", **given)


def stepped_by(recipe: Recipe, kept: Kept) -> Recipe:
    """`recipe` with what its optimizer's first group does not tell in plain settings: who wraps it, and which
    parameters it steps how, where it tells them apart by their roles.
    """
    optimizer, model = kept.optimizers[0], kept.shown.passes[0].module()
    group = cast("Mapping[str, Any]", optimizer.param_groups[0])
    name = wrapped(optimizer, str(recipe.optimizer))
    known = optimizer_defaults(name)
    before = optimizer_defaults(recipe.optimizer)
    own = {key: group[key] for key in known if key in group and key not in before}
    if isinstance(group.get("matrices"), Mapping):
        own["matrices"] = group["matrices"]
    if "roles" in known and model is not None:
        told = {
            id(p): role_of(p, name, each["roles"])
            for each in optimizer.param_groups
            for p, name in zip(each["params"], names_of(each), strict=True)
        }
        named = plain_module(model).named_parameters()
        own["roles"] = {name: told[id(p)] for name, p in named if id(p) in told}
    return recipe.edit(**{**recipe.settings, **own, "optimizer": name, "lr": recipe.lr})
