"""A loop whose recurrence cannot hear the steps that tell the targets is told so, and only such a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import downslope as ds
from downslope.core.finding import Finding
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.measure import telling
from downslope.diagnosis.symptoms.long_term_dependency import long_term_dependency
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.test_frozen_in_a_loop import watched

NAME = "long-term-dependency"

LOOP = """
T = 60
def batch(n=48):
    first = torch.randint(0, 4, (n,))
    seq = torch.randint(4, 8, (n, T)); seq[:, AT] = first
    return seq, LABEL
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(8, 8)
        self.rnn = KIND
        self.fc = nn.Linear(16, 4)
    def forward(self, x):
        READ
model = Net()
rule = torch.optim.Adam(model.parameters(), RATE)
for _ in range(120):
    x, y = batch()
    loss = F.cross_entropy(model(x), y)
    rule.zero_grad()
    loss.backward()
    rule.step()
everything = model.parameters()
"""
LAST = "return self.fc(self.rnn(self.emb(x))[0][:, -1])"
STATE = "return self.fc(self.rnn(self.emb(x))[1][-1])"
CELL = """h = None
        for t in range(T):
            h = self.rnn(self.emb(x[:, t]), h)
        return self.fc(h)"""
RNN = "nn.RNN(8, 16, batch_first=True)"


def loop(kind: str = RNN, read: str = LAST, rate: float = 3e-3, label: str = "first", at: str = "0") -> str:
    text = LOOP.replace("KIND", kind).replace("READ", read).replace("RATE", str(rate))
    return text.replace("LABEL", label).replace("AT", at)


def named(found: Diagnosis) -> dict[str, str]:
    return {each.symptom: each.severity for each in found.findings}


SICK = {
    "the last output": loop(),
    "the last state": loop(read=STATE),
    "gates": loop("nn.GRU(8, 16, batch_first=True)"),
    "a cell in a loop": loop("nn.RNNCell(8, 16)", CELL),
    "two layers with dropout, time first": loop(
        "nn.RNN(8, 16, 2, dropout=0.1)", "return self.fc(self.rnn(self.emb(x).transpose(0, 1))[0][-1])"),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_a_first_step_that_tells_all_and_is_not_heard_is_the_cause(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, SICK[name])
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert found.root.where.modules == ("rnn",)
    assert "Step 1 tells the targets" in found.root.message


PADDED = loop().replace("nn.Embedding(8, 8)", "nn.Embedding(81, 8)").replace(
    "seq = torch.randint(4, 8, (n, T)); seq[:, 0] = first",
    "seq = torch.randint(1, 81, (n, T)); seq[:, 6:] = 0; first = (seq[:, :6] > 40).sum(1).gt(3).long()",
)  # fmt: skip
"""Words of which none tells the target by itself, with padding behind them."""


@pytest.mark.parametrize("kind", [RNN, "nn.LSTM(8, 16, batch_first=True)"], ids=["RNN", "LSTM"])
def test_words_that_tell_together_and_are_not_heard_for_the_padding_are_the_cause(
    kind: str, tmp_path: Path
) -> None:
    found = watched(tmp_path, PADDED.replace(RNN, kind))
    assert found.root is not None, str(found)
    assert (found.root.symptom, found.root.severity) == (NAME, "critical")
    assert "tell the targets together" in found.root.message


SOUND = {
    "the last step tells": loop(at="-1", rate=1e-2),
    "every step is heard": loop(read="return self.fc(self.rnn(self.emb(x))[0].amax(1))", rate=1e-2),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_run_that_learns_what_it_hears_is_healthy(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, SOUND[name])
    assert found.healthy, str(found)
    assert NAME in dict(found.cleared)


OTHERWISE = {
    "labels of chance": loop(label="first[torch.randperm(n)]"),
    "a rate of nothing": loop(rate=1e-7),
    "words of chance": PADDED.replace("LABEL", "first").replace(
        "seq, first", "seq, first[torch.randperm(n)]"
    ),
    "words that are heard": PADDED.replace("[:, 6:] = 0", "[:, :-6] = 0").replace("[:, :6]", "[:, -6:]"),
    "words that no step moves": PADDED.replace("0.003", "1e-7"),
    "told by every step": loop(rate=1e-5).replace("seq[:, 0] = first", "seq[:] = first[:, None]"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_run_that_stands_for_another_reason_is_told_of_it_as_no_fault(name: str, tmp_path: Path) -> None:
    found = watched(tmp_path, OTHERWISE[name])
    assert named(found).get(NAME, "info") == "info", str(found)


def test_a_recurrence_that_a_rate_threw_away_is_not_told_as_one_that_explodes(tmp_path: Path) -> None:
    found = watched(tmp_path, loop("nn.GRU(8, 16, batch_first=True)", rate=2.0))
    assert found.root is not None, str(found)
    assert found.root.symptom == "learning-rate-too-high"
    assert "exploding-gradient" not in found.symptoms


class Reader(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.rnn, self.fc = kind(3, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_gradient_by_step_is_that_of_the_whole_loss_by_the_input(kind: Any) -> None:
    torch.manual_seed(0)
    model = Reader(kind)
    x, y = torch.randn(6, 20, 3), torch.randint(2, (6,))
    inputs = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(functional.cross_entropy(model(inputs), y), [inputs])
    expected = slope.double().square().mean((0, 2)).sqrt()
    rule = torch.optim.SGD(model.parameters(), 0.0)
    monitor = ds.watch(model, rule)
    for _ in range(2):
        rule.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        rule.step()
        monitor.step(loss)
    lags = monitor.run.facts["reach"]
    monitor.close()
    assert lags["profile"] == pytest.approx((expected / expected.max()).tolist(), rel=1e-4)
    assert (lags["steps"], lags["modules"]) == (20, ["rnn"])


def test_a_short_sequence_is_not_asked() -> None:
    model = Reader(nn.RNN)
    rule = torch.optim.SGD(model.parameters(), 0.1)
    monitor = ds.watch(model, rule)
    for _ in range(3):
        rule.zero_grad()
        loss = model(torch.randn(6, 4, 3)).square().mean()
        loss.backward()
        rule.step()
        monitor.step(loss)
    assert "reach" not in monitor.run.facts
    monitor.close()


def test_the_steps_that_tell_a_target_are_found_by_symbols_and_by_values() -> None:
    torch.manual_seed(0)
    symbols, values = torch.randint(0, 6, (200, 12)), torch.randn(200, 12, 2).exp()
    for inputs, target, at in (
        (symbols, (symbols[:, 3] > 2).long(), 3),
        (values, (values[:, 7, 1] > 1).long(), 7),
        (values, values[:, 5, :1].square(), 5),
        (symbols, symbols[:, 2] * 1.0, 2),
    ):
        found = telling.measure(inputs, target)
        assert found is not None
        strength = found["strength"]
        assert max(range(12), key=lambda i: strength[i]) == at
        assert sorted(strength)[-2] < found["chance"]
    assert found["limit"] == pytest.approx(1.5 * found["chance"])
    assert telling.measure(symbols[:20], symbols[:20, 0]) is None
    assert telling.measure(values, torch.rand(3)) is None
    assert telling.measure(torch.randn(200, 5), torch.randint(2, (200,))) is None


def test_noise_tells_nothing() -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        for inputs in (torch.randint(0, 10, (160, 60)), torch.randn(160, 60, 3)):
            found = telling.measure(inputs, torch.randint(0, 10, (160,)))
            assert found is not None
            assert max(found["strength"]) < found["limit"]


@pytest.mark.parametrize(
    ("strength", "severity"),
    [
        ([0.9, 0.1, 0.05, 0.1, 0.1], "critical"),
        ([0.9, 0.1, 0.05, 0.1, 0.6], "info"),  # a step that is heard tells the targets too
        ([0.2, 0.1, 0.05, 0.1, 0.1], "info"),  # no more than chance does
    ],
)
def test_early_steps_are_blamed_only_where_they_alone_tell_the_targets(
    strength: list[float], severity: str
) -> None:
    reach = {
        "ratio": 1e-12, "steps": 5, "modules": ["rnn"], "profile": [1e-12, 1e-10, 1e-8, 1e-3, 1.0],
        "watched": True,
    }  # fmt: skip
    made = run(reach=reach, telling={"strength": strength, "limit": 0.4, "chance": 0.2})
    made.problem = made.recipe = None  # as in a loop of somebody else
    made.probes.log(1, "update_ratio", {"rnn": 1e-2})
    found = long_term_dependency(made)
    assert isinstance(found, Finding), found
    assert found.severity == severity


@pytest.mark.parametrize(
    ("spans", "late", "severity"),
    [
        ((0.8, 0.1), 0.1, "critical"),
        ((0.8, 0.5), 0.1, "info"),  # the steps that are heard tell the targets too
        ((0.8, 0.1), 0.5, "info"),  # one of them does
        ((0.4, 0.0), 0.1, "info"),  # no more than chance may
    ],
)
def test_early_steps_that_tell_together_are_blamed_where_they_alone_do(
    spans: tuple[float, float], late: float, severity: str
) -> None:
    profile = [1e-12, 1e-10, 1e-8, 1e-3, 1.0]
    reach = {"ratio": 1e-12, "steps": 5, "modules": ["rnn"], "profile": profile, "watched": True}
    made = run(
        reach=reach,
        telling={"strength": [0.2, 0.2, 0.2, 0.1, late], "limit": 0.5, "chance": 0.3},
        spans={"lost": spans[0], "others": spans[1], "limit": 0.5},
    )
    made.problem = made.recipe = None
    made.probes.log(1, "update_ratio", {"embedding": 1e-6, "rnn": 1e-2})
    found = long_term_dependency(made)
    assert isinstance(found, Finding), found
    assert found.severity == severity
