"""Objective mismatch. The loss falls and what one cares for does not follow, or it compares the wrong pairs.

A user sees a loss that goes down to a level that means nothing, and a metric that stays that of a guess. An
output (n, 1) against a target (n,) is broadcast to (n, n): every output is compared with every target, and
the mean is the best that can be said. A sign turned round, by a minus or by an optimizer that climbs, labels
for other classes, a squared error on class numbers: the objective then has its minimum elsewhere than the
metric its best. How we know: the output itself, free of any model, goes down on the objective; if even that
does not raise the metric above a constant guess, no model can. What looks like it and is not: a surrogate
that is only loosely tied to the metric (a squared error on one-hot targets), which a free output follows to
the end.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 8.1.2; torch's broadcasting semantics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetObjective, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.named import named
from downslope.diagnosis.progress import bounded, progress, table
from downslope.diagnosis.proof import BLUNDER, gain, proved, settle, trial_of, tried
from downslope.diagnosis.surrogate import surrogate
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom
from downslope.diagnosis.uphill import Turned, Zero, turned_round, zero
from downslope.objectives.adapters import Aligned
from downslope.training.facts.aligned import DIFFERENT, difference
from downslope.training.facts.output import BEYOND

FOLLOWED = 0.2
"""Share of the way from a constant guess to the best metric that a free output has to cover; sound pairs of
objective and metric cover 0.9 and more (bench/diagnosis)."""

_SOURCE = "Goodfellow et al. 2016, section 8.1.2"


@symptom(
    "objective-mismatch",
    title="the objective does not lead where the metric looks",
    order=("output", 1),
    explains=("unscaled-targets", "model", "step", "terrain", "generalisation"),
    source=_SOURCE,
)
def objective_mismatch(run: Run) -> Verdict:
    """Output and target are broadcast against each other, or the objective's best is not the metric's."""
    if (turned := turned_round(run)) is not None:
        return _climbing(run, turned) if turned.climbs else _minus(run, turned.name)
    if (nothing := zero(run)) is not None and (nothing.sure or progress(run).standing):
        return _zero(run, nothing)
    if (reason := missing(run, "objective")) is not None:
        return Unknown(reason)
    objective: Mapping[str, Any] = run.facts["objective"]
    apart = difference(objective)
    if apart is not None or objective.get("crossed"):
        return _compared_with_all(run, apart)
    output: Mapping[str, Any] = run.facts.get("output") or {}
    if (beyond := output.get("outside")) is not None:
        return _without_floor(run, beyond)
    followed, guess = objective.get("followed"), objective.get("guess")
    if followed is None or guess is None:
        return Clear("every output is compared with its own target") if "value" in objective else Unknown(
            "the objective could not be called")  # fmt: skip
    share = _share(run, followed, guess)
    said = f"a free output that follows the objective takes the metric from {guess:.3g} to {followed:.3g}"
    if share is None or share >= FOLLOWED:
        return Clear(said)
    if _metric_learnt(run):
        return Clear(f"{said}, but the run's own metric is well above a guess")
    edits = _stand_in(run)
    settled = settle(run, "objective-mismatch", strong=True)
    if settled is None and trial_of(run, "objective-mismatch") is not None:
        return Clear(f"{said}; another objective did no better")
    return Finding(
        symptom="objective-mismatch",
        title="the objective does not lead where the metric looks",
        severity="critical",
        evidence=Evidence(
            name="share of the way to the best metric that a free output covers on the objective",
            value=share,
            threshold=FOLLOWED,
            unit="share of the way from a constant guess",
            provenance="0.9 and more for sound pairs; bench/diagnosis",
        ),
        also=proved(run, "objective-mismatch"),
        message=f"Even an output that follows the objective to its end has a metric of {followed:.3g}, a "
        f"constant guess has {guess:.3g}: going down on this loss does not do what is wanted (a sign turned "
        f"round, labels of other classes, an objective for another kind of target).{_by_trial(run)}",
        remedies=edits,
        source=_SOURCE,
    )


def _minus(run: Run, name: str) -> Finding:
    """Of a loss that has a lowest value, and of which the negative was taken."""
    how = progress(run)
    edits = () if run.problem is None else tuple(each for each in _stand_in(run) if each.provable)
    end = f"rose to {abs(how.final):.4g}" if how.final is not None else "left the finite numbers"
    return Finding(
        symptom="objective-mismatch",
        title="the loss is turned round by a minus",
        severity="critical",
        evidence=Evidence(
            name=f"factor of {name} in the loss",
            value=-1.0,
            threshold=0.0,
            provenance=f"{name} is never below 0, and its negative has no lowest value",
        ),
        message=f"What is gone down on is minus {name}: it falls without end, while {name} itself {end} from "
        f"{abs(how.first or 0.0):.4g}. Every step makes the answers worse.{_by_trial(run)}",
        remedies=(*edits, Advice(f"take the minus away: go down on {name} itself")),
        source=_SOURCE,
    )


def _climbing(run: Run, turned: Turned) -> Finding:
    """Of an optimizer that goes up on what is to fall."""
    how, up, on = progress(run), run.maximize, turned.name
    moved = "it left the finite numbers"
    if how.first is not None and how.final is not None:
        moved = f"it {'fell' if up else 'rose'} from {how.first:.4g} to {how.final:.4g}"
    what = f"{on}, which is to fall" if on else "the objective, which the problem wants low"
    if up:
        what = "the negative of the objective, on which the loop goes down by itself"
        moved = moved.replace("it", "the objective", 1)
    edits: list[Edit] = [SetRecipe({"maximize": False}, {"maximize": True})]
    if run.recipe is not None and not up and not turned.name:
        edits.append(Advice("where the objective is to rise, Problem(maximize=True) beside maximize=False"))
    return Finding(
        symptom="objective-mismatch",
        title="the optimizer climbs where it is to descend",
        severity="critical",
        evidence=Evidence(
            name="sign of the optimizer's steps along the gradient",
            value=1.0,
            threshold=0.0,
            provenance="maximize=True: a step up the gradient of what is to fall makes it worse",
        ),
        message=f"The optimizer climbs (maximize=True) on {what}: {moved}.{_by_trial(run)}",
        remedies=(*edits,),
        source=_SOURCE,
    )


def _zero(run: Run, nothing: Zero) -> Finding:
    """Of a loss that is 0 whatever the model puts out."""
    name = nothing.times or str(table(run, "output").get("objective"))
    if not nothing.sure:
        why = "every term of it is 0, by a factor (advantages, weights, a mask) or by a margin that is kept"
        do = "look at what the loss is multiplied by: advantages, weights or a mask that are all 0"
    elif nothing.times:
        why, do = f"it is {name} times 0", f"take the factor 0 away from {name}"
    elif nothing.column:
        why = f"the model puts out one column for the classes of {name}, whose share of them is always 1"
        do = "a column for each class, or for two classes one and torch.nn.BCEWithLogitsLoss"
    else:
        why = f"{name} compares what is the same"
        do = "check what the loss is handed: the output of the model, and targets that are none of its making"
    return Finding(
        symptom="objective-mismatch",
        title="the loss is 0 whatever the model puts out",
        severity="critical" if nothing.sure else "info",
        evidence=Evidence(
            name="largest gradient of a sampled step",
            value=0.0,
            threshold=0.0,
            provenance="where the loss is the same for all answers there is none to go down on",
        ),
        message=f"The loss is 0 at every step, and so is its gradient: {why}. Nothing can be learnt of it.",
        remedies=(Advice(do),),
        source=_SOURCE,
    )


def _by_trial(run: Run) -> str:
    return tried(run, "objective-mismatch")


def _compared_with_all(run: Run, apart: float | None) -> Verdict:
    output: Mapping[str, Any] = run.facts.get("output") or {}
    objective: Mapping[str, Any] = run.facts["objective"]
    name = named(run)
    own = None if run.problem is None else run.problem.objective
    edit: Edit | None = SetObjective(name) if name else None if own is None else SetObjective(Aligned(own))
    if objective.get("watched"):
        edit = None
    trial = trial_of(run, "objective-mismatch")
    learnt = progress(run).solved if trial is None else gain(trial) < BLUNDER
    severity = "warning" if learnt else "critical"
    return Finding(
        symptom="objective-mismatch",
        title="output and target are broadcast against each other",
        severity=severity,
        evidence=_of_shapes(run)
        if apart is None
        else Evidence(
            name="relative difference that one shape for both makes to the loss",
            value=apart,
            threshold=DIFFERENT,
            provenance="0 where every output is compared with its own target",
        ),
        also=proved(run, "objective-mismatch", BLUNDER),
        message=f"The model puts out {_shape(output)} and the target has one axis less or more: every output "
        "is compared with every target, and the best that is left is their mean."
        + tried(run, "objective-mismatch"),
        remedies=(*((edit,) if edit else ()), Advice("output.squeeze(-1), or target.unsqueeze(-1)")),
        source="torch.nn.MSELoss: its warning on differing sizes",
    )


def _without_floor(run: Run, beyond: Mapping[str, Any]) -> Finding:
    """Of targets that a logistic loss has no least value for."""
    low, high, two = float(beyond["low"]), float(beyond["high"]), bool(beyond["two"])
    said = f"are {low:g} and {high:g}" if two else f"lie between {low:g} and {high:g}"
    edits: list[Edit] = []
    if (low, high, two) == (-1.0, 1.0, True) and run.facts["output"].get("expects") == "logit":
        edits.append(SetObjective("hinge"))
    elif not two and surrogate(run) == "mse" and run.facts["output"].get("expects") == "logit":
        edits.append(SetObjective("squared_error"))
    whole = low == 0 and high.is_integer()
    other = ", or of classes a score for each and torch.nn.CrossEntropyLoss" if whole else ""
    way = f"(target - {low:g}) / {high - low:g}" if two and low < high else f"targets from 0 to 1{other}"
    return Finding(
        symptom="objective-mismatch",
        title="the targets are not those that the objective wants",
        severity="critical",
        evidence=Evidence(
            name="distance of the targets from 0 to 1, which a logistic loss is made for",
            value=max(-low, high - 1.0),
            threshold=BEYOND,
            provenance="log(1 + exp(z)) - y z has a least value for y from 0 to 1 only",
        ),
        message=f"The targets {said}, the objective wants 0 to 1: for others it falls without end, and how "
        "far it fell says nothing.",
        remedies=(*edits, Advice(f"give the objective {way}")),
        source="Goodfellow et al. 2016, section 6.2.2.2",
    )


def _of_shapes(run: Run) -> Evidence:
    """Of a loss that was written out by hand, where only the shapes in its graph were seen."""
    count = run.facts["objective"]["crossed"][0]
    return Evidence(
        name="targets that an output is compared with",
        value=float(count),
        threshold=1.0,
        unit=f"of a batch of {count}",
        provenance="1 where every output is compared with its own target",
    )


def _shape(output: Mapping[str, Any]) -> str:
    return f"({', '.join(['n', *map(str, output.get('shape') or [])])})"


def _share(run: Run, followed: float, guess: float) -> float | None:
    """Share of the way from a guess to the best metric; of a metric without a known best its sign alone."""
    problem = run.problem
    if problem is None:
        return None
    if bounded(run):
        return (followed - guess) / (1.0 - guess) if guess < 0.95 else None
    return 1.0 if problem.better(followed, guess) else 0.0


def _metric_learnt(run: Run) -> bool:
    """Whether the run's own metric came well above that of a constant guess."""
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    own, base = ending.get("train_metric"), constant.get("metric")
    if own is None or base is None or run.problem is None:
        return False
    if bounded(run):
        return own - base >= FOLLOWED * (1.0 - base)
    return run.problem.better(own, base)


def _stand_in(run: Run) -> tuple[Edit, ...]:
    name = surrogate(run)
    advice = Advice("train on an objective whose minimum is the best value of the metric")
    return (SetObjective(name), advice) if name and name != named(run) else (advice,)
