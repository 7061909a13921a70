"""Output activation. The last layer cannot say what the objective wants to hear.

A softmax before an objective that applies its own (the loss stops at 1.46 for 10 classes and the gradient is
flattened), a ReLU on a target that is negative, a softmax over a single unit (always 1), a missing sigmoid
before a likelihood of probabilities, a softmax where several labels of an example can hold at once, or one
over the batch. What looks like it and is not: a log-softmax before a cross-entropy, which changes nothing, a
bounded output whose targets stay in its range, and a softmax before a binary cross-entropy on targets that
sum to 1.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 6.2.2; the rules of UMLAUT (Schoop,
Huang and Hartmann 2021) for the same mistakes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from downslope.core.edits import (
    Advice,
    Combined,
    Edit,
    ReplaceCall,
    ReplaceModule,
    SetObjective,
    StandardiseTargets,
    WrapModel,
)
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.early import short
from downslope.diagnosis.progress import SOLVED, progress
from downslope.diagnosis.proof import BLUNDER, gain, proved, settle, trial_of, tried
from downslope.diagnosis.reach import CLIPPED, HOPELESS, LARGE
from downslope.diagnosis.symptom import STEPS, Clear, Unknown, Verdict, symptom
from downslope.training.facts.output import ROUNDED

_SOURCE = "Goodfellow, Bengio and Courville 2016, section 6.2.2; UMLAUT (Schoop et al. 2021)"
_ONLY_SCORES = "scores of any size"
_WORDS = {
    "logits": _ONLY_SCORES, "logit": _ONLY_SCORES, "probability": "a probability",
    "log-probabilities": "log-probabilities", "probabilities": "probabilities", "real": "any number",
    "sign": _ONLY_SCORES,
}  # fmt: skip


@dataclass(frozen=True)
class _Fault:
    """What is wrong with the output, and what would put it right."""

    evidence: Evidence
    message: str
    remedies: tuple[Edit, ...]
    hopeless: bool = False
    """Whether the output can never say what is wanted: then no trial is needed."""
    partial: bool = False
    """Whether only some of what is wanted is out of reach: a run that has hardly begun does not show it."""
    mild: bool = False
    """Whether the loss can do with it: only a run that stands is blamed on it."""
    sure: bool = True
    """Whether it costs something whatever the noise of the targets; otherwise only a trial tells."""


@symptom(
    "output-activation",
    title="output activation and objective do not fit",
    order=("output", 0),
    needs=("output",),
    explains=("model", "terrain", *STEPS, "too-few-steps", "high-bias"),
    source=_SOURCE,
)
def output_activation(run: Run) -> Verdict:
    """The range of the last activation is not what the objective, or the target, needs."""
    output: Mapping[str, Any] = run.facts["output"]
    if output.get("tensors", 1) != 1:
        return Unknown(f"the model puts out {output['tensors']} tensors")
    if output.get("expects") is None:
        return Unknown(f"what {output.get('objective', 'the objective')} expects of the output is not known")
    fault = _fault(output, run.facts.get("data") or {})
    said = f"{output['activation'] or 'no activation'} before {output['objective']}"
    if fault is None:
        return Clear(said)
    how = progress(run)
    trial = trial_of(run, "output-activation")
    fine = _scores_well(run) if trial is None else gain(trial) < BLUNDER
    likelihood = output["expects"] in ("log-probabilities", "probabilities")
    below = trial is None and likelihood and (how.final or 0.0) < 0.0
    fine = fine and not fault.hopeless and not below
    if fine:
        severity = "info"
    elif below:  # of a likelihood it cannot; down to -1 lead probabilities, further what has no end at all
        severity = "critical" if (how.final or 0.0) < -1.0 else "warning"
    elif fault.hopeless:
        severity = "critical"
    else:
        far = how.diverged or (how.share is not None and how.share < SOLVED)
        far = far and fault.sure and not (fault.partial and short(run))
        far = far and (how.standing or not fault.mild)
        severity = settle(run, "output-activation", strong=far, material=BLUNDER) or "info"
    module = output.get("module")
    fell = f" It fell to {how.final:.3g}, where no likelihood can go." if below else ""
    return Finding(
        symptom="output-activation",
        title="output activation and objective do not fit",
        severity=severity,
        where=Where(modules=(module,) if module else ()),
        evidence=fault.evidence,
        also=proved(run, "output-activation", BLUNDER),
        message=fault.message + fell + (_costless(run, output) if fine else tried(run, "output-activation")),
        remedies=fault.remedies if run.problem is not None else _in_words(fault.remedies, output),
        source=_SOURCE,
    )


def _in_words(edits: tuple[Edit, ...], output: Mapping[str, Any]) -> tuple[Edit, ...]:
    """For a script, which no edit can reach: what to do in its code, objectives of ours left out."""
    ours = ("categorical", "bernoulli")
    rest = [
        each
        for each in edits
        if not isinstance(each, (Combined, ReplaceCall))
        and not (isinstance(each, SetObjective) and each.objective in ours)
    ]
    at = f" (module {output['module']})" if output.get("module") else ""
    words = f"remove the {output['activation']} at the end of the model{at}"
    return tuple(
        Advice(words) if isinstance(each, ReplaceModule) and each.factory == "torch.nn:Identity" else each
        for each in rest
    )


def _costless(run: Run, output: Mapping[str, Any]) -> str:
    """What the fault leaves alone, and what it does to the loss, which is not the same."""
    trial = trial_of(run, "output-activation")
    if trial is None:
        return " The metric is close to perfect all the same."
    if output["expects"] == "logit" and run.problem is not None and run.problem.metric is None:
        return (
            f" Read as probabilities the outputs are as good as those of {trial['edit']}; the loss is not, "
            "and no model brings it near 0 from there."
        )
    if run.problem is not None and run.problem.metric is not None:
        squeezed = ", but the loss can only be higher than without" if output["expects"] == "logit" else ""
        return f" It costs no {run.metric_name} here: in that {trial['edit']} is no better{squeezed}."
    return f" It costs nothing here: {trial['edit']} is no better."


def _scores_well(run: Run) -> bool:
    """Whether the metric is close to perfect: then the mistake costs nothing that a user reads."""
    how = progress(run)
    return how.solved and not how.standing


def _fault(output: Mapping[str, Any], data: Mapping[str, Any]) -> _Fault | None:
    activation, expects = output["activation"], output["expects"]
    if activation == "softmax" and output["dead"] and output["max"] == 1.0:
        return _single_softmax(output)
    if output.get("over_batch") and expects in ("logits", "log-probabilities", "probabilities"):
        return _over_batch(output, expects)
    if expects in ("logits", "logit", "sign"):
        return _squashed_score(output, expects, activation)
    if expects in ("probability", "probabilities"):
        return _no_probability(output, expects, activation)
    if expects == "log-probabilities":
        return _no_log_probability(output, activation)
    return _out_of_range(output, activation, data)


def _single_softmax(output: Mapping[str, Any]) -> _Fault:
    after = {"probability": "torch.nn:Sigmoid"}.get(output["expects"], "torch.nn:Identity")
    word = after.rpartition(":")[2].lower()
    return _Fault(
        _number("spread of the output over examples", 0.0, 0.0, "a softmax over one unit is always 1"),
        "A softmax over a single unit is 1 whatever the input: the model can only say one thing.",
        _replacing(output, after, f"put a {word} in the place of the softmax over one unit"),
        hopeless=True,
    )


def _over_batch(output: Mapping[str, Any], expects: str) -> _Fault:
    """A softmax along the wrong axis: what an example is given depends on those beside it."""
    edits: tuple[Edit, ...] = (Advice("take the softmax over the classes, dim=1, not the examples, dim=0"),)
    if (activation := output["activation"]) is not None:
        removal = _replacing(output, "torch.nn:Identity", "")[0]
        scored = removal if expects == "logits" else Combined((removal, SetObjective("cross_entropy")))
        edits = (scored, *edits)
    return _Fault(
        _number("distance of a class's sum over a batch from 1", 0.0, ROUNDED, "examples are independent"),
        f"The {activation or 'normalisation'} at the end runs over the examples of a batch, not over their "
        "classes: what one is given depends on the others, and alone it gets probability 1 for every class.",
        edits,
    )


def _squashed_score(output: Mapping[str, Any], expects: str, activation: str | None) -> _Fault | None:
    if activation is None or activation == "log_softmax":
        return None
    if expects == "logits" and activation == "log_sigmoid":
        return None
    low, high = _LIMITS[activation]
    message = f"{output['objective']} wants scores of any size, the model ends in a {activation}"
    evidence = _number(
        f"largest gap between two scores after a {activation}", high - low, math.inf, "range of the function"
    )
    keep: tuple[Edit, ...] = ()
    if activation == "softmax" and expects == "logits":
        keep = (SetObjective("categorical"),)
        message += ": it is applied twice, which flattens the gradient"
    elif activation in ("sigmoid", "hardsigmoid") and expects == "logit":
        keep = (SetObjective("bernoulli"),)
        message += (
            ": it is applied twice, and a sigmoid of a sigmoid lies between 0.5 and 0.731, so that no "
            "example can get a probability under one half"
        )
    elif activation in ("relu", "softplus"):
        message += ": it can never score below 0"
    removal = _replacing(output, "torch.nn:Identity", f"remove the {activation} at the end of the model")
    return _Fault(evidence, message + ".", (*keep, *removal))


def _no_probability(output: Mapping[str, Any], expects: str, activation: str | None) -> _Fault | None:
    inside = output["min"] >= 0 and output["max"] <= 1
    if activation == "softmax" and expects == "probability" and output["rows_sum_to_one"]:
        return _tied(output)
    if activation in ("sigmoid", "softmax", "hardsigmoid"):
        return None
    if output.get("shared") and output["min"] >= 0:
        return _shared_relu(output) if activation == "relu" else None
    if expects == "probabilities":
        if output["rows_sum_to_one"]:
            return None
        edits: tuple[Edit, ...] = (SetObjective("cross_entropy"),)
    else:
        if inside and activation is None:
            return None
        after = "torch.nn:Sigmoid"
        edits = (
            (ReplaceModule(output["module"], after),) if output.get("module") else (WrapModel(after=after),)
        )
        if activation is not None and not output.get("module"):
            words = f"put a sigmoid in the place of the {activation} at the end of the model"
            edits = (ReplaceCall(activation, "sigmoid", "last"), Advice(words))
    worst = max(-output["min"], output["max"] - 1)
    return _Fault(
        _number("distance of the output from [0, 1]", worst, 0.0, "a probability lies in [0, 1]"),
        f"{output['objective']} wants probabilities, the model puts out {output['min']:.3g} to "
        f"{output['max']:.3g}{_ending(activation)}.",
        edits,
        # Clamped, one score is a hard sigmoid; of several the logarithm is 0 where all of them are above 1.
        hopeless=not inside and not (output.get("clamped") and expects == "probability"),
        mild=bool(output.get("clamped")) and expects == "probability",
    )


def _shared_relu(output: Mapping[str, Any]) -> _Fault:
    """A ReLU whose outputs the loss divides by their sum."""
    after = "put a softmax in the place of the relu at the end of the model"
    return _Fault(
        _number("least output", output["min"], 0.0, "log 0 has no end, and a relu's 0 no gradient"),
        f"{output['objective']} wants probabilities, and divides what a relu gives by its sum: a class that "
        "the relu makes 0 is impossible, and without a gradient it stays so.",
        _replacing(output, "torch.nn:Softmax", after),
        mild=True,
    )


def _tied(output: Mapping[str, Any]) -> _Fault | None:
    """A softmax where every label of an example is a question of its own."""
    cost: Mapping[str, float] | None = output.get("tied")
    if cost is None or cost["most"] < BLUNDER:
        return None
    after = "put a sigmoid in the place of the softmax at the end of the model"
    edits = _replacing(output, "torch.nn:Sigmoid", after)
    real = output["expects"] == "real"
    asked = "the value" if real else "a probability"
    likely = (Combined((edits[0], SetObjective("bernoulli"))),) if real and cost.get("hard") else ()
    return _Fault(
        Evidence(
            name="least loss of outputs that share a sum of 1",
            value=cost["most"],
            threshold=BLUNDER,
            unit="share of the way from a constant guess",
            provenance="what a perfect model would still lose",
        ),
        f"{output['objective']} asks for {asked} of every label, and the softmax makes those of an "
        f"example share a sum of 1: its targets add up to {cost['low']:.3g} to {cost['high']:.3g}, "
        f"{cost['mean']:.3g} in the mean.",
        (*edits, *likely),
        hopeless=cost["surely"] > HOPELESS,
        partial=True,
        sure=cost["surely"] > CLIPPED,
    )


def _no_log_probability(output: Mapping[str, Any], activation: str | None) -> _Fault | None:
    if activation in ("log_softmax", "log_sigmoid") or output.get("rows_normalised"):
        return None
    if output["objective"] not in ("NLLLoss", "nll_loss"):
        edits: tuple[Edit, ...] = (Advice("end the model in a log_softmax"),)
    elif activation == "softmax":
        edits = (SetObjective("categorical"), Advice("end the model in a log_softmax instead of the softmax"))
    elif activation is None:
        edits = (SetObjective("cross_entropy"), Advice("end the model in a log_softmax"))
    else:
        edits = (Advice(f"end the model in a log_softmax instead of the {activation}"),)
    return _Fault(
        _number("largest output", output["max"], 0.0, "the logarithm of a probability is at most 0"),
        f"{output['objective']} wants log-probabilities{_ending(activation, ', the model ends in')}"
        f"{'' if activation else ', the model puts out raw scores'}: the loss is not a likelihood, and has "
        "no proper minimum.",
        edits,
    )


def _out_of_range(
    output: Mapping[str, Any], activation: str | None, data: Mapping[str, Any]
) -> _Fault | None:
    clipped = output.get("clipped")
    if activation is None or clipped is None or clipped <= CLIPPED:
        return _tied(output) if activation == "softmax" and output["rows_sum_to_one"] else None
    target: Mapping[str, Any] = data.get("target") or {}
    low, high = _LIMITS[activation]
    hopeless = clipped > HOPELESS
    removal = _replacing(output, "torch.nn:Identity", f"remove the {activation} at the end of the model")
    # Freed alone, the output would still have to travel to targets of that size.
    far = target.get("kind") == "real" and (target.get("rms") or 0.0) > LARGE
    both = (Combined((removal[0], StandardiseTargets())),) if hopeless and far else ()
    span = f"{target.get('min', math.nan):.3g} to {target.get('max', math.nan):.3g}"
    return _Fault(
        Evidence(
            name=f"squared distance of the targets from the range of the {activation}",
            value=clipped,
            threshold=CLIPPED,
            unit="share of their variance",
            provenance="what a perfect model would still lose",
        ),
        f"The targets run from {span}, and a {activation} gives {low:g} to {high:g} only.",
        (*both, *removal),
        hopeless=hopeless,
        partial=not hopeless,
    )


_LIMITS: dict[str, tuple[float, float]] = {
    "softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0),
    "hardtanh": (-1.0, 1.0), "relu": (0.0, math.inf), "softplus": (0.0, math.inf),
    "log_softmax": (-math.inf, 0.0), "log_sigmoid": (-math.inf, 0.0),
}  # fmt: skip


def _replacing(output: Mapping[str, Any], factory: str, words: str) -> tuple[Edit, ...]:
    module = output.get("module")
    if module:
        return (ReplaceModule(module, factory, {"dim": 1} if factory.endswith("Softmax") else {}),)
    by = factory.rpartition(":")[2].lower()
    return (ReplaceCall(str(output["activation"]), by, "last"), Advice(f"{words}{_called(output)}"))


def _called(output: Mapping[str, Any]) -> str:
    """Where the forward calls the activation; "" where that is not known."""
    at: Mapping[str, Any] | None = output.get("place")
    return f" ({at['file']}, line {at['line']}, in {at['class']}.forward)" if at else ""


def _ending(activation: str | None, words: str = " after a") -> str:
    return f"{words} {activation}" if activation else ""


def _number(name: str, value: float, threshold: float, why: str) -> Evidence:
    return Evidence(name=name, value=value, threshold=threshold, unit="units of the output", provenance=why)
