"""Methods that add up over a tensor or over everything, or show other weights: their steps on symbols."""

from __future__ import annotations

from downslope import optim
from downslope.testing import Case, Descent, Hand
from downslope.testing.rules.descent import Descents
from downslope.testing.rules.hand import HandSteps
from downslope.testing.rules.invariance import Invariances
from downslope.testing.rules.symbolic import SymbolicStep
from tests.optim import expressions
from tests.optim.test_rules import BY_ELEMENT, LINEAR, as_

DECAYED = {"lr": 0.1, "weight_decay": 0.1}


class TestPapers(SymbolicStep, HandSteps, Invariances, Descents):
    """What the contracts of these methods, which have recurrences of all parameters, leave out."""

    cases = (
        Case("LAMB", as_(optim.LAMB, **DECAYED), paper=expressions.lamb),
        Case("LARS", as_(optim.LARS, **DECAYED, dampening=0.2, eps=0.1), paper=expressions.lars),
        Case("CautiousAdamW", as_(optim.CautiousAdamW, **DECAYED), paper=expressions.cautious_adamw),
        Case(
            "CautiousLion",
            as_(optim.CautiousLion, **DECAYED),
            paper=expressions.cautious_lion,
            # c = .2, and then .9 .02 - .1 = -.082: both agree, half a step each, and the decay.
            hand=(1 - 0.1 * (0.5 + 0.1), 0.94 - 0.1 * (-0.5 + 0.094)),
            descents=(Descent("quadratic", 300, 0.5, lr=0.01),),
        ),
        Case(
            "Prodigy",
            as_(optim.Prodigy, weight_decay=0.1),
            paper=expressions.prodigy,
            descents=(Descent("quadratic", 300, 1e-2),),
        ),
        Case("Prodigy, plain", as_(optim.Prodigy), invariances=("odd", "translation")),
        Case("ScheduleFreeSGD", as_(optim.ScheduleFreeSGD, lr=0.1), paper=expressions.schedule_free),
        Case(
            "ScheduleFreeAdamW",
            as_(optim.ScheduleFreeAdamW, **DECAYED),
            paper=expressions.schedule_free_adamw,
        ),
        Case("ScheduleFreeAdamW, plain", as_(optim.ScheduleFreeAdamW, lr=0.01), invariances=BY_ELEMENT),
        Case(
            "SparseAdam",
            as_(optim.SparseAdam, lr=0.1),
            paper=expressions.sparse_adam,
            hand=(1 - 0.1 * 2 / (2 + 1e-8 * 1000**0.5), 0.8733663156),
            invariances=BY_ELEMENT,
            descents=(Descent("quadratic", 500, 1e-3), Descent("rosenbrock", 1000, 0.5, lr=0.02)),
        ),
        Case(
            "Muon",
            as_(
                optim.Muon,
                lr=0.1,
                weight_decay=0.0,
                adjust_lr_fn="original",
                ns_precision="float32",
                matrices=True,
            ),
            # Five iterations of Newton and Schulz take diag(3, 4) / 5 to diag(.7228761686, 1.119203930).
            hand=Hand(
                (
                    [[0.92771238314, 0.0], [0.0, 0.888079607]],
                    [[0.85542476628, 0.0], [0.0, 0.776159214]],
                ),
                [[1.0, 0.0], [0.0, 1.0]],
                ([[3.0, 0.0], [0.0, 4.0]],) * 2,
                tolerance=1e-6,
            ),
        ),
        Case(
            "SOAP",
            as_(optim.SOAP, lr=0.1, betas=(0.95, 0.95), weight_decay=0.0),
            # A multiple of the identity is that in every basis: Adam's steps, 1 and .045 / .0975 over the
            # root of .24 / .0975.
            hand=Hand(
                (
                    [[0.9, 0.0], [0.0, 0.9]],
                    [[0.8705825841, 0.0], [0.0, 0.8705825841]],
                ),
                [[1.0, 0.0], [0.0, 1.0]],
                ([[2.0, 0.0], [0.0, 2.0]], [[-1.0, 0.0], [0.0, -1.0]]),
                tolerance=1e-8,
            ),
        ),
        Case("Momentum", as_(optim.Momentum, lr=0.1), descents=(Descent("quadratic", 300, 1e-8),)),
        Case("LARS, linear in the rate", as_(optim.LARS, lr=0.1, adapt=False), invariances=LINEAR),
    )
