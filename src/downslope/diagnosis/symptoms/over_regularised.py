"""Over-regularised. Decay, penalties or dropout hold the model back more than the data asks for.

It is looked at before the rate, because a smaller rate also decays less. A user sees training and validation
scores that are low and alike. Weight decay pulls every weight to zero at
each step, dropout takes most of the units away; the minimum that is left is a bad one. How we know: the same
run without them comes further, on held-out data too; or, without a trial, nothing was learnt, nothing is left
of the hidden layers, and the decay is enough for that (`diagnosis.decayed`). What looks like it and is not:
strong dropout that helps on held-out data, a model that is too small, and weights that shrink before a norm.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, sections 7.1 and 7.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import Combined, Edit, LessDropout, ReplaceModule, SetObjective, SetRecipe
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.decayed import LEFT, Decayed, decayed
from downslope.diagnosis.early import little, short
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import MATERIAL, gain, not_tried, proved, refuted, settle, trial_of, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.objectives import Penalised

_SOURCE = "Goodfellow et al. 2016, sections 7.1 and 7.12"


@symptom(
    "over-regularised",
    title="decay or dropout hold the model back",
    order=("step", -1),
    needs=("history:train_loss",),
    explains=(
        "high-bias", "vanishing-gradient", "init-scale", "plateau", "dead-units", "saturated-units",
        "learning-rate-too-low",
    ),
    source=_SOURCE,
)  # fmt: skip
def over_regularised(run: Run) -> Verdict:
    """A run with decay or dropout that ended far from what it reaches without them."""
    decay, drops, called, held = _decay(run), _dropouts(run), _called(run), _penalised(run)
    if not decay and not drops and not called and held is None:
        return Clear("no weight decay, no penalty and no dropout")
    said = " and ".join(
        [
            *([f"weight decay {decay:g}"] if decay else []),
            *([f"{each.name} penalty {each.strength:g}" for each in held.terms] if held is not None else []),
            *([_shares(drops, called)] if drops or called else []),
        ]
    )
    if not progress(run).ended_far:
        return Clear(f"{said}, and the run came far enough")
    sure = _certain(run)
    severity = settle(run, "over-regularised", strong=sure is not None)
    trial = trial_of(run, "over-regularised")
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'over-regularised')}")
    if trial is None and run.facts.get("trials") is None and sure is None:
        return Unknown(not_tried(run))
    if trial is None and sure is not None:
        return _shrunk(decay, sure)
    holds = "hold" if " and " in said else "holds"
    return Finding(
        symptom="over-regularised",
        title="decay or dropout hold the model back",
        severity=severity,
        where=Where(modules=tuple(name for name, _ in drops)),
        evidence=Evidence(
            name="share of the way that the run recovers without them",
            value=0.0 if trial is None else gain(trial),
            threshold=MATERIAL,
            unit="share",
            provenance="convention: what a remedy must win back to be worth a warning",
        ),
        also=proved(run, "over-regularised"),
        message=f"{said[0].upper()}{said[1:]} {holds} the model back.{tried(run, 'over-regularised')}",
        remedies=_remedies(decay, drops, called, held),
        source=_SOURCE,
    )


def _certain(run: Run) -> Decayed | None:
    """What decay left of the hidden layers of a run that learnt nothing; None where it is not so."""
    how = progress(run)
    stands = how.standing and not how.diverged and not little(run) and not short(run)
    return decayed(run) if stands else None


def _shrunk(decay: float, found: Decayed) -> Finding:
    """The finding of weights that decay alone shrank to nothing: no trial is needed."""
    return Finding(
        symptom="over-regularised",
        title="decay or dropout hold the model back",
        severity="critical",
        where=Where(modules=found.modules),
        evidence=Evidence(
            name="norm of a hidden layer's weights at the end in that at the start, at most",
            value=found.left,
            threshold=LEFT,
            provenance="0.04 at least in nets that learn; made runs, diagnosis.decayed",
        ),
        message=f"Weight decay {decay:g} takes {found.rate:.1%} of the weights a step, at the start "
        f"{found.outweighs:.2g} times what the gradient moves: from step {found.step} on no hidden layer has "
        f"{LEFT:.0%} of its norm, and nothing can be learnt.",
        remedies=_remedies(decay, [], 0.0),
        source=_SOURCE,
    )


def _decay(run: Run) -> float:
    if run.recipe is not None:
        groups = [float(each) for each in [run.recipe.weight_decay or 0.0]]
        return max(groups)
    seen: Mapping[str, Any] = run.facts.get("optimizer") or {}
    return float(seen.get("weight_decay") or 0.0)


def _penalised(run: Run) -> Penalised | None:
    """The objective, where it has penalties that count."""
    objective = None if run.problem is None else run.problem.objective
    if not isinstance(objective, Penalised) or not any(each.strength for each in objective.terms):
        return None
    return objective


def _dropouts(run: Run) -> list[tuple[str, float]]:
    modes, drops = table(run, "modes"), table(run, "drops")
    found: list[tuple[str, float]] = list(drops.get("modules") or modes.get("dropouts") or ())
    return [(str(name), float(p)) for name, p in found if p > 0]


def _called(run: Run) -> float:
    """The share that a function drops which the forward calls; 0 for none."""
    return float(table(run, "drops").get("called") or 0.0)


def _shares(drops: list[tuple[str, float]], called: float) -> str:
    return f"dropout of {max(called, *(p for _, p in drops), 0.0):.0%}"


def _remedies(
    decay: float, drops: list[tuple[str, float]], called: float, held: Penalised | None = None
) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    if decay:
        edits.append(SetRecipe({"weight_decay": 0.0}, {"weight_decay": decay}))
    if held is not None:
        edits.append(SetObjective(held.objective))
    if called:  # code of the user's own: what it calls drops less, the modules with it
        edits.append(LessDropout())
    else:
        edits += [ReplaceModule(name, "torch.nn:Dropout", {"p": 0.0}) for name, _ in drops]
    whole = edits[0] if len(edits) == 1 else Combined(tuple(edits))
    if decay and len(edits) > 1:
        return whole, edits[0]
    return (whole,)
