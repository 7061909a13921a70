"""Frozen parameters. Part of the model counts for the output and never changes.

A user sees a model that learns a little and stops, as if it were smaller than it is. The parameters are held
fixed (``requires_grad=False``), the graph to them is cut (detach, no_grad, numpy, an index taken by argmax),
or the optimizer never got them (made before a layer was added or replaced). How we know: the loss changes
when the parameters are nudged, and no step changes them. A cut stands before the
scale of the start, unless a trial of another scale came half the way to a perfect score. What looks like it
and is not: features that are frozen on purpose and good enough, and modules that the forward does not use.
Source: Yosinski, Clune, Bengio and Lipson 2014, How transferable are features, section 4 (cost of freezing).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from downslope.core.edits import Advice, Edit, LetThrough, SetRecipe, Unfreeze
from downslope.core.finding import Evidence, Finding, Severity, Where
from downslope.core.run import Run
from downslope.diagnosis.early import FEW, little, short
from downslope.diagnosis.progress import Progress, progress
from downslope.diagnosis.proof import not_tried, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

FALL = 0.25
"""Share of the first loss by which a run must have got below it to have learnt more than little, where
nothing else is known to compare it with. Autoencoders with an untrained decoder fell by 0.05 to 0.17."""

_SOURCE = "Yosinski et al. 2014, section 4"
_WORDS = {
    "frozen": "they are held fixed (requires_grad=False)",
    "cut": "no gradient comes back to them (detach, no_grad, sign, argmax, numpy in the forward pass)",
    "left out": "they were not handed to the optimizer",
    "replaced": "they took the place of others in mid-run, and the optimizer still holds those",
    "unregistered": "the model calls them and does not have them, so that model.parameters() leaves them out",
    "never stepped": "backward() was called and the optimizer's step() never",
    "cleared": "their gradients were gone at every step (zero_grad after backward, or no backward)",
}


@symptom(
    "frozen-parameters",
    title="parameters that no step changes",
    order=("model", 3),
    needs=("flow",),
    explains=(
        "vanishing-gradient", "dead-units", "high-bias", "too-few-steps", "learning-rate-too-low", "plateau",
    ),
    source=_SOURCE,
)  # fmt: skip
def frozen_parameters(run: Run) -> Verdict:
    """Parameters that the loss depends on and no step changes, in a run far from what is reachable."""
    flow: Mapping[str, Any] = run.facts["flow"]
    held: Sequence[Mapping[str, Any]] = flow["held"]
    beside = _beside(run, flow)
    if beside is not None and (beside.severity != "info" or not held):
        return beside
    if not held:
        return Clear("every parameter that counts gets a gradient and is in the optimizer")
    part: Mapping[str, int] = flow.get("part") or {}
    count = sum(each["parameters"] for each in held) + sum(part.values())
    share = count / max(flow["parameters"], 1)
    which = ", ".join([*_names(held), *(f"part of {name}" for name in part)])
    said = f"{count} of {flow['parameters']} parameters never change ({which})"
    if flow.get("watched"):
        return _seen(run, flow, said, share)
    how = progress(run)
    if not how.ended_far:
        return Clear(f"{said}, and the run does well without them")
    reasons = sorted({str(each["why"]) for each in held})
    edits = _remedies(run, held)
    bug = "frozen" not in reasons
    alone = not edits[0].provable and reasons != ["cut"]
    severity = settle(run, "frozen-parameters", strong=bug and (how.standing or alone))
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'frozen-parameters')}")
    if severity == "info" and not edits[0].provable:
        return Unknown(not_tried(run))
    return _finding(run, severity, share, said, held)


def _seen(run: Run, flow: Mapping[str, Any], said: str, share: float) -> Verdict:
    """The verdict on somebody's own loop, where nothing was tried.

    Beyond doubt is a model that no step changes at all, and a layer that was left out of the optimizer though
    one before it is in, or though the optimizer holds a layer of no model. What is held fixed, the first
    layers that are left out, and what is called and not reached, may be meant: they are told, as no fault.
    """
    held: Sequence[Mapping[str, Any]] = flow["held"]
    reasons = {str(each["why"]) for each in held}
    if not flow["trained"] and flow["sure"] and "since" not in flow:
        return _finding(run, "critical", share, said, held)
    how = progress(run)
    sure = flow["sure"] and bool({"left out", "replaced"} & reasons)
    if how.share is not None and not how.ended_far:
        if sure:
            return _finding(run, "info", share, said, held)
        return Clear(f"{said}, and the run does well without them")
    stands = how.standing and not little(run) and not short(run)
    if sure or (stands and reasons != {"frozen"}):
        return _finding(run, "critical" if stands else "warning", share, said, held)
    if "cut" in reasons:  # the optimizer holds them, and nobody said that they are to stay: worth a word
        return _finding(run, "info", share, said, held)
    return Unknown(f"{said}: {not_tried(run)}")


def _beside(run: Run, flow: Mapping[str, Any]) -> Finding | None:
    """The verdict on modules that get a gradient, look untrained, and are no part of what is trained.

    A judge or fixed features are used so on purpose, and the run then learns. What stands between the model
    and its loss, and what the model calls without having it, is blamed for a run that learnt little; what
    comes before it only where the run stands.
    """
    rows: Sequence[Mapping[str, Any]] = flow.get("outside") or ()
    how = progress(run)
    stands = how.standing and not little(run) and not short(run)
    between = [each for each in rows if each["place"] == "after" and run.facts.get("foreign")]
    held = [each for each in rows if each["place"] == "loose"] + between
    held += [each for each in rows if each["place"] == "before" and stands]
    if not held:
        return None
    count = sum(each["parameters"] for each in held)
    every = flow["parameters"] + count
    said = f"{count} of {every} parameters that get a gradient never change ({', '.join(_names(held))})"
    severity: Severity = "critical" if stands else "warning" if _poor(run, how) else "info"
    return _finding(run, severity, count / every, said, held)


def _poor(run: Run, how: Progress) -> bool:
    """Whether the run ended far from its goal; where that is not known, whether its loss hardly fell."""
    if short(run) or (run.summary.get("steps") or 0) < FEW:
        return False
    if how.share is not None:
        return how.ended_far
    if how.first is None or how.final is None:
        return False
    fall = how.final - how.first if run.maximize else how.first - how.final
    return fall < FALL * abs(how.first)


def _finding(
    run: Run, severity: Severity, share: float, said: str, held: Sequence[Mapping[str, Any]]
) -> Finding:
    meant = (
        " No fault where it is meant, or where the output does not need them." if severity == "info" else ""
    )
    return Finding(
        symptom="frozen-parameters",
        title="parameters that no step changes",
        severity=severity,
        where=Where(modules=tuple(_names(held)), steps=_since(run)),
        evidence=Evidence(
            name="parameters that count and never change",
            value=share,
            threshold=0.0,
            unit="share of all parameters",
            provenance="what a step does not change it cannot train",
        ),
        also=proved(run, "frozen-parameters"),
        message=f"{said}: {_reasons(held)}.{tried(run, 'frozen-parameters')}" + meant,
        remedies=_remedies(run, held),
        source=_SOURCE,
    )


def _since(run: Run) -> tuple[int, int] | None:
    """The steps without those parameters, where they were replaced on the way."""
    since = run.facts["flow"].get("since")
    return None if since is None else (int(since), max(int(since), int(run.summary.get("steps") or 0)))


def _names(held: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(each["name"]) for each in held]


def _reasons(held: Sequence[Mapping[str, Any]]) -> str:
    """Why, in words; of several reasons each with whom it is of."""
    by = {why: [str(each["name"]) for each in held if each["why"] == why] for why in _WORDS}
    found = {why: names for why, names in sorted(by.items()) if names}
    if len(found) == 1:
        return _WORDS[next(iter(found))]
    return "; ".join(f"{', '.join(names)}: {_WORDS[why]}" for why, names in found.items())


def left_out(cause: Finding, run: Run, names: Collection[str]) -> Finding:
    """What was found of a copy of a training, in which modules were held fixed that no optimizer holds.

    Args:
        cause: What was found.
        run: Of the copy.
        names: Those modules; what else is held fixed is so in the training too.
    """
    if cause.symptom != "frozen-parameters":
        return cause
    held: Sequence[Mapping[str, Any]] = run.facts["flow"]["held"]
    mine = [name for name in _names(held) if name in names]
    if not mine:
        return cause
    told = [{**each, "why": "left out" if each["name"] in mine else each["why"]} for each in held]
    remedies: list[Edit] = [_handing(mine)]
    for each in cause.remedies:
        rest = tuple(name for name in each.modules if name not in mine) if isinstance(each, Unfreeze) else ()
        remedies += [Unfreeze(rest)] if rest else [] if isinstance(each, Unfreeze) else [each]
    message = cause.message.replace(_reasons(held), _reasons(told))
    return replace(cause, message=message, remedies=tuple(remedies))


def _handing(names: Sequence[str]) -> Advice:
    whose = "make the optimizer from the parameters of the model that is trained"
    return Advice(f"{whose} ({', '.join(names)} too), after its last layer is in place")


def _remedies(run: Run, held: Sequence[Mapping[str, Any]]) -> tuple[Edit, ...]:
    by = {why: [str(each["name"]) for each in held if each["why"] == why] for why in _WORDS}
    edits: list[Edit] = []
    if by["frozen"]:
        edits.append(Unfreeze(tuple(name for name in by["frozen"] if name != "model")))
    if by["left out"]:
        if run.recipe is not None and run.recipe.groups:
            groups = [each.to_dict() for each in run.recipe.groups]
            edits.append(SetRecipe({"groups": [each for each in groups if each.get("train", True)]}))
        edits.append(_handing(by["left out"]))
    if by["replaced"]:
        edits.append(
            Advice(
                "make a new optimizer from model.parameters() after layers are replaced, or after a state is "
                "loaded with assign=True"
            )
        )
    if by["unregistered"]:
        names = ", ".join(by["unregistered"])
        edits.append(Advice(f"keep {names} in an nn.ModuleList or nn.ParameterList (a dict: nn.ModuleDict)"))
    if by["cleared"]:
        edits.append(Advice("call backward() after zero_grad() and before step(), on a loss of this model"))
    if by["never stepped"]:
        edits.append(Advice("call optimizer.step() after loss.backward(), once for every step"))
    if by["cut"]:
        through = any(each.get("through", True) for each in held if each["why"] == "cut")
        edits += [LetThrough()] if run.problem is not None and through else []
        how = "no detach, no no_grad" if through else "a smooth stand-in for sign, round, argmax or numpy"
        edits.append(Advice(f"let the gradient through to {', '.join(by['cut'])}: {how}"))
    return tuple(edits)
