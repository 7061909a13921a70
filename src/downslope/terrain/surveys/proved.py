"""What a proof of convexity leaves of what was measured: rounding, where the two say different things.

A convex loss has no saddle and no maximum, and one whose minimum is not attained has none of the three. What
was measured below zero is then the rounding of terms that all but cancel (the tail of a softmax in float32),
and larger than the residuals tell.
"""

from __future__ import annotations

import torch

from downslope.terrain.convexity.convexity import Convexity
from downslope.terrain.surveys.ends import Ends
from downslope.terrain.surveys.kind import FLAT, Judged, View, classify


def agreeing(
    judged: Judged, view: View, found: Ends, convex: Convexity | None
) -> tuple[Judged, View, Ends, str]:
    """Kind, view and eigenvalues that do not contradict what is proved, and a word where they did.

    Args:
        judged: The kind, by what was measured.
        view: What was measured, of what is gone down on.
        found: Eigenvalues.
        convex: What is known of the problem.
    """
    if convex is None or not (convex.convex and convex.proved):
        return judged, view, found, ""
    said, below = "", found.values < -found.errors
    if bool(below.any()):
        said = (
            f"the problem is proved to be convex, so the {float(found.values.min()):.2g} that was measured "
            "as its smallest curvature is rounding"
        )
        errors = torch.where(below, found.values.abs(), found.errors)
        found = found._replace(errors=errors)
        view = view._replace(low=float(found.values[-1]), low_error=float(errors[-1]))
    if judged.kind in ("saddle", "maximum"):
        judged = classify(view._replace(falls=0.0))
    if judged.kind in ("saddle", "maximum") or (judged.kind == "minimum" and convex.minima == "none"):
        flat = judged.change <= FLAT
        judged = Judged("plateau" if flat else "slope", False, True, judged.change)
    return judged, view, found, said
