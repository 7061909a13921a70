"""Summed objective. The loss is a sum over the batch, so the step grows with the number of examples in it.

A user sees a loss that explodes or hops, and a learning rate that has to be hundreds of times smaller than
usual; it changes again with the batch size. The gradient of a sum over n examples is n times that of their
mean, so the step of plain descent is n times as long. Adaptive methods divide the factor out, and clipping
or weight decay then act on another scale. What looks like it and is not: a sum over classes or pixels within
an example, and a sum under a rate that was chosen for it.
Source: Goyal et al. 2017, Accurate, large minibatch SGD, section 2.1 (the rule of scaling assumes a mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetObjective, SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.run import Run
from downslope.diagnosis.early import thrown
from downslope.diagnosis.measure.summed import SUM
from downslope.diagnosis.named import named
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.rates import own_rate
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.objectives.adapters import Averaged
from downslope.optim.stability import ADAPTIVE

PLAIN = ("gd", "sgd", "momentum", "nesterov", "averaged_momentum", "schedule_free_sgd")
"""Methods whose step is in proportion to the gradient."""

SCALED = frozenset({
    "lion", "signum", "muon", "lamb", "lars", "adafactor", "soap", "shampoo",
    "cautious_adamw", "cautious_lion", "sparse_adam",
})  # fmt: skip
"""Methods that divide the gradient by its size, beside those of `ADAPTIVE`."""

_SOURCE = "Goyal et al. 2017, section 2.1"


@symptom(
    "summed-objective",
    title="the loss is a sum over the batch",
    order=("output", 3),
    needs=("objective",),
    explains=(
        "init-scale", "dead-units", "saturated-units", "vanishing-gradient", "exploding-gradient",
        "learning-rate-too-high", "oscillation", "cliff",
    ),
    source=_SOURCE,
)  # fmt: skip
def summed_objective(run: Run) -> Verdict:
    """The objective grows with the batch, and the run suffers from the step that follows from it."""
    growth = run.facts["objective"].get("growth")
    if growth is None:
        return Unknown("the objective could not be called on a batch of another size")
    if growth < SUM:
        times = f"{growth:.3g}"
        return Clear(f"a batch taken twice has {'the same' if times == '1' else f'{times} times the'} loss")
    how = progress(run)
    if not how.ended_far:
        return Clear("the loss is a sum over the batch, and the run does well with it")
    severity = settle(run, "summed-objective", strong=how.standing and thrown(run))
    if severity is None:
        return Clear(f"the loss is a sum over the batch; {refuted(run, 'summed-objective')}")
    return Finding(
        symptom="summed-objective",
        title="the loss is a sum over the batch",
        severity=severity,
        evidence=Evidence(
            name="loss of a batch taken twice in the loss of it once",
            value=growth,
            threshold=SUM,
            provenance="1 for a mean, 2 for a sum",
        ),
        also=proved(run, "summed-objective"),
        message=f"The loss adds up the examples of a batch instead of taking their mean{_so(run)}."
        f"{tried(run, 'summed-objective')}",
        remedies=_remedies(run),
        source=_SOURCE,
    )


def _so(run: Run) -> str:
    """What that does to a step of the run's method."""
    rule: Mapping[str, Any] = run.facts.get("optimizer") or {}
    name = str(rule.get("name") if run.recipe is None else run.recipe.optimizer)
    inner, size = name.rpartition("(")[2].rstrip(")"), _size(run)
    if inner in PLAIN:
        much = f"{size} times as long as by their mean at the same learning rate"
        return f", so every step is {much}, and grows with the batch size"
    if inner in ADAPTIVE | SCALED:
        return (
            f", so the gradient is {size} times that of their mean. {inner.capitalize()} divides that factor "
            "out of its steps again; clipping, weight decay in the gradient, and eps act on another scale"
        )
    return f", so the gradient is {size} times that of their mean, and grows with the batch size"


def _size(run: Run) -> str:
    size = run.facts.get("batch_size") if run.recipe is None else run.recipe.batch_size
    return f"{size}" if isinstance(size, int) else "n"


def _remedies(run: Run) -> tuple[Edit, ...]:
    if run.facts["objective"].get("watched"):
        return (Advice('take the mean over the batch: reduction="mean", or loss / len(batch)'),)
    objective = None if run.problem is None else run.problem.objective
    edits: list[Edit] = []
    if (name := named(run)) is not None:
        edits.append(SetObjective(name))
    elif objective is not None:
        edits.append(SetObjective(Averaged(objective)))
    lr, size = own_rate(run), None if run.recipe is None else run.recipe.batch_size
    if lr and isinstance(size, int):
        edits.append(SetRecipe({"lr": float(f"{lr / size:.2g}")}, {"lr": lr}))
    return tuple(edits)
