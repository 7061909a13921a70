"""Mixed examples. What the model answers for one example is made of others of its batch.

A user sees a loss that stays high, answers that change with the batch size or the order of the data, and a
score on single examples that is another one. A recurrence or an attention without ``batch_first=True`` that
is handed (batch, time, features) runs along the batch; a view in the place of a transpose cuts every
example up among others; a softmax or a mean over axis 0 takes the whole batch together. Nothing fails: all
sizes fit. How we know: examples of a batch are exchanged, in eval mode, and what the model answers for the
others changes; the first torch function that made a number of both is the place. What looks like it and is
not: batch norm in training mode, examples that lie along axis 1 on purpose, and models that compare
examples by design (graphs, retrieval): whatever learns as it should is left in peace.
Source: the documentation of torch.nn.LSTM and torch.nn.MultiheadAttention (batch_first); Karpathy 2019, A
recipe for training neural networks (the gradient by the inputs of other examples must be zero).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Advice, Combined, Edit, from_dict
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.measure.company import APART
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, trial_of, tried, trying
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

MUCH = 0.1
"""Share of what outputs change that other examples make, from which a failed run without a remedy to try is
blamed on them: batch statistics make 0.02, rows that are cut up among examples 0.14 to 0.5. Measured on the
models of tests/diagnosis/measure/test_company.py."""

_SOURCE = "torch.nn.LSTM, torch.nn.MultiheadAttention: batch_first; Karpathy 2019"

_ADVICE = {
    "view": "x.transpose(0, 1), or permute, in the place of the view: it keeps the order of the numbers",
    "softmax": "softmax(x, dim=-1): dim=0 is the axis of the examples",
    "other": "let the forward pass keep axis 0, the examples, to itself",
}


@symptom(
    "mixed-examples",
    title="examples of a batch are mixed in the forward pass",
    order=("model", -1),
    needs=("mixed",),
    explains=("model", "step", "terrain", "generalisation"),
    source=_SOURCE,
)
def mixed_examples(run: Run) -> Verdict:
    """Answers that depend on the other examples of the batch, in a run that suffers from it."""
    mixed: Mapping[str, Any] = run.facts["mixed"]
    share = float(mixed["share"])
    if not math.isfinite(share):
        return Unknown("the model gives no numbers that could be compared")
    if share <= APART:
        return Clear("what the model answers for an example does not depend on the others of its batch")
    said = f"{share:.1%} of what outputs change when examples are exchanged is made by other examples"
    if mixed["by"] == "norm":
        return Clear(f"{said}, through batch statistics in eval mode, which are meant")
    severity = _severity(run, mixed)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'mixed-examples')}")
    if severity == "info" and trying(run) and answered(run):
        return Unknown(not_tried(run))
    if severity == "info" and progress(run).solved:
        return Clear(f"{said}, and the run does well with it")
    return Finding(
        symptom="mixed-examples",
        title="examples of a batch are mixed in the forward pass",
        severity=severity,
        where=Where(modules=(mixed["where"],) if mixed["where"] else ()),
        evidence=Evidence(
            name="what other examples of the batch make of an output's change",
            value=share,
            threshold=APART,
            unit="share of the mean square",
            provenance="0 where every example is answered by itself; rounding is below",
        ),
        also=proved(run, "mixed-examples"),
        message=f"{said[0].upper()}{said[1:]}. {_why(mixed)}"
        + (" No fault where it is meant." if severity == "info" else "")
        + tried(run, "mixed-examples"),
        remedies=_remedies(run, mixed),
        source=_SOURCE,
    )


def _severity(run: Run, mixed: Mapping[str, Any]) -> Severity | None:
    """By the trial where there is one; else by what is certain of a run that ended far."""
    if trial_of(run, "mixed-examples") is not None:
        return settle(run, "mixed-examples", strong=False)
    how = progress(run)
    far = (how.ended_far or how.standing) and not how.diverged
    if not far or not (_slip(mixed) if run.problem is None else _unmendable(mixed)):
        return "info"
    return "critical" if how.standing else "warning"


def _unmendable(mixed: Mapping[str, Any]) -> bool:
    """Whether the examples, which come in a new company every epoch, make much of one another's answers."""
    return not mixed["edits"] and not mixed["whole"] and float(mixed["share"]) >= MUCH


def _slip(mixed: Mapping[str, Any]) -> bool:
    """Whether it is a slip in the code beyond doubt, in a loop where nothing can be tried.

    A recurrence along an axis of one step may be meant: a single sequence, whose steps are no examples. So
    may attention among all of the data, as among the nodes of a graph.
    """
    if mixed["by"] != "batch_first":
        return bool(mixed["edits"])
    recurrent = mixed["function"] in ("LSTM", "GRU", "RNN")
    return not mixed["single"] and (recurrent or (bool(mixed["edits"]) and not mixed["whole"]))


def _why(mixed: Mapping[str, Any]) -> str:
    where = f" of {mixed['where']}" if mixed["where"] else " of the model"
    sizes = [f"({', '.join(map(str, each))})" for each in mixed["sizes"]]
    if mixed["by"] == "batch_first":
        kind = f"{mixed['where']} ({mixed['function']})" if mixed["where"] else mixed["function"]
        return f"{kind} is handed {sizes[0]} and works along the axis of the examples."
    if mixed["by"] == "view":
        return (
            f"A {mixed['function']} in the forward{where} makes {sizes[1]} of {sizes[0]}: it cuts "
            "every example up among others."
        )
    if mixed["by"] == "softmax":
        return f"A {mixed['function']} in the forward{where} works along axis 0 of {sizes[0]}, the examples."
    if not mixed["function"]:
        return "Where in the forward pass was not seen."
    return f"First in the forward{where}, by {mixed['function']} of {sizes[0]}."


def _remedies(run: Run, mixed: Mapping[str, Any]) -> tuple[Edit, ...]:
    edits = tuple(from_dict(each) for each in mixed["edits"])
    advice = Advice(_advice(mixed))
    if run.problem is None or not edits:
        return (advice,)
    return (edits[0] if len(edits) == 1 else Combined(edits), advice)


def _advice(mixed: Mapping[str, Any]) -> str:
    if mixed["by"] != "batch_first":
        return _ADVICE[mixed["by"]]
    value = "batch_first=True, or transpose(0, 1) before it"
    edit = next((each for each in mixed["edits"] if each["kind"] == "batch-first"), None)
    if edit is not None and not edit["first"]:
        value = "no batch_first=True, or transpose(0, 1) before it"
    return f"{mixed['where'] or 'the model'} ({mixed['function']}): {value}"
