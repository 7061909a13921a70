"""The symptoms, one file each; importing this package registers them all.

To add one: write its file, its test, and one line here.
"""

from __future__ import annotations

from downslope.diagnosis.symptoms.batch_too_large import batch_too_large
from downslope.diagnosis.symptoms.class_imbalance import class_imbalance
from downslope.diagnosis.symptoms.cliff import cliff
from downslope.diagnosis.symptoms.constant_target import constant_target
from downslope.diagnosis.symptoms.dataset_shift import dataset_shift
from downslope.diagnosis.symptoms.dead_units import dead_units
from downslope.diagnosis.symptoms.exploding_gradient import exploding_gradient
from downslope.diagnosis.symptoms.frozen_parameters import frozen_parameters
from downslope.diagnosis.symptoms.high_bias import high_bias
from downslope.diagnosis.symptoms.high_variance import high_variance
from downslope.diagnosis.symptoms.ill_conditioned import ill_conditioned
from downslope.diagnosis.symptoms.init_scale import init_scale
from downslope.diagnosis.symptoms.label_noise import label_noise
from downslope.diagnosis.symptoms.learning_rate_too_high import learning_rate_too_high
from downslope.diagnosis.symptoms.learning_rate_too_low import learning_rate_too_low
from downslope.diagnosis.symptoms.long_term_dependency import long_term_dependency
from downslope.diagnosis.symptoms.missing_nonlinearity import missing_nonlinearity
from downslope.diagnosis.symptoms.mixed_examples import mixed_examples
from downslope.diagnosis.symptoms.mode_gap import mode_gap
from downslope.diagnosis.symptoms.noisy_gradient import noisy_gradient
from downslope.diagnosis.symptoms.non_differentiable import non_differentiable
from downslope.diagnosis.symptoms.non_finite_data import non_finite_data
from downslope.diagnosis.symptoms.objective_mismatch import objective_mismatch
from downslope.diagnosis.symptoms.oscillation import oscillation
from downslope.diagnosis.symptoms.output_activation import output_activation
from downslope.diagnosis.symptoms.over_regularised import over_regularised
from downslope.diagnosis.symptoms.plateau import plateau
from downslope.diagnosis.symptoms.saddle_point import saddle_point
from downslope.diagnosis.symptoms.saturated_units import saturated_units
from downslope.diagnosis.symptoms.stale_gradients import stale_gradients
from downslope.diagnosis.symptoms.summed_objective import summed_objective
from downslope.diagnosis.symptoms.symmetric_init import symmetric_init
from downslope.diagnosis.symptoms.too_few_steps import too_few_steps
from downslope.diagnosis.symptoms.uninformative_inputs import uninformative_inputs
from downslope.diagnosis.symptoms.unscaled_inputs import unscaled_inputs
from downslope.diagnosis.symptoms.unscaled_targets import unscaled_targets
from downslope.diagnosis.symptoms.unshuffled_data import unshuffled_data
from downslope.diagnosis.symptoms.unstable_objective import unstable_objective
from downslope.diagnosis.symptoms.vanishing_gradient import vanishing_gradient

__all__ = [
    "long_term_dependency",
    "exploding_gradient",
    "saturated_units",
    "dataset_shift",
    "high_bias",
    "over_regularised",
    "mixed_examples",
    "mode_gap",
    "ill_conditioned",
    "saddle_point",
    "plateau",
    "too_few_steps",
    "batch_too_large",
    "noisy_gradient",
    "cliff",
    "oscillation",
    "unshuffled_data",
    "uninformative_inputs",
    "label_noise",
    "constant_target",
    "class_imbalance",
    "symmetric_init",
    "frozen_parameters",
    "missing_nonlinearity",
    "unstable_objective",
    "stale_gradients",
    "summed_objective",
    "objective_mismatch",
    "non_differentiable",
    "dead_units",
    "high_variance",
    "init_scale",
    "learning_rate_too_high",
    "learning_rate_too_low",
    "non_finite_data",
    "output_activation",
    "unscaled_inputs",
    "unscaled_targets",
    "vanishing_gradient",
]
