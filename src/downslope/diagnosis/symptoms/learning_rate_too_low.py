"""Learning rate too low. The loss falls steadily, smoothly, and is nowhere when the steps are used up.

The weights hardly move: an update of a millionth of the weight cannot go far in some thousand steps. Or they
move no more, because a schedule took the rate away in the first of them (`downslope.diagnosis.spent`), or at
all, where rounding leaves nothing of a step (`downslope.diagnosis.rounded`). What looks like it and is not: a
gradient that does not arrive (then the update is small only in some layers), a run that has arrived, and too
few steps at a rate that is right (then a larger rate does not help).
Source: Bengio 2012, Practical recommendations, section 3.1; the ratio of update to weight: Karpathy, CS231n.
"""

from __future__ import annotations

import math

import numpy as np

from downslope.core.edits import Advice, Edit, SetRecipe
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.rates import said
from downslope.core.recipe import optimizer_defaults
from downslope.core.run import Run
from downslope.diagnosis.clipped import FAINT, Clipped, clipped
from downslope.diagnosis.early import inflated
from downslope.diagnosis.progress import Progress, progress, table
from downslope.diagnosis.proof import (
    LEAST,
    MATERIAL,
    answered,
    gain,
    not_tried,
    proved,
    refuted,
    settle,
    trial_of,
    tried,
    trying,
    won,
)
from downslope.diagnosis.rates import USUAL, best_rate, guessed, own_rate, rates_tried
from downslope.diagnosis.rounded import Lost, lost
from downslope.diagnosis.spent import GONE, MOST, Spent, spent, unmeasured
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.diagnosis.unfinished import BOUGHT, TOLD, unfinished

TINY = 1e-4
"""Update of a module in its weights, median over modules and steps; about 1e-3 is usual (CS231n)."""

CERTAIN = 5e-5
"""The same at which, without a trial, a run that stands still is put down to it."""

STILL = 0.01
"""Way of the weights over all steps, and fall of the loss, as shares of their sizes, under which a run did
nothing; fine-tuning at the usual rates moves its weights by several times that. Convention."""

FEWEST = 20
"""Steps under which it is their number that is too small. Convention."""

BLIND = 0.4
"""Share of the way that a larger rate has to recover where no validation data tells learning from
memorising."""

_SOURCE = "Bengio 2012, Practical recommendations, section 3.1; CS231n, ratio of updates to weights"


@symptom(
    "learning-rate-too-low",
    title="learning rate too low",
    order=("step", 1),
    needs=("history:train_loss",),
    explains=("too-few-steps", "plateau", "saddle-point", "ill-conditioned", "high-bias"),
    source=_SOURCE,
)
def learning_rate_too_low(run: Run) -> Verdict:
    """The run ended far away while a larger rate goes much further in as many steps."""
    lr = own_rate(run)
    if lr is None:
        return Unknown("the learning rate is not known")
    if lr == 0:
        return _zero(run)
    how = progress(run)
    update = _update(run)
    moved = "" if math.isnan(update) else f", median update {update:.2g} of the weights"
    if how.diverged:
        return Clear("the run left the finite numbers")
    if (gone := unmeasured(run)) is not None:
        return _of_schedule(run, gone, "warning" if gone.falling else "info")
    if not how.ended_far and inflated(run):
        return Unknown("inputs or weights out of scale made the first loss: it says not how far the run came")
    if not how.ended_far:
        return Clear(f"the run came far enough{moved}")
    if (gone := spent(run)) is not None and (told := _by_schedule(run, gone)) is not None:
        return told
    certain = update < CERTAIN and (how.standing or _unmoved(run, update))
    if (held := clipped(run)) is not None and (told := _by_clip(run, held, update, certain)) is not None:
        return told
    if run.facts.get("truncated") and not certain:
        return Unknown("the run was cut short, so that a small rate may still arrive")
    taken = len(run.history.series("train_loss").steps)
    if taken < FEWEST and how.ended_far:
        return Unknown(f"{taken} steps are too few to judge a rate")
    if taken < TOLD and trying(run) and unfinished(run) and (reason := _steps(run)) is not None:
        return reason
    higher = best_rate(run, "higher")
    kept = lost(run) is None or not certain  # else the rates beside it are lost too, and tell nothing
    if trying(run) and higher is None and rates_tried(run) and kept:
        return Clear(f"no higher rate did better in a short trial{moved}")
    if higher is None and not certain:
        return Unknown(not_tried(run))
    if higher is None and answered(run, beside="learning-rate-too-low"):
        return Unknown(not_tried(run))
    trial = trial_of(run, "learning-rate-too-low")
    blind = trial is not None and trial.get("valid_share") is None
    severity = settle(run, "learning-rate-too-low", strong=certain, material=BLIND if blind else MATERIAL)
    if severity is None:
        return Clear(refuted(run, "learning-rate-too-low") + moved)
    return _finding(run, severity, update, higher)


def _by_schedule(run: Run, gone: Spent) -> Verdict | None:
    """The verdict on a schedule that left the run without a rate; None where nothing can be told of it."""
    certain = gone.starved(progress(run))
    trial = trial_of(run, "learning-rate-too-low")
    if trial is None and not certain and (not trying(run) or answered(run)):
        return None
    severity = settle(run, "learning-rate-too-low", strong=certain)
    if severity is None:
        return Clear(refuted(run, "learning-rate-too-low"))
    return _of_schedule(run, gone, severity)


def _by_clip(run: Run, held: Clipped, update: float, certain: bool) -> Verdict | None:
    """The verdict on gradients that are clipped to nothing; None where nothing can be told of it."""
    if trial_of(run, "learning-rate-too-low") is None and not certain and (not trying(run) or answered(run)):
        return None
    severity = settle(run, "learning-rate-too-low", strong=certain)
    if severity is None:
        return Clear(refuted(run, "learning-rate-too-low"))
    lr, norm, recipe = own_rate(run) or math.nan, held.norm, run.recipe
    how = "the link ClipNorm(max_norm=1)" if held.inside else "clip_grad_norm_"
    edits: list[Edit] = [Advice(f"clip to a norm of 1 or more ({how}), or not at all")]
    if recipe is not None and not held.inside:
        edits = [
            SetRecipe({"clip_norm": 1.0, "clip_value": None}, {"clip_norm": recipe.clip_norm})
            if recipe.clip_value is not None
            else SetRecipe({"clip_norm": 1.0}, {"clip_norm": recipe.clip_norm})
        ]
    seen = f" in all {held.looks} sampled steps" if held.looks else " inside the optimizer" * held.inside
    steps = run.history.series("train_loss").steps
    return Finding(
        symptom="learning-rate-too-low",
        title="gradients clipped to nothing",
        severity=severity,
        where=Where(steps=(1, max(1, int(steps[-1])))),
        evidence=Evidence(
            name="norm that the gradient is clipped to",
            value=norm,
            threshold=FAINT,
            unit="norm of the whole gradient",
            provenance="a norm of 1 is usual",
        ),
        also=proved(run, "learning-rate-too-low"),
        message=f"The gradient is clipped to a norm of {norm:.2g}{seen}: at lr {lr:.3g} a step moves the "
        f"weights by {update:.2g} of their size, and {_came(run, progress(run), update)}. The clip is too "
        f"tight, not the rate too low.{tried(run, 'learning-rate-too-low')}",
        remedies=(*edits,),
        source=_SOURCE,
    )


def _of_schedule(run: Run, gone: Spent, severity: Severity) -> Finding:
    schedule = None if run.recipe is None else run.recipe.schedule
    edit: Edit = Advice(
        "step the scheduler once an epoch, after the loop over its batches, or give it a gamma or a T_max "
        f"that lasts for {gone.steps} steps"
    )
    if schedule is not None:
        edit = SetRecipe({"schedule": "constant"}, {"schedule": said(schedule)})
    open_ = " How far it could have come is not known." if unmeasured(run) is not None else ""
    return Finding(
        symptom="learning-rate-too-low",
        title="learning rate too low",
        severity=severity,
        where=Where(steps=(gone.since, gone.steps)),
        evidence=Evidence(
            name=f"steps taken at {GONE:.0%} of the highest rate or less",
            value=gone.share,
            threshold=MOST,
            unit="share of the run",
            provenance="convention: a hundred such steps do what one did",
        ),
        also=proved(run, "learning-rate-too-low"),
        message=f"The schedule took the rate from {gone.peak:.3g} to {gone.last:.3g}, and to a hundredth of "
        f"it by step {gone.since} of {gone.steps}: together all steps weigh as much as {gone.weight:.0f} at "
        f"{gone.peak:.3g}.{open_}{tried(run, 'learning-rate-too-low')}",
        remedies=(edit,),
        source=_SOURCE,
    )


def _steps(run: Run) -> Unknown | Clear | None:
    """What stands before the rate in a run of few steps.

    So short a run gets further at almost any higher rate. The rate is to blame only where more steps at the
    same rate do not arrive either.
    """
    longer = trial_of(run, "too-few-steps")
    if longer is None:
        return Unknown(
            "a longer run at the same rate comes first: so few steps would go further at any higher rate"
        )
    if gain(longer) >= BOUGHT:
        return Clear(f"{longer['edit']} at the same rate {won(longer)}")
    return None


def _finding(run: Run, severity: Severity, update: float, higher: float | None) -> Finding:
    rate = own_rate(run)
    lr = math.nan if rate is None else rate
    how, gone = progress(run), lost(run)
    new = higher if higher is not None else _guess(run, lr, gone)
    blind = higher is None and trial_of(run, "learning-rate-too-low") is None
    steps = run.history.series("train_loss").steps
    moves = _moves(lr, update) if gone is None else _lost(lr, gone)
    more = "; tenfold steps from it tell" if run.recipe is None else "; downslope tune finds the right one"
    return Finding(
        symptom="learning-rate-too-low",
        title="learning rate too low" if gone is None else "steps lost in rounding",
        severity=severity,
        where=Where(steps=(1, max(1, int(steps[-1])))),
        evidence=Evidence(
            name="median update in the weights",
            value=update,
            threshold=TINY if gone is None else gone.limit,
            unit="ratio, a step",
            provenance="CS231n: about 1e-3 is usual"
            if gone is None
            else f"half a unit in the last place of {gone.dtype}: less is rounded away",
        ),
        also=proved(run, "learning-rate-too-low"),
        message=f"{moves} {_came(run, how, update)}.{tried(run, 'learning-rate-too-low')}"
        + (guessed(new, "higher", more) if blind else ""),
        remedies=_kept(run, SetRecipe({"lr": new}, {"lr": lr}), gone),
        source=_SOURCE,
    )


def _guess(run: Run, lr: float, gone: Lost | None) -> float:
    """A hundredfold; where steps are lost a usual rate, and a tenfold at least."""
    return lr * 100 if gone is None else max(lr * 10, _usual(run))


def _usual(run: Run) -> float:
    known = table(run, "optimizer") if run.recipe is None else {"name": run.recipe.optimizer}
    return USUAL.get(str(known.get("name")), 1e-3)


def _moves(lr: float, update: float) -> str:
    return f"At lr {lr:.3g} a step moves the weights by {update:.2g} of their size, and"


def _lost(lr: float, gone: Lost) -> str:
    left = f" (a step moves {gone.ratio:.2g} of their size)" if gone.ratio else ""
    return (
        f"At lr {lr:.3g} the steps are lost in rounding: {gone.dtype} keeps no change below "
        f"{gone.limit / 2:.1g} to {gone.limit:.1g} of a weight, and {'' if gone.whole else 'nearly '}all "
        f"weights stand bit for bit{left} although they have a gradient;"
    )


def _kept(run: Run, higher: SetRecipe, gone: Lost | None) -> tuple[Edit, ...]:
    """The higher rate, and what keeps the steps of half precision: first in a loop whose rate is usual."""
    if gone is None or not gone.half:
        return (higher,)
    keep = Advice('weights in float32, or an optimizer of ds.optim with rounding="stochastic" or "master"')
    if run.recipe is not None:
        known = "rounding" in optimizer_defaults(run.recipe.optimizer)
        return (higher, SetRecipe({"rounding": "master"}) if known else keep)
    return (keep, higher) if higher.before["lr"] * 100 >= _usual(run) else (higher, keep)


def _unmoved(run: Run, update: float) -> bool:
    """Whether all steps together hardly moved weights or loss: a lucky beginning is no learning."""
    how, steps = progress(run), len(run.history.series("train_loss").steps)
    if how.first is None or how.final is None or not update * steps < STILL:
        return False
    fall = (how.first - how.final) * (-1.0 if run.maximize else 1.0)
    return fall < STILL * abs(how.first)


def _came(run: Run, how: Progress, update: float) -> str:
    if not how.standing and _unmoved(run, update):
        return f"all of them took the loss from {how.first:.4g} to {how.final:.4g}"
    if (how.share or 0.0) < LEAST:
        return "the steps were used up with nothing gained"
    return f"the steps were used up {how.share:.0%} of the way"


def _zero(run: Run) -> Finding:
    """A rate of 0, with which nothing moves."""
    recipe = run.recipe
    new = optimizer_defaults(recipe.optimizer).get("lr") if recipe is not None else None
    return Finding(
        symptom="learning-rate-too-low",
        title="learning rate too low",
        severity="critical",
        evidence=Evidence(
            name="learning rate", value=0.0, threshold=0.0, unit="lr", provenance="a step of 0 moves nothing"
        ),
        message="The learning rate is 0: no step moves a weight.",
        remedies=(SetRecipe({"lr": new or 1e-2}, {"lr": 0.0}),),
        source=_SOURCE,
    )


def _update(run: Run) -> float:
    if (gone := lost(run)) is not None:
        return gone.ratio
    if "update_ratio" not in run.probes:
        return math.nan
    values = run.probes["update_ratio"].values
    finite = values[np.isfinite(values) & (values > 0)]
    return float(np.median(finite)) if finite.size else math.nan
