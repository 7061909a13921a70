"""A script's model asked once more at the end: in both modes, on held-out data prepared as the other, and of
its rare classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from downslope.core.run import Run
from downslope.diagnosis.gathered import Gathered, undisturbed
from downslope.diagnosis.measure import recognised
from downslope.diagnosis.measure.prepared import CLASSES, MIDDLES
from downslope.diagnosis.measure.shift import compare
from downslope.diagnosis.shown import Loss, Shown, modes, part_of
from downslope.training.facts import record

UNSEEN = "no held-out batch was seen together with the model's call that its score is of"


def look(run: Run, gathered: Gathered, held: Shown | None, evaluated: bool) -> None:
    """Put ``modes`` and ``shift`` into `run` where its script left what tells them.

    Args:
        run: Concluded, with ``ending`` and ``constant`` where they are known.
        gathered: What went through the loop.
        held: What was scored without gradients; None where nothing was.
        evaluated: Whether a model was put into eval mode, whatever was scored there.
    """
    train, function, said = gathered.shown, gathered.function, gathered.meaning
    reasons: dict[str, str] = run.facts["not_measured"]
    reasons.setdefault("shift", reasons.get("ending", UNSEEN))
    if not train.passes or function is None or run.status == "diverged":
        return
    scored = held if held is not None and held.passes else None
    with undisturbed():
        if evaluated if scored is None else not scored.passes[0].training:
            record(run, "modes", lambda: modes(train, function))
        if scored is not None and "ending" in run.facts:
            expects = None if said is None else said.expects
            reasons.pop("shift")
            record(run, "shift", lambda: _shift(run, gathered, function, scored, expects))
    reasons.setdefault("shift", reasons.get("ending", UNSEEN))


def _shift(
    run: Run, gathered: Gathered, function: Loss, held: Shown, expects: str | None
) -> dict[str, Any] | None:
    constant: Mapping[str, Any] = run.facts.get("constant") or {}
    base = constant.get("loss")
    if base is None or not math.isfinite(base):
        return None
    one = part_of(gathered.shown, function, training=held.passes[0].training)
    two = part_of(held, function)
    if one is None or two is None or gathered.shown.passes[0].module() is not held.passes[0].module():
        return None
    middle = MIDDLES.get(str(expects))
    return compare(one, two, base / gathered.scale, expects in CLASSES, middle=middle)


def recognise(run: Run, gathered: Gathered, held: tuple[Tensor, Tensor] | None) -> None:
    """Put ``recognised`` into `run`: what its model says of rare classes, on held-out examples if there are.

    Else those count that were kept of the training, answered by a copy of the model in eval mode.
    """
    function, said = gathered.function, gathered.meaning
    if function is None or said is None or run.status == "diverged":
        return

    def found() -> dict[str, Any] | None:
        pair = _trained(gathered) if held is None else held
        made = None if pair is None else recognised.measure(*pair, said.expects)
        if made is None:
            return None
        return made | {"held_out": held is not None}

    with undisturbed():
        record(run, "recognised", found)


def _trained(gathered: Gathered) -> tuple[Tensor, Tensor] | None:
    if gathered.function is None:
        return None
    part = part_of(gathered.shown, gathered.function, training=False)
    made = None if part is None else part.answer(None).output
    if part is None or made is None or part.target is None:
        return None
    return made.cpu(), part.target.cpu()
