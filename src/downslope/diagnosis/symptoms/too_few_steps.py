"""Too few steps. The run was stopped while it was still learning.

A user sees curves that go down to the last step. Nothing is wrong but the length. How we know: the loss still
falls over the last fifth of the run, no other rate or remedy does better in as many steps, and a run three
times as long comes much further. What looks like it and is not: a learning rate that is too low, which a
larger one mends in the same time, and a long tail of small gains.
Source: Li et al. 2018, Hyperband, section 2 (what a resource buys); a trial of ours settles it.
"""

from __future__ import annotations

from downslope.core.edits import Advice, SetRecipe
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, trial_of, tried, trying
from downslope.diagnosis.structure import UNUSED
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.diagnosis.unfinished import BOUGHT, FALLING, TOLD, unfinished

TIMES, SHORT, LONGER = 3, 150, 10
"""How much longer the trial is; and from how few steps down it is longer still, because that costs little."""

OFTEN = 3
"""Steps, at least, between which that has to be seen. Convention."""

_SOURCE = "a trial three times as long; bench/diagnosis"


@symptom(
    "too-few-steps",
    title="the run was stopped while it was still learning",
    order=("step", 7),
    needs=("history:train_loss",),
    explains=("high-bias",),
    source=_SOURCE,
)
def too_few_steps(run: Run) -> Verdict:
    """The loss still falls at the end of a run that is far from what is reachable, or steps were left out."""
    how = progress(run)
    if (left := _left_out(run)) is not None:
        return left
    said = _fall(run)
    if not unfinished(run):
        return Clear(said)
    if run.facts.get("truncated"):
        return Unknown("the budget cut the run short")
    if run.recipe is None or not trying(run):
        return Unknown(not_tried(run))
    if answered(run) and "too-few-steps" not in run.facts["trials"]:
        return Unknown(not_tried(run))
    severity = settle(run, "too-few-steps", strong=False, material=BOUGHT)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'too-few-steps')}")
    last = max(1, int(run.summary.get("steps") or 1))
    times = LONGER if last <= SHORT else TIMES
    key = "epochs" if run.recipe.epochs is not None else "steps"
    given = getattr(run.recipe, key)
    return Finding(
        symptom="too-few-steps",
        title="the run was stopped while it was still learning",
        severity=severity,
        where=Where(steps=(max(1, last - last // 5), last)),
        evidence=Evidence(
            name="fall of the loss over the last fifth of the run",
            value=how.falling,
            threshold=FALLING,
            unit="share of the way to what is reachable",
            provenance="convention; a trial settles it",
        ),
        also=proved(run, "too-few-steps", BOUGHT),
        message=f"{said[0].upper()}{said[1:]}, and it {_done(run)}.{tried(run, 'too-few-steps')}",
        remedies=(SetRecipe({key: times * int(given or 1)}, {key: given}),),
        source=_SOURCE,
    )


def _fall(run: Run) -> str:
    """How much of the way the last fifth went; of a short run, and beyond the whole way, no share."""
    falling, taken = progress(run).falling, len(run.history.series("train_loss").steps)
    if falling < FALLING and taken < TOLD:
        return f"{taken} steps are too few to see whether the loss still falls"
    if falling >= 1.0:
        known = table(run, "constant").get("loss") is not None
        base = "a constant guess" if known else "the start"
        return f"over its last fifth the loss fell by as much as the whole run came below {base}"
    return f"over its last fifth the loss fell by {max(falling, 0.0):.1%} of the way"


def _done(run: Run) -> str:
    """Whether the run was done; without a trial nothing says so for certain."""
    return "may not have been done" if trial_of(run, "too-few-steps") is None else "was far from done"


def _left_out(run: Run) -> Verdict | None:
    """The verdict on a loop that clears most gradients before any step uses them; None where it does not."""
    unused, how = table(run, "unused"), progress(run)
    if unused.get("share", 0.0) < UNUSED or unused["seen"] < OFTEN:
        return None
    count = float(unused["passes"])
    said = f"{count:g} backward passes for one step, and {unused['share']:.0%} of them cleared unused"
    if how.share is not None and not how.ended_far:
        return Clear(f"{said}, but the run came far enough")
    severity: Severity = "critical" if how.standing else "warning" if how.ended_far else "info"
    return Finding(
        symptom="too-few-steps",
        title="gradients that no step uses",
        severity=severity,
        evidence=Evidence(
            name="backward passes whose gradient was cleared before any step used it",
            value=float(unused["share"]),
            threshold=UNUSED,
            unit="share of the passes between two steps",
            provenance="0 where every gradient is used, by itself or added to others",
        ),
        message=f"{said[0].upper()}{said[1:]}: the loop clears the gradients more often than it steps, and a "
        "step goes along the last batch alone.",
        remedies=(
            Advice("call optimizer.step() after every loss.backward(), inside the loop over the batches"),
        ),
        source="torch.optim: zero_grad, backward and step belong to each other",
    )
