"""Missing non-linearity. Layer after layer of weights with nothing between them: one layer in disguise.

A user sees a deep model that does no better than linear regression, however wide it is made. A product of
matrices is a matrix: without an activation between them several layers can say no more than one. How we know:
half way between two inputs the output lies half way between the two outputs, to rounding. What looks like it
and is not: a linear model that is meant to be one, and a factorisation whose narrow middle is the point.
Source: Goodfellow, Bengio and Courville 2016, Deep Learning, section 6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from downslope.core.adapted import unwrap
from downslope.core.edits import Advice, Combined, Edit, Reinitialise, ReplaceModule, several
from downslope.core.finding import Evidence, Finding, Where
from downslope.core.run import Run
from downslope.diagnosis.measure.affine import EXACT
from downslope.diagnosis.progress import progress
from downslope.diagnosis.proof import proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom

_SOURCE = "Goodfellow et al. 2016, section 6.1"


@symptom(
    "missing-nonlinearity",
    title="no activation between the layers",
    order=("model", 0),
    needs=("affine",),
    explains=("high-bias", "too-few-steps", "learning-rate-too-low", "plateau", "ill-conditioned"),
    source=_SOURCE,
)
def missing_nonlinearity(run: Run) -> Verdict:
    """Two or more layers of weights, an affine model, and a run far from what a bent one reaches."""
    affine: Mapping[str, Any] = run.facts["affine"]
    layers: Sequence[str] = affine["layers"]
    if len(layers) < 2:
        return Clear("fewer than two layers of weights: nothing can be missing between them")
    if affine["bend"] > EXACT:
        return Clear(f"half way between two inputs the output bends by {affine['bend']:.2g} of its deviation")
    if not progress(run).ended_far:
        return Clear("the model is linear, and does as well as one that is not")
    if _unmoved(run, layers):
        return Unknown("no gradient ever reached its layers: what they reach as they are was not seen")
    severity = settle(run, "missing-nonlinearity", strong=False)
    if severity is None:
        return Clear(f"the model is linear; {refuted(run, 'missing-nonlinearity')}")
    return Finding(
        symptom="missing-nonlinearity",
        title="no activation between the layers",
        severity=severity,
        where=Where(modules=tuple(layers[:-1])),
        evidence=Evidence(
            name="bend of the output half way between two inputs",
            value=affine["bend"],
            threshold=EXACT,
            unit="deviation of the output",
            provenance="0 for a linear model; rounding in float64 is 1e-13",
        ),
        also=proved(run, "missing-nonlinearity"),
        message=f"The {len(layers)} layers of weights make one linear function: there is no activation "
        f"between them.{tried(run, 'missing-nonlinearity')}",
        remedies=_remedies(run, layers),
        source=_SOURCE,
    )


def _unmoved(run: Run, layers: Sequence[str]) -> bool:
    """Whether the gradients of all layers were zero throughout: then the start is to blame, not the model."""
    norms = run.probes.get("grad_norm")
    return norms is not None and all(
        layer in norms.modules and not bool(np.nanmax(norms.of(layer)) > 0) for layer in layers
    )


def _remedies(run: Run, layers: Sequence[str]) -> tuple[Edit, ...]:
    advice = Advice(f"an activation such as relu after {several(layers[:-1])}")
    if run.problem is None:
        return (advice,)
    model = unwrap(run.problem.build())
    swaps = [_activated(name, model.get_submodule(name)) for name in layers[:-1]]
    if not swaps or any(each is None for each in swaps):
        return (advice,)
    edits = tuple(each for each in swaps if each is not None)
    return (Combined((*edits, Reinitialise("he", tuple(layers[:-1])))), advice)


def _activated(name: str, module: nn.Module) -> Edit | None:
    """The same layer with a ReLU behind it, under the same name."""
    if type(module) is nn.Linear:
        given: dict[str, Any] = {
            "in_features": module.in_features, "out_features": module.out_features,
            "bias": "bias" in dict(module.named_parameters()),
        }  # fmt: skip
        return ReplaceModule(name, "downslope.models.activated:ActivatedLinear", given)
    if type(module) is nn.Conv2d and isinstance(module.padding, tuple):
        given = {
            "in_channels": module.in_channels, "out_channels": module.out_channels,
            "kernel_size": list(module.kernel_size), "stride": list(module.stride),
            "padding": list(module.padding), "dilation": list(module.dilation), "groups": module.groups,
            "bias": "bias" in dict(module.named_parameters()),
        }  # fmt: skip
        return ReplaceModule(name, "downslope.models.activated:ActivatedConv2d", given)
    return None
