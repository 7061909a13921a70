"""Units that are dead before the first step are the cause of the gradient that stops at them."""

from __future__ import annotations

import pytest
from torch import nn

from downslope.diagnosis.symptom import Clear
from downslope.diagnosis.symptoms.vanishing_gradient import vanishing_gradient
from tests.diagnosis.runs import layer, run
from tests.diagnosis.symptoms.problems import Functional, classes, diagnosed, found, net, problem, recipe
from tests.diagnosis.symptoms.trying import finding, tried

HOW = recipe(optimizer="sgd", lr=0.05, momentum=0.9, epochs=15)


def born_dead(functional: bool) -> nn.Module:
    model = Functional(12, 4) if functional else net(12, 4)
    first = model.get_submodule("first" if functional else "0")
    assert isinstance(first, nn.Linear)
    nn.init.constant_(first.bias, -30.0)
    return model


@pytest.mark.parametrize("functional", [False, True], ids=["modules", "functional"])
def test_a_first_layer_that_is_born_dead_is_the_root_and_no_gradient_vanishes(functional: bool) -> None:
    result = diagnosed(problem(classes(), lambda: born_dead(functional), "cross_entropy", "accuracy"), HOW)
    assert result.root is not None
    assert (result.root.symptom, result.root.severity) == ("dead-units", "critical")
    assert found(result, "vanishing-gradient") is None


@pytest.mark.parametrize(("born", "at_the_end"), [(0.5, 1.0), (1.0, 0.3), (None, None)])
def test_units_that_die_later_or_come_back_and_none_at_all_leave_it_a_gradient_that_vanishes(
    born: float | None, at_the_end: float | None
) -> None:
    layers = [layer(str(2 * i), grad_rms=g) for i, g in enumerate([1e-9, 1e-6, 1e-3])]
    made = tried(run(start={"loss": 2.35, "layers": layers, "norms": 0}), "vanishing-gradient", 0.9)
    if born is not None and at_the_end is not None:
        made.probes.log(0, "dead_fraction", {"1": born})
        made.probes.log(200, "dead_fraction", {"1": at_the_end})
    assert finding(vanishing_gradient(made)).severity == "critical"
    made.probes.log(0, "dead_fraction", {"1": 1.0})
    made.probes.log(200, "dead_fraction", {"1": 1.0})
    assert isinstance(vanishing_gradient(made), Clear)
