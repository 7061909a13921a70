"""Batch too large. So many examples go into a step that there are hardly any steps.

A user sees epochs that cost much and change little. Beyond the gradient noise scale a larger batch says what
a smaller one said already; at the same number of epochs it only takes fewer steps. How we know: the noise
scale is far below the batch, the run is still falling, and a smaller batch comes further over as many
examples. What looks like it and is not: full-batch descent with steps enough, and a batch that a GPU takes at
the same price.
Source: McCandlish, Kaplan, Amodei et al. 2018, section 2.2; Keskar et al. 2017; Shallue et al. 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from downslope.core.edits import SetRecipe
from downslope.core.finding import Evidence, Finding
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.diagnosis.progress import FAR, progress
from downslope.diagnosis.proof import answered, not_tried, proved, refuted, settle, tried
from downslope.diagnosis.symptom import Clear, Unknown, Verdict, symptom
from downslope.diagnosis.unfinished import unfinished

LARGE = 0.5
"""Noise scale in the batch size below which a larger batch says nothing new."""

FEW = 400
"""Steps beyond which a run does not want for steps. Convention."""

USUAL = 32
"""The batch size of the remedy (Bengio 2012; Masters and Luschi 2018)."""

WON = 1.0 - FAR
"""Share of the way that smaller batches have to win over as many examples: what makes a run end far from what
is reachable. They buy steps, but no epochs: less than the half that is asked of a longer run is a gain."""

_SOURCE = "McCandlish et al. 2018, section 2.2; Shallue et al. 2019"


@symptom(
    "batch-too-large",
    title="the batch is larger than its noise asks for",
    order=("step", 6),
    needs=("noise",),
    explains=("too-few-steps", "learning-rate-too-low", "plateau", "high-bias", "ill-conditioned"),
    source=_SOURCE,
)
def batch_too_large(run: Run) -> Verdict:
    """Few, large batches in a run that is still falling far from what is reachable."""
    noise: Mapping[str, Any] = run.facts["noise"]
    recipe, steps = run.recipe, int(run.summary.get("steps") or 0)
    if len(run.history.series("evaluations").steps):
        return Clear("the method divides by curvature, which takes large batches to know")
    ratio = noise.get("ratio")
    said = f"{steps} steps of {noise['batch']} examples" + (
        ", no signal beyond the noise" if ratio is None else f", noise scale {ratio * noise['batch']:.3g}"
    )
    if noise["batch"] <= 4 * USUAL or steps > FEW:
        return Clear(said)
    if recipe is None or recipe.epochs is None:
        return Unknown("the run is counted in steps: a smaller batch would be a smaller budget")
    if not unfinished(run) and not progress(run).ended_far:
        return Clear(f"{said}, and the run came far enough")
    if ratio is None or ratio > LARGE:
        return Clear(f"{said}: the batch is not beyond its noise")
    severity = settle(run, "batch-too-large", strong=False, material=WON)
    if severity is None:
        return Clear(f"{said}; {refuted(run, 'batch-too-large')}")
    if severity == "info" and answered(run):
        return Unknown(not_tried(run))
    return Finding(
        symptom="batch-too-large",
        title="the batch is larger than its noise asks for",
        severity=severity,
        evidence=Evidence(
            name="gradient noise scale in the batch size",
            value=float(ratio),
            threshold=LARGE,
            provenance="at 1 signal and noise are equal (McCandlish et al. 2018)",
        ),
        also=proved(run, "batch-too-large", WON),
        message=f"{said[0].upper()}{said[1:]}: as many examples in smaller batches would be more steps, and "
        f"as "
        f"good ones.{tried(run, 'batch-too-large')}",
        remedies=(SetRecipe(_usual(recipe, noise), {"batch_size": recipe.batch_size}),),
        source=_SOURCE,
    )


def _usual(recipe: Recipe, noise: Mapping[str, Any]) -> dict[str, Any]:
    """The usual batch, and the rate that goes with it.

    A rate in proportion to the batch would take as many smaller steps to the same place. The best rate of a
    batch B at a noise scale S is ``lr_max / (1 + S / B)`` (McCandlish et al. 2018, equation 2.7): beyond its
    noise a batch allows hardly any more than a smaller one. Where the batch is the data itself no rate was
    chosen for its size, and it stays.
    """
    changes: dict[str, Any] = {"batch_size": USUAL}
    ratio, batch = noise.get("ratio"), noise["batch"]
    if not isinstance(recipe.batch_size, int) or recipe.lr is None or ratio is None:
        return changes
    law = (1.0 + ratio) / (1.0 + ratio * batch / USUAL)
    return changes | {"lr": float(f"{recipe.lr * law:.2g}")}
