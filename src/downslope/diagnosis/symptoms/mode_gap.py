"""Train-eval gap. The model that is used is not the one that was trained: eval mode answers worse, on the
same data.

A user sees a training loss that falls and a validation loss, or predictions, that are far off, even on the
training examples. Batch norm uses the statistics of the batch in training and running means in eval mode;
with a momentum too small, batches too small, or statistics of other data the two differ. Dropout called as a
function without ``training=self.training`` goes on in eval mode. What looks like it and is not: overfitting,
where both modes agree on the training data, and dropout, whose training loss is the higher one.
Source: Ioffe and Szegedy 2015, section 3.1; Wu and Johnson 2021, Rethinking "batch" in BatchNorm, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.edits import Advice, Combined, Edit, LessDropout, OneMode, ReplaceModule
from downslope.core.edits.edit import several
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.measure.modes import NOISY
from downslope.diagnosis.progress import progress, table
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried, trying
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, missing, symptom

GAP = 0.25
"""Share of the way from the constant to the training-mode loss that eval mode loses; sound norms lose
0.05."""

SURE = 4.0
"""The same in its standard errors, where a script's model was asked on a few batches. Convention."""

FEW = 4
"""Examples in a batch up to which the statistics of a norm layer are looked at, where a run ended far."""

_SOURCE = "Ioffe and Szegedy 2015, section 3.1; Wu and Johnson 2021, section 3"


@symptom(
    "mode-gap",
    title="eval mode answers worse than training mode on the same data",
    order=("generalisation", 0),
    explains=("high-variance", "high-bias"),
    source=_SOURCE,
)
def mode_gap(run: Run) -> Verdict:
    """On the training examples the loss in eval mode is far above that in training mode, or the steps
    themselves were taken in eval mode.
    """
    if (resting := table(run, "resting")) and not table(run, "modules"):
        return _resting(run, resting)
    for need in ("modes", "constant"):
        if (why := missing(run, need)) is not None:
            return Unknown(why)
    modes: Mapping[str, Any] = run.facts["modes"]
    base = run.facts["constant"].get("loss")
    if base is None:
        return Unknown("the best constant prediction is not known")
    sign = -1.0 if run.problem is not None and run.problem.maximize else 1.0
    if not math.isfinite(modes["train"]):
        return Unknown("the loss in training mode is no number")
    way = sign * (base - modes["train"])
    lost = sign * (modes["eval"] - modes["train"]) if math.isfinite(modes["eval"]) else math.inf
    if way <= 0.05 * abs(base):
        return Clear("the run learnt nothing in training mode either")
    if (random_alone := _drawn(run, modes, sign, float(base))) is not None:
        return random_alone
    share, drawn = lost / way, float(modes["drawn"])
    whole = min(max(share, 0.0), 1.0)
    said = f"eval mode loses {whole:.0%} of what training mode has gained on the same examples"
    random = drawn > NOISY
    if modes.get("sure", math.inf) < SURE:
        return Clear(f"{said} ({modes['sure']:.1f} standard errors)")
    if share < GAP and not (random and progress(run).ended_far):
        return _few(run, modes) or Clear(said)
    edits = _remedies(run, modes["norms"], random=random)
    return Finding(
        symptom="mode-gap",
        title="eval mode answers worse than training mode on the same data",
        severity="critical" if progress(run).standing or share >= 1 else "warning",
        where=Where(modules=tuple(modes["norms"])),
        evidence=Evidence(
            name="what eval mode loses on the training examples",
            value=share,
            threshold=GAP,
            unit="share of the way from a constant guess to the training-mode loss",
            provenance="sound norm layers lose at most 0.05; bench/diagnosis",
        ),
        also=proved(run, "mode-gap"),
        message=f"On the training examples the loss is {modes['train']:.4g} in training mode and "
        f"{modes['eval']:.4g} in eval mode. {_why(modes, random=random)}{tried(run, 'mode-gap')}",
        remedies=edits,
        source=_SOURCE,
    )


def _drawn(run: Run, modes: Mapping[str, Any], sign: float, base: float) -> Finding | None:
    """A model that goes on dropping in eval mode, and answers far better where it does not."""
    quiet: float | None = modes.get("quiet")
    if quiet is None or not math.isfinite(quiet) or (modes.get("quiet_sure") or math.inf) < SURE:
        return None
    way, lost = sign * (base - quiet), sign * (modes["eval"] - quiet)
    if way <= 0.05 * abs(base) or not lost >= GAP * way:
        return None
    return Finding(
        symptom="mode-gap",
        title="dropout goes on in eval mode",
        severity="critical" if lost >= way else "warning",
        evidence=Evidence(
            name="what dropout costs in eval mode, on the training examples",
            value=lost / way,
            threshold=GAP,
            unit="share of the way from a constant guess to the loss without it",
            provenance="as of the gap between modes",
        ),
        also=proved(run, "mode-gap"),
        message=f"Two passes in eval mode differ. On the training examples its loss is "
        f"{modes['eval']:.4g}, and {quiet:.4g} with every dropout silenced: it is not told of the mode."
        f"{tried(run, 'mode-gap')}",
        remedies=_remedies(run, (), random=True),
        source=_SOURCE,
    )


def _resting(run: Run, resting: Mapping[str, Any]) -> Verdict:
    """Every step was taken in eval mode; norm layers that never saw a batch are none, others may be meant."""
    norms, drops = list(resting["norms"]), list(resting["dropouts"])
    how = progress(run)
    fault = resting["untouched"] and resting["trained"] and (how.ended_far or how.standing)
    does = [f"{', '.join(norms)} scale by running statistics that no batch changes"] if norms else []
    does += [f"{', '.join(drops)} drop nothing"] if drops else []
    at = " (still mean 0 and variance 1, as they are made)" if resting["untouched"] else ""
    say = "model.train() before the training loop, after every model.eval()"
    meant = "" if fault else f" No fault where it is meant, as in fine-tuning; else call {say}."
    return Finding(
        symptom="mode-gap",
        title="the training steps were taken in eval mode",
        severity=("critical" if how.standing and not how.diverged else "warning") if fault else "info",
        where=Where(modules=(*norms, *drops)),
        evidence=Evidence(
            name="forward passes in training mode before the steps that were looked at",
            value=0.0,
            threshold=1.0,
            unit="passes",
            provenance="norm layers and dropout do their work in training mode only",
        ),
        message=f"The model was in eval mode in every training step: {'; '.join(does)}{at}.{meant}",
        remedies=(Advice(f"call {say}"),),
        source=_SOURCE,
    )


def _few(run: Run, modes: Mapping[str, Any]) -> Verdict | None:
    """Norm layers that see a few examples at a time, in a run that ended far; a trial decides."""
    batch = modes.get("batch")
    if not modes["norms"] or batch is None or batch > FEW or not progress(run).ended_far or not trying(run):
        return None
    said = f"the norm layers take their statistics from {batch} examples at a time"
    severity = settle(run, "mode-gap", strong=False)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'mode-gap')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    usual, *others = _remedies(run, modes["norms"], random=False)
    return Finding(
        symptom="mode-gap",
        title="batch statistics of a few examples",
        severity=severity,
        where=Where(modules=tuple(modes["norms"])),
        evidence=Evidence(
            name="examples in a batch whose statistics the norm layers take",
            value=float(batch),
            threshold=float(FEW),
            provenance="the error grows fast below 16 (Wu and He 2018, figure 1)",
        ),
        also=proved(run, "mode-gap"),
        message=f"{said[0].upper()}{said[1:]}: what they scale by is mostly chance.{tried(run, 'mode-gap')}",
        remedies=(*others, usual) if others and others[0].provable else (usual, *others),
        source="Wu and He 2018, Group normalization",
    )


def _why(modes: Mapping[str, Any], *, random: bool) -> str:
    if random:
        return (
            "Two passes in eval mode differ: something draws at random there (dropout without training=...)."
        )
    still: Sequence[str] = modes.get("still") or ()
    if still:
        return (
            f"The running statistics of {several(still)} still have mean 0 and variance 1, as they are made: "
            "their momentum is too small (torch's is the share of the new batch, 0.1; of others 1 less that)."
        )
    if modes["norms"]:
        return "The running statistics of the norm layers are not those of the data."
    return "Something in the forward pass depends on the mode."


def _remedies(run: Run, norms: Sequence[str], *, random: bool) -> tuple[Edit, ...]:
    if random:
        advice = Advice("functional.dropout(x, p, training=self.training)")
        return (LessDropout(), advice) if run.problem is not None else (advice,)
    advice = Advice("batch norm with momentum 0.1 and batches of 16 and more, or group norm")
    if not norms:
        same = Advice("let the forward pass do the same in both modes: no `if self.training`")
        return (same,) if run.problem is None else (OneMode(), OneMode("train"), same)
    if run.problem is None:
        return (advice,)
    model = unwrap(run.problem.build())
    swaps = [_plain(name, model.get_submodule(name)) for name in norms]
    if any(each is None for each in swaps):
        return (advice,)
    usual = tuple(each[0] for each in swaps if each is not None)
    group = tuple(each[1] for each in swaps if each is not None)
    return Combined(usual), Combined(group), advice


def _plain(name: str, module: nn.Module) -> tuple[Edit, Edit] | None:
    """A batch norm with torch's defaults, and a group norm, in the place of `module`."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    kind = next((each for each in kinds if isinstance(module, each)), None)
    count = getattr(module, "num_features", None)
    if kind is None or not isinstance(count, int):
        return None
    groups = next(each for each in (8, 4, 2, 1) if count % each == 0)
    usual = ReplaceModule(name, f"torch.nn:{kind.__name__}", {"num_features": count})
    return usual, ReplaceModule(name, "torch.nn:GroupNorm", {"num_groups": groups, "num_channels": count})
