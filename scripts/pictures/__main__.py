"""Draw the pictures of guide and symptoms from real runs: ``python -m scripts.pictures [NAME ...]``.

Needs the extra `matplotlib`, and for the animations `images`.
Every run is seeded, so that a picture changes only if what it shows does.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from scripts.pictures import (
    adaptive,
    batches,
    changes,
    convexity,
    deep_gradients,
    demo,
    descent,
    entities,
    exact,
    films,
    gauss_newton,
    half,
    landscapes,
    learning,
    matrix_methods,
    minima,
    models,
    momentum,
    normalisation,
    optimizers,
    propagation,
    racing,
    regularisation,
    risk,
    second_order,
    spectrum,
    speed,
    starts,
    symptoms,
    terrain_steps,
    transfer,
    tuning,
)

DRAWN: dict[str, Callable[[], Path]] = {
    "paths": landscapes.paths,
    "slices": landscapes.slices,
    "connection": landscapes.connection,
    "second-order": second_order.second_order,
    "three-entities": entities.three_entities,
    "objectives": entities.objectives,
    "gradient-check": propagation.gradient_check,
    "goal": learning.goal,
    "early-stopping": learning.early_stopping,
    "surrogate-losses": learning.surrogate_losses,
    "closed-form": exact.closed_form,
    "convex-sets": exact.convex_sets,
    "convex-functions": convexity.convex_functions,
    "convex-models": convexity.convex_models,
    "start-terrain-step": descent.start_terrain_step,
    "gradient-descent": descent.gradient_descent,
    "schedules": descent.schedules,
    "momentum": momentum.momentum,
    "adaptive-rates": adaptive.adaptive_rates,
    "composition": models.composition,
    "activations": models.activations,
    "symmetry": starts.symmetry,
    "init-activations": starts.init_activations,
    "init-gradients": starts.init_gradients,
    "init-variance": starts.init_variance,
    "mup": starts.mup,
    "plateaus": terrain_steps.plateaus,
    "ill-conditioning": terrain_steps.ill_conditioning,
    "vanishing-gradient": deep_gradients.vanishing_gradient,
    "cliffs": deep_gradients.cliffs,
    "long-term-dependencies": deep_gradients.long_term_dependencies,
    "transfer": transfer.transfer,
    "spectrum": spectrum.spectrum,
    "edge-of-stability": spectrum.edge_of_stability,
    "mini-batch": speed.mini_batch,
    "batch-race": batches.batch_race,
    "half-precision": half.half_precision,
    "random-search": tuning.random_search,
    "tuning-order": tuning.tuning_order,
    "racing": racing.racing,
    "optimizers": optimizers.optimizers,
    "vectorisation": speed.vectorisation,
    "populations": speed.populations,
    "gauss-newton": gauss_newton.gauss_newton,
    "matrix-methods": matrix_methods.matrix_methods,
    "batch-normalisation": normalisation.batch_normalisation,
    "regularisation": regularisation.regularisation,
    "augmentation": changes.augmentation,
    "local-minima": minima.local_minima,
    "saddle-points": minima.saddle_points,
    "optimizers-on-contours": films.optimizers_on_contours,
    "starts": films.starts,
    "rates": films.rates,
    "saddle": films.saddle,
    "local-minimum": films.local_minimum,
    "demo": demo.demo,
    "empirical-risk": risk.empirical_risk,
    "bias-variance": risk.bias_variance,
    **{f"symptoms/{name}": partial(symptoms.draw, name) for name in symptoms.names()},
}


def main(names: list[str]) -> int:
    """Draw the pictures named, or all of them."""
    unknown = [name for name in names if name not in DRAWN]
    if unknown:
        print(f"no picture {unknown[0]!r}; there are {', '.join(DRAWN)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    for name in names or DRAWN:
        started = time.perf_counter()
        path = DRAWN[name]()
        print(f"{path.name}  {path.stat().st_size / 1000:.0f} kB  {time.perf_counter() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
