"""Long-term dependency. What decides the answer lies so many steps back that no gradient comes from there.

A user sees a recurrent model that learns what the last steps say and never what the first ones do. The
derivative of a late state by an early one is a product of as many matrices as there are steps between; with a
tanh, or with gates that start half open, it shrinks by a constant factor each. How we know: the derivative of
the output by the input, step by step. What looks like it and is not: a task that the last steps decide.
Source: Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.edits import Advice, Combined, Edit, ReplaceModule
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Verdict, symptom

FADED = 1e-3
"""Derivative by the first eighth of a sequence in that by the last eighth; torch's LSTM has 1e-3 at 20
steps."""

_SOURCE = "Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 2"


@symptom(
    "long-term-dependency",
    title="the gradient does not reach the early steps of a sequence",
    order=("model", 8),
    needs=("start",),
    explains=("vanishing-gradient", "learning-rate-too-low", "high-bias", "too-few-steps", "plateau"),
    source=_SOURCE,
)
def long_term_dependency(run: Run) -> Verdict:
    """In a recurrent model the derivative by early inputs is nearly nothing, and the run suffers."""
    lags: Mapping[str, Any] | None = run.facts.get("lags")
    if lags is None:
        return Clear("no recurrence over a long sequence was seen")
    ratio, steps = float(lags["ratio"]), int(lags["steps"])
    said = f"over {steps} steps the derivative by the first inputs is {ratio:.2g} of that by the last"
    if ratio >= FADED:
        return Clear(said)
    if not progress(run).ended_far:
        return Clear(f"{said}, but the run does well without them")
    severity = settle(run, "long-term-dependency", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'long-term-dependency')}")
    return Finding(
        symptom="long-term-dependency",
        title="the gradient does not reach the early steps of a sequence",
        severity=severity,
        where=Where(modules=tuple(lags["modules"])),
        evidence=Evidence(
            name="derivative by the first eighth of the sequence in that by the last",
            value=ratio,
            threshold=FADED,
            provenance="shrinks by a constant factor a step (Bengio et al. 1994); bench/diagnosis",
        ),
        also=proved(run, "long-term-dependency"),
        message=f"{said[0].upper()}{said[1:]}: what the first steps say cannot be learnt."
        + tried(run, "long-term-dependency"),
        remedies=_remedies(run, lags),
        source=_SOURCE,
    )


def _remedies(run: Run, lags: Mapping[str, Any]) -> tuple[Edit, ...]:
    advice = Advice(
        "gates whose forget bias starts at log(steps) (LSTM, GRU), attention, or the sequence cut shorter"
    )
    if run.problem is None:
        return (advice,)
    model = unwrap(run.problem.build())
    swaps = tuple(_gated(name, model.get_submodule(name), int(lags["steps"])) for name in lags["modules"])
    return (swaps[0] if len(swaps) == 1 else Combined(swaps), advice)


def _gated(name: str, module: nn.Module, steps: int) -> Edit:
    """A gated recurrence of the same sizes, inputs and outputs, that starts with a long memory."""
    keys = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    given: dict[str, Any] = {key: getattr(module, key) for key in keys} | {"steps": steps}
    kind = "LastingLSTM" if isinstance(module, nn.LSTM) else "LastingGRU"
    return ReplaceModule(name, f"downslope.models.lasting:{kind}", given)
