from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.loss import Objective
from downslope.diagnosis.judge import judge
from downslope.diagnosis.measure import start
from downslope.training.facts import constant, data, output
from downslope.training.facts.expects import agreeing
from tests.diagnosis.runs import run

N = 60
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
CLASS = torch.arange(N) % 3
YES = (X[:, :1] > 0).float()
REAL = X[:, :1] * 2 - 1


class Custom(nn.Module):
    def __init__(self, units: int, end: Any) -> None:
        super().__init__()
        self.layer, self.end = nn.Linear(4, units), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.layer(x))


def measured(end: Any, units: int, objective: Any, target: Tensor) -> dict[str, Any]:
    made = ds.Problem(model=lambda: Custom(units, end), objective=objective, train=(X, target))
    return output.measure(made, ds.Recipe())


def verdict(end: Any, units: int, objective: Any, target: Tensor) -> Any:
    made = ds.Problem(model=lambda: Custom(units, end), objective=objective, train=(X, target))
    facts = {"output": output.measure(made, ds.Recipe()), "data": data.measure(made)}
    facts["start"] = start.measure(made, ds.Recipe())
    found = judge(run(**facts))
    return next((f for f in found.findings if f.symptom == "output-activation"), None)


SOFT = nn.Softmax(1)
ENDS = [
    (lambda z: z.softmax(1), "softmax"),
    (lambda z: functional.softmax(z, dim=-1).view(-1, 3), "softmax"),
    (lambda z: z.exp() / z.exp().sum(1, keepdim=True), "softmax"),
    (torch.sigmoid, "sigmoid"),
    (lambda z: torch.sigmoid(z).clamp(1e-6, 1 - 1e-6), "sigmoid"),
    (functional.relu, "relu"),
    (lambda z: torch.tanh(z).contiguous()[:, :2], "tanh"),
    (lambda z: z.log_softmax(1), "log_softmax"),
    (lambda z: z, None),
    (lambda z: 5 * torch.tanh(z), None),
    (functional.leaky_relu, None),
]


@pytest.mark.parametrize(("end", "wanted"), ENDS, ids=range(len(ENDS)))
def test_the_last_activation_is_seen_behind_views_whether_module_or_function(end: Any, wanted: str) -> None:
    found = measured(end, 3, lambda o, y: o.square().mean(), CLASS)
    assert found["activation"] == wanted
    assert found["module"] is None


def test_a_module_is_named() -> None:
    assert measured(SOFT, 3, nn.CrossEntropyLoss(), CLASS)["module"] == "end"


OBJECTIVES = [
    (functional.cross_entropy, 3, CLASS, "logits"),
    (lambda o, y: 0.5 * ((o - y) ** 2).mean(), 1, REAL, "real"),
    (functional.nll_loss, 3, CLASS, "log-probabilities"),
    (lambda o, y: -(o.gather(1, y[:, None])).log().mean(), 3, CLASS, "probabilities"),
    (lambda o, y: functional.binary_cross_entropy(o.squeeze(1), y.squeeze(1)), 1, YES, "probability"),
    (functional.binary_cross_entropy_with_logits, 1, YES, "logit"),
    (lambda o, y: (o**4).mean() + (y**2).mean(), 1, REAL, None),
]


@pytest.mark.parametrize(("own", "units", "target", "wanted"), OBJECTIVES, ids=lambda v: str(v)[:12])
def test_what_an_objective_of_ones_own_expects_is_found_by_asking_it(
    own: Any, units: int, target: Tensor, wanted: str | None
) -> None:
    made = ds.Problem(model=lambda: nn.Linear(4, units), objective=own, train=(X, target))
    assert agreeing(Objective(made), torch.zeros(N, units), target, (X,)) == wanted


WRONG = [
    (SOFT, 3, nn.CrossEntropyLoss(), CLASS, "objective -> categorical"),
    (
        lambda z: z.softmax(1),
        3,
        functional.cross_entropy,
        CLASS,
        "objective -> categorical",
    ),
    (torch.sigmoid, 1, nn.BCEWithLogitsLoss(), YES, "objective -> bernoulli"),
    (nn.ReLU(), 1, nn.BCEWithLogitsLoss(), YES, "end -> Identity"),
    (nn.ReLU(), 1, "mse", REAL, "end -> Identity"),
    (nn.Sigmoid(), 1, nn.MSELoss(), REAL, "end -> Identity"),
    (nn.Softmax(1), 1, nn.BCELoss(), YES, "end -> Sigmoid"),
    (nn.Identity(), 1, nn.BCELoss(), YES, "put Sigmoid after the model"),
    (nn.Identity(), 3, nn.NLLLoss(), CLASS, "objective -> cross_entropy"),
    (SOFT, 3, nn.NLLLoss(), CLASS, "objective -> categorical"),
]
RIGHT = [
    (nn.Identity(), 3, nn.CrossEntropyLoss(), CLASS),
    (nn.LogSoftmax(1), 3, nn.CrossEntropyLoss(), CLASS),
    (nn.LogSoftmax(1), 3, nn.NLLLoss(), CLASS),
    (nn.Sigmoid(), 1, nn.BCELoss(), YES),
    (SOFT, 3, "categorical", CLASS),
    (nn.Sigmoid(), 1, "mse", YES),
    (nn.ReLU(), 1, "mse", REAL.abs()),
    (nn.Tanh(), 1, "mse", REAL.tanh()),
    (nn.LeakyReLU(), 1, "mse", REAL),
]


@pytest.mark.parametrize(("end", "units", "objective", "target", "remedy"), WRONG, ids=range(len(WRONG)))
def test_an_output_that_cannot_say_what_is_wanted_is_found(
    end: Any, units: int, objective: Any, target: Tensor, remedy: str
) -> None:
    found = verdict(end, units, objective, target)
    assert found is not None
    assert found.severity != "info"
    assert str(found.remedies[0]) == remedy


@pytest.mark.parametrize(("end", "units", "objective", "target"), RIGHT, ids=range(len(RIGHT)))
def test_an_output_that_fits_is_cleared(end: Any, units: int, objective: Any, target: Tensor) -> None:
    assert verdict(end, units, objective, target) is None


def test_the_first_remedy_keeps_a_probability_a_probability() -> None:
    made = ds.Problem(model=lambda: Custom(3, SOFT), objective=nn.CrossEntropyLoss(), train=(X, CLASS))
    remedy = verdict(SOFT, 3, nn.CrossEntropyLoss(), CLASS).remedies[0]
    mended = made.edit(remedy)
    torch.testing.assert_close(mended.build(0)(X).sum(1), torch.ones(N))
    # and trains as the logits would: the gradient on them is softmax - one-hot
    z = torch.randn(N, 3, requires_grad=True)
    mended.objective(z.softmax(1), CLASS).backward()
    want = (z.detach().softmax(1) - functional.one_hot(CLASS, 3)) / N
    torch.testing.assert_close(z.grad, want, atol=1e-6, rtol=1e-5)


CONSTANTS = [
    (nn.CrossEntropyLoss(), 3, CLASS, lambda: float(torch.log(torch.tensor(3.0)))),
    (nn.MSELoss(), 1, REAL, lambda: float(REAL.var(correction=0))),
    (nn.L1Loss(), 1, REAL, lambda: float((REAL - REAL.median()).abs().mean())),
    (nn.BCEWithLogitsLoss(), 1, YES,
     lambda: float(functional.binary_cross_entropy(YES.mean().expand(N, 1), YES))),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "units", "target", "wanted"), CONSTANTS, ids=lambda v: str(v)[:12])
def test_the_best_constant_is_that_of_the_textbook(
    objective: Any, units: int, target: Tensor, wanted: Any
) -> None:
    made = ds.Problem(model=lambda: nn.Linear(4, units), objective=objective, train=(X, target))
    found = constant.measure(made, ds.Recipe())
    assert found is not None
    assert found["loss"] == pytest.approx(wanted(), rel=1e-3)


def test_an_objective_without_a_floor_has_no_best_constant() -> None:
    made = ds.Problem(
        model=lambda: nn.Linear(4, 1), objective=lambda o, y: o.mean() + 0 * y.mean(), train=(X, REAL)
    )
    assert constant.measure(made, ds.Recipe()) is None


def test_a_maximised_objective_has_its_constant_in_the_users_units() -> None:
    def score(output: Tensor, target: Tensor) -> Tensor:
        return -((output - target) ** 2).mean()

    made = ds.Problem(model=lambda: nn.Linear(4, 1), objective=score, maximize=True, train=(X, REAL))
    found = constant.measure(made, ds.Recipe())
    assert found is not None
    assert found["loss"] == pytest.approx(-float(REAL.var(correction=0)), rel=1e-4)


def test_a_sigmoid_twice_that_costs_no_probability_is_told_as_such_and_no_layer_is_blamed() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = ((x[:, 0] + x[:, 1]) > 0).float()[:, None]
    made = ds.Problem(
        model=lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()),
        objective=nn.BCEWithLogitsLoss(), train=(x[:300], y[:300]), valid=(x[300:], y[300:]),
    )  # fmt: skip
    how = ds.Recipe(optimizer="adam", lr=0.01, epochs=30, batch_size=32)
    found = ds.diagnose(made, how, budget="600 steps", folder=False, progress=False)
    told = {each.symptom: each for each in found.findings}
    assert "lies between 0.5 and 0.731" in told["output-activation"].message
    assert "Read as probabilities the outputs are as good" in told["output-activation"].message
    assert "costs nothing" not in told["output-activation"].message
    assert "high-bias" not in found.symptoms
    assert "the sigmoid at the end" in dict(found.not_checked)["high-bias"]
