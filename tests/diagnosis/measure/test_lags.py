"""What the output owes to each step of a sequence, against the Jacobian itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.diagnosis.measure.lags import measure
from tests.diagnosis.measure.made import ended

HOW = ds.Recipe(optimizer="adam", lr=1e-3, batch_size=8, steps=1)


class Scalar(nn.Module):
    """h' = w h + x, the answer is the last h."""

    def __init__(self, w: float, batch_first: bool = True) -> None:
        super().__init__()
        self.cell = nn.RNN(1, 1, nonlinearity="relu", bias=False, batch_first=batch_first)
        nn.init.ones_(self.cell.weight_ih_l0)
        nn.init.constant_(self.cell.weight_hh_l0, w)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        if self.batch_first:
            return self.cell(x)[0][:, -1]
        return self.cell(x.transpose(0, 1))[0][-1]


def found(model: nn.Module, x: Tensor, outputs: int = 1) -> dict[str, Any] | None:
    run = ended(model, (x, torch.randn(len(x), outputs)), "mse")
    return measure(run.the_problem(), HOW)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("w", [0.5, 1.0, 1.5])
def test_a_linear_recurrence_fades_or_grows_by_its_weight_a_step(w: float, batch_first: bool) -> None:
    """The derivative by the input k steps before the last is w^k; all states are positive."""
    lags = found(Scalar(w, batch_first), torch.rand(20, 16, 1) + 0.1)
    assert lags is not None
    assert lags["steps"] == 16
    profile = torch.tensor(lags["profile"], dtype=torch.float64)
    expected = w ** torch.arange(15, -1, -1, dtype=torch.float64)
    assert torch.allclose(profile, expected / expected.max(), rtol=1e-4)
    early, late = max(w**15, w**14), max(1.0, w)
    assert lags["ratio"] == pytest.approx(early / late, rel=1e-4)


def test_the_profile_is_that_of_the_whole_jacobian() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRU(2, 6, batch_first=True), nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.cell(x)[0][:, -1])

    model, x = Net(), torch.randn(30, 12, 2)
    lags = found(model, x)
    assert lags is not None
    # An output of one number: each row of the Jacobian counts by the same noise as in the measurement.
    noise = torch.randn(30, 1, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda one: model(one)[:, 0], x)  # type: ignore[no-untyped-call]
    rows = jacobian[torch.arange(30), torch.arange(30)]
    slope = (rows * noise[:, :, None]).double().square().mean((0, 2)).sqrt()
    assert torch.allclose(torch.tensor(lags["profile"]).double(), slope / slope.max(), atol=1e-5)


def test_short_sequences_and_models_without_recurrence_have_no_lags() -> None:
    assert found(Scalar(1.0), torch.rand(20, 7, 1)) is None
    assert found(nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), torch.rand(20, 16, 1)) is None


def test_a_model_that_ignores_its_sequence_has_none() -> None:
    class Deaf(Scalar):
        def forward(self, x: Tensor) -> Tensor:
            return 0 * super().forward(x)

    assert found(Deaf(1.0), torch.rand(20, 16, 1)) is None


class Loop(nn.Module):
    """A recurrence of cells or layers, unrolled; the answer is the last state."""

    def __init__(self, kind: str, width: int = 6) -> None:
        super().__init__()
        kinds = {"RNNCell": nn.RNNCell, "GRUCell": nn.GRUCell, "LSTMCell": nn.LSTMCell}
        self.own = kind == "layers"
        self.cell = nn.Linear(2 + width, width) if self.own else kinds[kind](2, width)
        self.gated, self.width = kind == "LSTMCell", width

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        state: Any = (h, h) if self.gated else h
        for t in range(x.shape[1]):
            state = (
                torch.tanh(self.cell(torch.cat([x[:, t], state], 1)))
                if self.own
                else self.cell(x[:, t], state)
            )
        return state[0] if self.gated else state


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell", "layers"])
def test_a_loop_fades_as_the_jacobian_of_its_last_state_says(kind: str) -> None:
    torch.manual_seed(0)
    model, x = Loop(kind).double(), torch.randn(30, 12, 2, dtype=torch.float64)
    lags = found(model.float(), x.float(), 6)
    assert lags is not None
    assert (lags["modules"], lags["steps"]) == (["cell"], 12)
    noise = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    leaf = x.float().requires_grad_()
    (slope,) = torch.autograd.grad((model.float()(leaf) * noise).sum(), leaf)
    wanted = slope.double().square().mean((0, 2)).sqrt()
    if kind == "layers":  # by all that the layer is given, the state as well: it fades alike
        assert lags["ratio"] == pytest.approx(float(wanted[0] / wanted[-1]), rel=0.9)
        assert lags["ratio"] < 0.1
    else:
        assert torch.allclose(torch.tensor(lags["profile"]).double(), wanted / wanted.max(), atol=1e-5)


def test_a_layer_that_serves_each_step_by_itself_is_no_recurrence() -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(2, 5), nn.Linear(5, 1)

        def forward(self, x: Tensor) -> Tensor:
            rows = [torch.tanh(self.layer(x[:, t])) for t in range(x.shape[1])]
            return self.head(rows[-1] + 0 * torch.stack(rows).sum(0))

    assert found(Apart(), torch.randn(30, 12, 2)) is None


def test_a_short_loop_has_no_lags() -> None:
    assert found(Loop("GRUCell"), torch.randn(30, 7, 2), 6) is None


class Cut(nn.Module):
    """A loop of a cell whose state goes on without its graph, half of the rows begun anew, or not at all."""

    def __init__(self, kind: str, handed: str) -> None:
        super().__init__()
        self.cell = {"GRUCell": nn.GRUCell, "LSTMCell": nn.LSTMCell}[kind](2, 6)
        self.gated, self.handed = kind == "LSTMCell", handed

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 6)
        for t, step in enumerate(x.unbind(1)):
            if self.handed == "values":
                h, c = h.detach(), c.detach()
            if self.handed == "masked":
                on = (torch.arange(len(x)) % 2 == t % 2).float()[:, None]
                h, c = (h * on).detach(), (c * on).detach()
            if self.handed == "nothing":
                h = c = x.new_zeros(len(x), 6)
            h, c = self.cell(step, (h, c)) if self.gated else (self.cell(step, h), c)
        return h


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
@pytest.mark.parametrize("handed", ["values", "masked", "nothing", "graph"])
def test_a_state_that_goes_on_without_its_graph_brings_no_gradient_back(kind: str, handed: str) -> None:
    lags = found(Cut(kind, handed), torch.randn(30, 12, 2), 6)
    assert lags is not None
    assert lags["modules"] == ["cell"]
    assert (lags["profile"][:-1] == [0.0] * 11) is (handed != "graph")
    assert lags.get("kept") == {"masked": "values", "graph": None}.get(handed, handed)
