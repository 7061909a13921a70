"""Symmetric start. All units of a layer begin alike, get the same gradient, and stay alike.

A user sees a wide model that learns like one with a single unit a layer, or not at all where all weights are
zero. Units with equal weights in and out compute the same thing and are changed by the same step; nothing
tells them apart again, save dropout and rounding: whether they parted is measured at the end. What looks like
it and is not: a last layer that starts at zero (its units differ by their targets), and biases that start
equal.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 8.4; Glorot and Bengio 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downslope.core.edits import Reinitialise
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.bare import no_layer
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried, trying
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "Goodfellow et al. 2016, section 8.4"


@symptom(
    "symmetric-init",
    title="units that start alike and stay alike",
    order=("model", 1),
    needs=("start",),
    explains=(
        "init-scale", "vanishing-gradient", "dead-units", "learning-rate-too-low", "learning-rate-too-high",
        "high-bias", "plateau", "saddle-point", "ill-conditioned", "too-few-steps",
    ),
    source=_SOURCE,
)  # fmt: skip
def symmetric_init(run: Run) -> Verdict:
    """A hidden layer whose units have equal weights from the first step on, in a run that suffers."""
    layers: Sequence[Mapping[str, Any]] = run.facts["start"]["layers"]
    hidden = [layer for layer in layers[:-1] if layer["trainable"]]
    held: Sequence[Mapping[str, Any]] = run.facts["start"].get("matrices") or ()
    recurrent = _recurrent(held)
    bare = [each for each in held if each.get("bare")]
    # As with layers, the last may start at zero; the order is that of definition.
    stuck_at_zero = [str(each["name"]) for each in bare if each.get("stuck")]
    hidden_bare = bare if layers or stuck_at_zero else bare[:-1]
    recurrent += [str(each["name"]) for each in hidden_bare if each["alike"]]
    if not hidden and not held:
        none = "no hidden layer: no units that could be alike"
        return Clear(none) if layers else Unknown(no_layer(run))
    alike = [layer for layer in hidden if layer["equal_rows"]]
    if not alike and not recurrent:
        return Clear("the units of every hidden layer start different")
    names = (*(str(layer["name"]) for layer in alike), *recurrent)
    said = f"the units of {', '.join(names)} start alike"
    how, known = progress(run), _ended(run)
    parted = not recurrent and all(not known.get(str(each["name"]), _ALIKE)["still"] for each in alike)
    if parted and not trying(run):
        return Clear(f"{said}, and are different at the end")
    one = [str(each["name"]) for each in alike if _one(run, str(each["name"]))]
    certain = bool(one or stuck_at_zero)
    suffers = how.ended_far or (certain and how.share is None and not how.solved)
    if not suffers and not (stuck(run) and trying(run) and not how.solved):
        return Clear(f"{said}, but the run does well all the same")
    severity = settle(run, "symmetric-init", strong=certain or (how.standing and not parted))
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'symmetric-init')}")
    still = ""
    if one:
        which = "the layer is a single unit" if len(one) == 1 else "each is a layer of a single unit"
        still = f" At the end those of {', '.join(one)} still have: {which}."
    return Finding(
        symptom="symmetric-init",
        title="units that start alike and stay alike",
        severity=severity,
        where=Where(modules=names),
        evidence=Evidence(
            name=f"different units in {names[0]}",
            value=1.0,
            threshold=2.0,
            unit=f"of {alike[0]['fan_out']}" if alike else "of all its units",
            provenance="equal units get equal gradients",
        ),
        also=proved(run, "symmetric-init"),
        message=(_zeros(stuck_at_zero) if stuck_at_zero else _told(names) + still)
        + tried(run, "symmetric-init"),
        remedies=(Reinitialise("auto"),),
        source=_SOURCE,
    )


def _told(names: Sequence[str]) -> str:
    return (
        f"All units of {', '.join(names)} have the same weights before the first step, so they learn the "
        "same thing."
    )


def _zeros(names: Sequence[str]) -> str:
    return (
        f"{', '.join(names)} are zero from the first step to the last, and so is every gradient of theirs: "
        "each is a multiple of another."
    )


_ALIKE: Mapping[str, bool] = {"still": True, "moved": False}
"""What is taken of a layer that was not looked at again."""


def _ended(run: Run) -> Mapping[str, Mapping[str, bool]]:
    """What became of the units that started alike; empty where it was not looked at."""
    ending: Mapping[str, Any] = run.facts.get("ending") or {}
    return run.facts.get("alike") or ending.get("alike") or {}


def stuck(run: Run) -> list[str]:
    """The layers that stood at one number from the first step to the last: no gradient ever reached them.

    Where they multiply each other, as both layers of a gate at zero, a run may look well without them.
    """
    return [name for name, row in _ended(run).items() if row["still"] and not row["moved"]]


def _one(run: Run, name: str) -> bool:
    """Whether a layer was trained from end to end as a single unit: what needs no trial to be told.

    A layer that no gradient reached, such as the head of another task, is alike because nothing moved it.
    """
    row = _ended(run).get(name, _ALIKE)
    if not (row["still"] and row["moved"]):
        return False
    norms = run.probes.get("grad_norm")
    return norms is None or name not in norms.modules or bool(np.nanmax(norms.of(name)) > 0)


def _recurrent(held: Sequence[Mapping[str, Any]]) -> list[str]:
    """The recurrent modules all of whose matrices hold a single number each."""
    own = [each for each in held if not each.get("bare")]
    names = dict.fromkeys(str(each["module"]) for each in own)
    return [name for name in names if all(each["alike"] for each in own if each["module"] == name)]
