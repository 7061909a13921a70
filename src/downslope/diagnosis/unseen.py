"""Why something could not be seen in a watched loop or script, in the words of whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping

from downslope.core.run import Run
from downslope.diagnosis.held_out import NOTHING

_LOOP = {
    "data": "the data was not seen: watch(..., data=(X, y)) shows it",
    "features": "the inputs are no plain numbers, or were not seen: watch(..., data=(X, y)) shows them",
    "output": "the objective is not known: watch(..., objective=...) says it",
    "constant": "the loss is not that of one known function: watch(..., objective=..., data=...) says it",
    "train_loss": "no training loss was seen: call monitor.step(loss)",
    "valid_loss": "no validation loss was seen: call monitor.validate(loss)",
    "ending": "no validation loss was seen: call monitor.validate(loss)",
    "start": "no forward pass of the model in training mode was seen",
    "": "needs measurements of its own, which ds.diagnose(problem, recipe) makes",
}

_SCRIPT = {
    "data": "the inputs were not seen",
    "features": "the inputs are no plain numbers, or were not seen",
    "output": "the objective was not recognised: it is none of torch.nn's losses",
    "constant": "the loss is not that of one known function, averaged",
    "train_loss": "no backward pass was seen",
    "valid_loss": NOTHING,
    "ending": NOTHING,
    "start": "no forward pass of a model in training mode was seen",
    "": "needs measurements of its own, which downslope diagnose makes of a task",
}

_PROBES = ("dead_fraction", "zero_fraction", "saturated_fraction")


def in_loop(run: Run, mixed: bool = False) -> None:
    """Add the reasons that hold for a monitor in somebody's own loop.

    Args:
        run: Gets them under ``not_measured``, which keeps those that it has.
        mixed: Whether the loss is a sum of several terms.
    """
    words = dict(_LOOP)
    if mixed:
        words["constant"] = "the loss is a sum of several terms, not that of one known function"
        words["output"] = "the loss is a sum of several terms: watch(..., objective=...) says what is wanted"
    if "valid_metric" in run.history and "valid_loss" not in run.history:
        words["ending"] = "only a metric was given: monitor.validate(loss) lets it be compared with training"
    _add(run, words)


def in_script(run: Run) -> None:
    """Add the reasons that hold for a script."""
    _add(run, _SCRIPT)


def _add(run: Run, words: Mapping[str, str]) -> None:
    reasons: dict[str, str] = run.facts["not_measured"]
    if run.facts.get("modules") is not None:
        no_such = "the model has no activation of this kind"
        for each in _PROBES:
            reasons.setdefault(each, no_such)
    for need, why in words.items():
        reasons.setdefault(need, why)
