"""Long-term dependency: by hand, and the gated recurrence that takes the place of a plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from downslope.core.edits import Advice, Combined, LetThrough, ReplaceModule
from downslope.core.run import Run
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.long_term_dependency import long_term_dependency
from downslope.models.lasting import LastingGRU, LastingGRUCell, LastingLSTM, LastingLSTMCell
from tests.diagnosis.runs import problem, run
from tests.diagnosis.symptoms.trying import FAR, finding, tried


class Two(nn.Module):
    """A plain recurrence, then one with gates, both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.RNN(4, 6, batch_first=True, bidirectional=True)
        self.high = nn.LSTM(12, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.high(self.low(x)[0])[0][:, -1])


def far(ratio: float, final: float = 2.0, share: float | None = None, modules: Any = ("low", "high")) -> Run:
    lags = {"ratio": ratio, "steps": 40, "modules": list(modules), "profile": []}
    made = run(np.full(200, final), references=FAR, lags=lags)
    made.problem = problem(model=Two)
    return tried(made, "long-term-dependency", share)


def test_a_thousandth_is_faded_and_a_trial_decides() -> None:
    assert isinstance(long_term_dependency(far(1.1e-3, share=0.9)), Clear)
    assert finding(long_term_dependency(far(0.9e-3, share=0.9))).severity == "warning"
    assert finding(long_term_dependency(far(0.9e-3))).severity == "info"
    assert isinstance(long_term_dependency(far(0.9e-3, share=0.05)), Clear)
    assert isinstance(long_term_dependency(far(0.0, final=0.1)), Clear)  # the last steps decide the task
    assert isinstance(long_term_dependency(run()), Clear)


def test_every_recurrence_is_replaced_by_a_gated_one_of_its_sizes() -> None:
    made = far(1e-9)
    swap, advice = finding(long_term_dependency(made)).remedies
    assert isinstance(swap, Combined)
    assert isinstance(advice, Advice)
    model = swap.apply_to_problem(made.the_problem()).build()
    low, high = model.get_submodule("low"), model.get_submodule("high")
    assert isinstance(low, LastingGRU)
    assert isinstance(high, LastingLSTM)
    assert (low.input_size, low.hidden_size, low.bidirectional, low.batch_first) == (4, 6, True, True)
    assert (high.input_size, high.hidden_size, high.num_layers) == (12, 5, 2)


def test_one_recurrence_is_one_edit() -> None:
    assert isinstance(finding(long_term_dependency(far(1e-9, modules=("high",)))).remedies[0], ReplaceModule)


class Cells(nn.Module):
    """A cell of each kind, and a layer that somebody calls step after step."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.gated, self.long = nn.RNNCell(4, 6), nn.GRUCell(4, 6), nn.LSTMCell(4, 6, bias=True)
        self.own = nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(x)


def test_cells_are_replaced_by_cells_that_take_and_give_the_same() -> None:
    made = far(1e-9, modules=("plain", "gated", "long"))
    made.problem = problem(model=Cells)
    swap, _ = finding(long_term_dependency(made)).remedies
    model = swap.apply_to_problem(made.the_problem()).build()
    kinds = [type(model.get_submodule(name)) for name in ("plain", "gated", "long")]
    assert kinds == [LastingGRUCell, LastingGRUCell, LastingLSTMCell]
    x, h = torch.zeros(3, 4), torch.zeros(3, 6)
    assert model.get_submodule("plain")(x, h).shape == h.shape
    assert [each.shape for each in model.get_submodule("long")(x, (h, h))] == [h.shape, h.shape]
    bias = model.get_submodule("long").get_parameter("bias_ih").detach()
    assert torch.equal(bias[:6], -bias[6:12])
    assert 0 <= float(bias[6:12].min()) <= float(bias[6:12].max()) <= float(torch.tensor(39.0).log())


def own_recurrence(plain: float, same: float) -> Run:
    """A loop of a layer that nothing can replace; validation losses of what was trained beside it."""
    rows = [
        {"what": "a plain network", "loss": 0.1, "valid_loss": plain},
        {"what": "the same model", "loss": 2.0, "valid_loss": same},
    ]
    made = far(1e-9, modules=("own",))
    made.problem = problem(model=Cells)
    made.facts["references"] = rows
    made.facts["constant"] = made.facts["constant"] | {"valid_loss": 2.3}
    made.facts["ending"] = (made.facts.get("ending") or {}) | {"best_valid_loss": 2.29}
    return made


def test_a_recurrence_of_ones_own_is_blamed_where_a_network_that_sees_all_steps_learns() -> None:
    blamed = finding(long_term_dependency(own_recurrence(0.5, 2.29)))
    assert blamed.severity != "info"
    assert isinstance(blamed.remedies[0], Advice)
    assert isinstance(long_term_dependency(own_recurrence(2.2, 2.29)), Unknown)  # nobody learns
    assert isinstance(long_term_dependency(own_recurrence(0.5, 0.8)), Unknown)  # the recipe is to blame


@pytest.mark.parametrize("ratio", [float("inf"), 1e6])
def test_a_past_that_explodes_is_none_that_fades(ratio: float) -> None:
    assert isinstance(long_term_dependency(far(ratio)), Clear)


def kept(how: str, share: float | None = None) -> Run:
    """A loop of cells that hands no gradient on."""
    made = far(0.0, share=share, modules=("gated",))
    made.facts["lags"]["kept"] = how
    return made


def test_a_state_handed_on_without_its_graph_is_let_through_and_tried() -> None:
    found = finding(long_term_dependency(kept("values", share=0.9)))
    assert found.severity == "warning"
    assert found.remedies[0] == LetThrough()
    assert "without its graph" in found.message
    assert isinstance(long_term_dependency(kept("values", share=0.05)), Clear)  # no step needs another


def test_an_empty_state_at_each_step_is_told_where_a_network_that_sees_all_steps_learns() -> None:
    made = own_recurrence(0.5, 2.29)
    made.facts["lags"] |= {"kept": "nothing", "modules": ["gated"]}
    found = finding(long_term_dependency(made))
    assert "begins with an empty state" in found.message
    assert isinstance(found.remedies[0], Advice)
    assert isinstance(long_term_dependency(kept("nothing")), Unknown)
