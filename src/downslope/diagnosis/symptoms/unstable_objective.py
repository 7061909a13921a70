"""Unstable objective. The loss itself leaves the finite numbers while outputs, weights and data are finite.

A user sees NaN or infinity from one step to the next, often late, when the model becomes sure of itself. The
logarithm of a softmax that rounds to 0, an exponential of a large score, a root or a quotient at 0: the
formula is right, its arithmetic is not; log-sum-exp, and losses on scores instead of probabilities, do not
round. What looks like it and is not: weights that a large step threw out of the finite numbers first, and NaN
in the data.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 4.1; Blanchard, Higham and Higham 2021,
Accurately computing the log-sum-exp and softmax functions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Edit, SetObjective
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.modules import called
from downslope.core.run import Run
from downslope.diagnosis.early import ever_rose, sudden
from downslope.diagnosis.named import named
from downslope.diagnosis.origin import Origin, origin
from downslope.diagnosis.proof import proved, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom
from downslope.training.nonfinite import MEAN_OF_NONE

_SOUND = (
    "CrossEntropyLoss", "cross_entropy", "BCEWithLogitsLoss", "binary_cross_entropy_with_logits", "MSELoss",
    "mse_loss", "mse", "L1Loss", "l1_loss", "mae", "logistic",
)  # fmt: skip
"""Objectives in whose place an edit would put the same formula."""

_SOURCE = "Goodfellow et al. 2016, section 4.1; Blanchard et al. 2021"


@symptom(
    "unstable-objective",
    title="the loss overflows or divides by zero",
    order=("output", 2),
    explains=("learning-rate-too-high", "exploding-gradient", "cliff", "init-scale", "unscaled-targets"),
    source=_SOURCE,
)
def unstable_objective(run: Run) -> Verdict:
    """The run ended in a loss, or a derivative of it, that is not finite, of outputs that are."""
    if (found := origin(run)) is not None and not _bad_data(run):
        return _of_derivative(run, found)
    if (broke := _broke(run)) is not None and not _bad_data(run):
        return _of_operation(run, broke)
    if (once := run.facts.get("nonfinite_once")) is not None and once.get("count") and not _bad_data(run):
        return _of_some(once)
    if (reason := missing(run, "objective")) is not None:
        return Unknown(reason)
    objective: Mapping[str, Any] = run.facts["objective"]
    if objective.get("gradient", 0.0) is None or "value" not in objective:
        return Unknown("the objective gives no gradient")
    if objective.get("watched"):
        why: Mapping[str, str] = run.facts.get("not_measured") or {}
        return Unknown(why.get("", "needs measurements of its own, which ds.diagnose makes"))
    breaks = objective.get("breaks")
    ended: Mapping[str, Any] = run.facts.get("nonfinite") or {}
    inside = ended.get("what") == "loss" or (ended.get("what") == "gradient" and breaks is not None)
    inside = inside or (bool(ended) and objective.get("sound") is False)
    if not ended:
        would = "" if breaks is None else f"; scores of size {breaks:g} would break it"
        return Clear("the loss stayed finite" + would)
    if not inside:
        return Clear(f"the first value that is not finite is the {ended.get('what')}")
    if breaks is None and objective.get("sound") is not False and not sudden(run):
        before = (
            "the loss got worse" if ever_rose(run) else "the weights were thrown far, or nothing was seen,"
        )
        return Clear(f"{before} before it left the finite numbers: that speaks for the step, not the formula")
    step = ended.get("step")
    name = None if _sound(run) else named(run)
    edits: tuple[Edit, ...] = (SetObjective(name),) if name else ()
    at = f"on scores of size {breaks:g}" if breaks is not None else "on outputs as the model made them"
    return Finding(
        symptom="unstable-objective",
        title="the loss overflows or divides by zero",
        severity="critical",
        where=Where(steps=(max(int(step), 1), max(int(step), 1)) if step is not None else None),
        evidence=Evidence(
            name="size of the scores at which the loss or its derivative is not finite",
            value=float(breaks or 0.0),
            threshold=300.0,
            unit="standard deviations of a drawn output",
            provenance="scores of a net in training reach some hundreds",
        ),
        also=proved(run, "unstable-objective"),
        message=f"The {ended.get('what')} left the finite numbers at step {step} while data, weights and "
        f"output were finite: the objective breaks {at}.{tried(run, 'unstable-objective')}",
        remedies=(
            *edits,
            Advice(
                "log_softmax or logsigmoid of the scores instead of the log of a probability; eps under "
                "roots and quotients"
            ),
        ),
        source=_SOURCE,
    )


def _sound(run: Run) -> bool:
    """Whether the objective is one of torch's own on scores or differences, which round as little as ours."""
    output: Mapping[str, Any] = run.facts.get("output") or {}
    return output.get("objective") in _SOUND


def _broke(run: Run) -> Mapping[str, Any] | None:
    """The operation that was seen to make the loss leave the numbers, with nothing that led up to it."""
    ended: Mapping[str, Any] = run.facts.get("nonfinite") or {}
    return ended.get("arithmetic") if ended.get("what") == "loss" and sudden(run) else None


def _of_operation(run: Run, broke: Mapping[str, Any]) -> Finding:
    step = max(int(run.facts["nonfinite"]["step"]), 1)
    of, advice = _said(broke)
    return Finding(
        symptom="unstable-objective",
        title="the loss overflows or divides by zero",
        severity="critical",
        where=Where(steps=(step, step)),
        evidence=Evidence(
            name="values that an operation of the loss made out of the finite numbers",
            value=float(broke["count"]),
            threshold=0.0,
            unit="values",
            provenance="read off the graph of that loss: weights, data and what it was given were finite",
        ),
        also=proved(run, "unstable-objective"),
        message=f"The loss left the finite numbers at step {step} while data and weights were finite: "
        f"{of}.{tried(run, 'unstable-objective')}",
        remedies=(Advice(advice),),
        source=_SOURCE,
    )


def _of_some(once: Mapping[str, Any]) -> Finding:
    """Of losses that were not finite in a training that went on: told, since a mean over them is lost."""
    count, heard, step = int(once["count"]), int(once["heard"]), max(int(once["first"]), 1)
    why, advice = _said(broke) if (broke := once.get("arithmetic")) else ("", "")
    why = f": {why}" if why else ""
    return Finding(
        symptom="unstable-objective",
        title="some losses are not finite",
        severity="info",
        where=Where(steps=(step, step)),
        evidence=Evidence(
            name="losses that were not finite, of those that were heard",
            value=count / heard,
            threshold=0.0,
            unit="share",
            provenance="counted; the losses after them are finite, and so are the weights",
        ),
        message=f"{count} of {heard} losses that were heard {'was' if count == 1 else 'were'} not finite, "
        f"the first at step {step}{why}. The weights stayed finite; a mean over all losses is not."
        + (f" To do: {advice}." if advice else ""),
        remedies=(Advice(advice),) if advice else (),
        source=_SOURCE,
    )


def _said(broke: Mapping[str, Any]) -> tuple[str, str]:
    """What an operation did, and what to do about it."""
    what, given = str(broke["operation"]), float(broke["given"])
    if what == MEAN_OF_NONE:
        return _of_none(broke)
    of = f"{what} of {given:.3g} has no finite value"
    if not math.isfinite(given):
        of = f"{what} is {given}, a number that the script made itself"
        return of, "look for what makes that number, and leave such a batch out"
    return of, (
        "a small constant in the logarithm, the root or under the quotient, (x + 1e-8).log(); a loss "
        "on scores (cross_entropy, binary_cross_entropy_with_logits) in place of one on probabilities"
    )


def _of_none(broke: Mapping[str, Any]) -> tuple[str, str]:
    """The same of a mean over nothing: the batch has no target that counts."""
    if not broke.get("of"):
        return "the batch is empty: the mean over none is 0/0", "leave out batches without any example"
    if "ignored" not in broke:
        of = f"all {broke['of']} targets of the batch are of classes that weigh 0: the mean over none is 0/0"
        return of, "leave out such batches, or give every class a weight above 0"
    index = broke["ignored"]
    return (
        f"all {broke['of']} targets of the batch are ignore_index ({index}): the mean over none is 0/0",
        f"leave out such batches: if (target != {index}).any(); or divide by a count that is 1 at least: "
        f"cross_entropy(output, target, reduction='sum') / (target != {index}).sum().clamp(min=1)",
    )


def _bad_data(run: Run) -> bool:
    """Whether a value of the data is known not to be finite."""
    data: Mapping[str, Mapping[str, Any] | None] = run.facts.get("data") or {}
    held = (data.get("non_finite") or {}, data.get("target_non_finite") or {})
    return any(each.get("count") for each in held)


def _of_derivative(run: Run, found: Origin) -> Finding:
    """Of a gradient that is not finite in a step whose loss is."""
    ended: Mapping[str, Any] = run.facts["nonfinite"]
    step = max(int(ended["step"]) - (ended["what"] == "weight"), 1)
    name = called(run.facts, found.module)
    if found.last:
        which = f"nothing that is trained comes after {name}, so that it came so out of the objective"
    else:
        which = f"what comes after {name} got a sound one: an operation between them made it"
    if not found.certain:
        which += " (or, where gradients are clipped together, out of an operation in the model)"
    return Finding(
        symptom="unstable-objective",
        title="a derivative that is not finite, of a loss that is",
        severity="critical",
        where=Where(modules=() if found.last else (found.module,), steps=(step, step)),
        evidence=Evidence(
            name="gradients that are not finite in a step whose loss is",
            value=float(len(set(ended["gradients"]["bad"]))),
            threshold=0.0,
            unit="modules",
            provenance="a bias has the sum of its outputs' gradients: what is NaN in it was NaN there",
        ),
        also=proved(run, "unstable-objective"),
        message=f"The loss of step {step} is finite and its gradient is not: {which}. A root of 0, a norm or "
        "a power of 0, a logarithm or a quotient at 0 has a value, or one that is multiplied away, and no "
        f"finite derivative.{tried(run, 'unstable-objective')}",
        remedies=(
            Advice(
                "a small constant inside the root, the logarithm or the quotient: (x + 1e-9).sqrt(); a "
                "torch.where behind it does not help, since 0 times infinity is NaN"
            ),
        ),
        source=_SOURCE,
    )
