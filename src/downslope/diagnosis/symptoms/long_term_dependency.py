"""Long-term dependency. What decides the answer lies so many steps back that no gradient comes from there.

A user sees a recurrent model that learns what the last steps say and never what the first ones do. The
derivative of a late state by an early one is a product of as many matrices as there are steps between; with a
tanh, or with gates that start half open, it shrinks by a constant factor each. How we know: the derivative of
the output by the input, step by step. It is zero where the state is detached between the steps, or empty at
each. What looks like it and is not: a task that the last steps decide.
Source: Hochreiter 1991; Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.edits import Advice, Combined, Edit, LetThrough, ReplaceModule
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.early import USUAL, little, short, thrown
from downslope.diagnosis.lead import PLAIN, SAME, lead, row_of
from downslope.diagnosis.measure.spans import GONE
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import MATERIAL, gain, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

FADED = 1e-3
"""Derivative by the first eighth of a sequence in that by the last eighth; torch's LSTM has 1e-3 at 20
steps."""

CERTAIN = 0.8
"""Share of what a network that sees every step learns, on held-out data, that a recurrence must miss before
it is blamed without a trial. Convention: that of a remedy that is the answer."""

_SOURCE = "Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 2"


@symptom(
    "long-term-dependency",
    title="the gradient does not reach the early steps of a sequence",
    order=("model", 8),
    needs=("start",),
    explains=(
        "vanishing-gradient", "learning-rate-too-low", "high-bias", "high-variance", "too-few-steps",
        "plateau",
    ),
    source=_SOURCE,
)  # fmt: skip
def long_term_dependency(run: Run) -> Verdict:
    """In a recurrent model the derivative by early inputs is nearly nothing, and the run suffers."""
    lags: Mapping[str, Any] | None = run.facts.get("lags") or run.facts.get("reach")
    if lags is None:
        return Clear("no recurrence over a long sequence was seen")
    ratio, steps = float(lags["ratio"]), int(lags["steps"])
    said = f"over {steps} steps the derivative by the first inputs is {ratio:.2g} of that by the last"
    if ratio >= FADED:
        return Clear(said)
    if not progress(run).ended_far:
        return Clear(f"{said}, but the run does well without them")
    if lags.get("watched"):
        return _seen(run, lags, said)
    edits = _remedies(run, lags)
    severity = settle(run, "long-term-dependency", strong=not edits[0].provable and _elsewhere(run))
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'long-term-dependency')}")
    if severity == "info" and not edits[0].provable:
        return Unknown(f"{said}; whether the early steps matter was not seen")
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
        message=f"{said[0].upper()}{said[1:]}: {_KEPT[lags.get('kept', 'graph')]}."
        + (tried(run, "long-term-dependency") if edits[0].provable else _ELSEWHERE),
        remedies=edits,
        source=_SOURCE,
    )


def _seen(run: Run, lags: Mapping[str, Any], said: str) -> Verdict:
    """The verdict on somebody's own loop, where nothing was tried.

    Beyond doubt is a run that stands, though its steps are no dwarfs, and whose targets are told by steps
    from which no gradient comes, by one or by all together, and by no other. Without that a run that stands
    is told of what fades, as no fault: whether the early steps matter was not seen.
    """
    ratio, steps = float(lags["ratio"]), int(lags["steps"])
    stands = progress(run).standing and not little(run) and not short(run)
    if ratio >= GONE or not stands:
        return Unknown(f"{said}; whether the early steps matter was not seen")
    reach = next((back for back, each in enumerate(reversed(lags["profile"])) if each < GONE), steps)
    told = _told_before(run, lags)
    other = _crawls(run, lags["modules"]) or thrown(run)  # what a rate did comes before
    severity: Severity = "info" if told is None or other else "critical"
    lost = f"Of the gradient {reach} steps back less than {GONE:g} is left, of {steps} steps"
    if told is None:
        why = ". No fault where the targets do not depend on the early ones."
    else:
        why = f": what the first steps say cannot be learnt. {told}"
    return Finding(
        symptom="long-term-dependency",
        title="the gradient does not reach the early steps of a sequence",
        severity=severity,
        where=Where(modules=tuple(lags["modules"])),
        evidence=Evidence(
            name="gradient that comes to the first eighth of the sequence in that to the last",
            value=ratio,
            threshold=GONE,
            provenance="shrinks by a constant factor a step (Bengio et al. 1994)",
        ),
        message=lost + why,
        remedies=_remedies(run, lags),
        source=_SOURCE,
    )


def _crawls(run: Run, recurrences: Sequence[str]) -> bool:
    """Whether the usual step changes less of the recurrences' weights than any sound one does.

    What lies before them is no measure: to an embedding, too, comes what of the gradient is left.
    """
    if "update_ratio" not in run.probes:
        return True
    probe = run.probes["update_ratio"]
    own = [i for i, name in enumerate(probe.modules) if name in recurrences]
    values = probe.values[:, own] if own else probe.values
    return not np.isfinite(values).any() or float(np.nanmedian(values)) < USUAL


def _told_before(run: Run, lags: Mapping[str, Any]) -> str | None:
    """What tells the targets, in words, where no gradient comes from it and nothing else tells them."""
    telling, spans = table(run, "telling"), table(run, "spans")
    strength: list[float] = telling.get("strength") or []
    profile: list[float] = lags["profile"]
    known = len(strength) == len(profile)
    reached = [s for s, each in zip(strength, profile, strict=True) if each >= GONE] if known else []
    late, at = max(reached, default=0.0), None
    if known:
        lost = [i for i, each in enumerate(profile) if each < GONE]
        at = max(lost, key=lambda i: strength[i], default=None)
    if (
        at is not None
        and strength[at] >= telling["limit"]
        and late <= max(0.5 * strength[at], telling["chance"])
    ):
        return (
            f"Step {at + 1} tells the targets (correlation {strength[at]:.2f}), and no step that the "
            f"gradient reaches does ({late:.2f} at most)."
        )
    if not spans or spans["lost"] < spans["limit"] or spans["others"] > 0.5 * spans["lost"]:
        return None
    if known and late > max(0.5 * spans["lost"], telling["chance"]):
        return None
    return (
        f"Those steps tell the targets together (correlation {spans['lost']:.2f} on examples held out), and "
        f"those that the gradient reaches do not ({spans['others']:.2f})."
    )


_KEPT = {
    "graph": "what the first steps say cannot be learnt",
    "values": "each step is handed the state of the one before without its graph, and no gradient goes back",
    "nothing": "each step begins with an empty state, and nothing of the steps before is left",
}

_ELSEWHERE = " A network that is given all steps at once does far better, on held-out data too."


def _elsewhere(run: Run) -> bool:
    """Whether the data says much, on held-out examples, to a network that sees every step, and not to this
    model under a sound recipe.
    """
    missed = lead(run)
    if missed is None or missed < CERTAIN or row_of(run, SAME) is None:
        return False
    best = max((gain(each) for each in table(run, "trials").values()), default=0.0)
    plain = _learnt(run, PLAIN)
    return best < MATERIAL <= plain and _learnt(run, SAME) < (1 - CERTAIN) * plain


def _learnt(run: Run, what: str) -> float:
    """Share of a constant's loss on held-out data that a reference took off."""
    row, base = row_of(run, what), table(run, "constant").get("valid_loss")
    found = None if row is None else row.get("valid_loss")
    if found is None or not base or run.maximize:
        return 0.0
    return (base - found) / abs(base)


def _remedies(run: Run, lags: Mapping[str, Any]) -> tuple[Edit, ...]:
    if lags.get("kept") == "values":
        return (LetThrough(), Advice("hand the state on within a sequence as it is: no detach(), no .data"))
    if lags.get("kept") == "nothing":
        return (Advice("hand the state of each step on to the next, and begin with an empty one only once"),)
    advice = Advice(
        "gates whose forget bias starts at log(steps) (LSTM, GRU), attention, or the sequence cut shorter"
    )
    if run.problem is None:
        return (advice,)
    model = unwrap(run.problem.build())
    found = [_gated(name, model.get_submodule(name), int(lags["steps"])) for name in lags["modules"]]
    swaps = tuple(each for each in found if each is not None)
    if not swaps:
        return (advice,)
    return (swaps[0] if len(swaps) == 1 else Combined(swaps), advice)


_WHOLE = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
_CELL = ("input_size", "hidden_size", "bias")


def _gated(name: str, module: nn.Module, steps: int) -> Edit | None:
    """A gated recurrence of the same sizes, inputs and outputs, that starts with a long memory.

    None for a recurrence of somebody's own, in whose place nothing is known to fit.
    """
    if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return None
    cell = isinstance(module, nn.RNNCellBase)
    given: dict[str, Any] = {key: getattr(module, key) for key in (_CELL if cell else _WHOLE)}
    kind = "LastingLSTM" if isinstance(module, (nn.LSTM, nn.LSTMCell)) else "LastingGRU"
    target = f"downslope.models.lasting:{kind}{'Cell' if cell else ''}"
    return ReplaceModule(name, target, given | {"steps": steps})
