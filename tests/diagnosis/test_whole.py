"""Likelihoods written out by hand of sequences and with masks, asked of the model's own output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.whole import of_outputs
from downslope.diagnosis.written import Written, read
from downslope.training.facts.output import last_node

Spelt = Callable[[Tensor, Tensor, Tensor], Tensor]
N, STEPS, K = 12, 6, 4


def _log_loss(p: Tensor, y: Tensor) -> Tensor:
    return -(y * p.log() + (1 - y) * (1 - p).log())


def _gathered(p: Tensor, y: Tensor) -> Tensor:
    return p.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def _shares(p: Tensor) -> Tensor:
    return (p / p.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7)


def _places(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.arange(N)[:, None], torch.arange(STEPS), y


def _hot(y: Tensor) -> Tensor:
    return functional.one_hot(y, K)


ALL: dict[str, Spelt] = {
    "gathered": lambda p, y, m: -_gathered(p, y).log().mean(),
    "picked": lambda p, y, m: -torch.log(p[_places(y)]).mean(),
    "shares": lambda p, y, m: -(_hot(y) * torch.log(p + 1e-7)).sum(-1).mean(),
}
MASKED: dict[str, Spelt] = {
    "gathered": lambda p, y, m: (-_gathered(p, y).log() * m).sum() / m.sum(),
    "clamped, then gathered": lambda p, y, m: (-_gathered(p.clamp_min(1e-7).log(), y) * m).sum() / m.sum(),
    "shared out": lambda p, y, m: (-_gathered(_shares(p), y).log() * m).sum() / m.sum(),
    "shares": lambda p, y, m: -((_hot(y) * torch.log(p + 1e-7)).sum(-1) * m).sum() / m.sum(),
    "chosen": lambda p, y, m: -_gathered(p, y).log()[m.bool()].mean(),
}
LOGARITHMS: dict[str, Spelt] = {
    "gathered": lambda p, y, m: (-_gathered(p, y) * m).sum() / m.sum(),
    "shares": lambda p, y, m: -((_hot(y) * p).sum(-1) * m).sum() / m.sum(),
}


def batch(seed: int, flat: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and a mask."""
    g = torch.Generator().manual_seed(seed)
    scores = flat * torch.randn(N, STEPS, K, generator=g)
    mask = (torch.arange(STEPS) < torch.randint(2, STEPS, (N, 1), generator=g)).float()
    return scores.requires_grad_(), torch.randint(0, K, (N, STEPS), generator=g), mask


def told(made: Tensor, loss: Tensor) -> Written | None:
    """What is read of a loss, as a function of the model's own output."""
    nodes = [last_node(made)]
    found = read(loss, nodes)
    return None if found is None else of_outputs(found, nodes, [made.detach()])


@pytest.mark.parametrize("flat", [1.0, 1e-3])
@pytest.mark.parametrize(
    ("expects", "spelt"),
    [
        *(("probabilities", each) for each in (*ALL.values(), *MASKED.values())),
        *(("log-probabilities", each) for each in LOGARITHMS.values()),
        *(("logits", lambda z, y, m, one=each: one(z.log_softmax(-1), y, m)) for each in LOGARITHMS.values()),
    ],
    ids=[*ALL, *(f"{each}, with a mask" for each in MASKED), *(f"log {each}" for each in LOGARITHMS),
         *(f"scores {each}" for each in LOGARITHMS)],
)  # fmt: skip
def test_every_batch_has_the_value_of_the_function_of_its_first(
    expects: str, spelt: Spelt, flat: float
) -> None:
    known = None
    for seed in range(4):
        z, y, mask = batch(seed, flat)
        made = {"probabilities": z.softmax(-1), "log-probabilities": z.log_softmax(-1), "logits": z * 1.0}[
            expects
        ]
        loss = spelt(made, y, mask)
        found = told(made, loss)
        assert found is not None
        known = known or found.function
        assert known.__dict__["expects"] == expects
        assert found.made.data_ptr() == made.data_ptr()
        assert known(found.made, found.target).item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize(
    "spelt",
    [
        lambda p, y, m: -(_gathered(p, y).log() * m).mean(),
        lambda p, y, m: -(_gathered(p, y).log() * m).sum(1).mean(),
        lambda p, y, m: -(_gathered(p, y).log() * (m + 0.5)).sum() / (m + 0.5).sum(),
    ],
    ids=["rewards of 0 and 1", "summed", "weights"],
)
def test_what_is_multiplied_by_more_than_a_mask_stays_unknown(spelt: Spelt) -> None:
    for seed in range(4):
        z, y, mask = batch(seed)
        made = z.softmax(-1)
        assert told(made, spelt(made, y, mask)) is None


def test_a_mask_of_log_losses_is_known() -> None:
    z, y, mask = batch(0)
    p = z[..., 0].sigmoid()
    loss = (_log_loss(p.clamp(1e-7, 1 - 1e-7), (y > 1).float()) * mask).sum() / mask.sum()
    found = told(p, loss)
    assert found is not None
    assert len(found.target) == int(mask.sum())
    assert float(found.function(found.made, found.target)) == pytest.approx(loss.item(), rel=1e-5)


HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
"""

CLASSES = """
X = torch.randn(400, 8)
C = (X @ torch.randn(8, 4)).argmax(1)
Y = {target}
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
rule = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(20):
    for at in torch.randperm(400).split(20):
        p, y = model(X[at]), Y[at]
        {loss}
        rule.zero_grad(); loss.backward(); rule.step()
"""
LOG_LOSSES = {
    "clamped": "p = p.squeeze(1).clamp(1e-7, 1 - 1e-7);"
    " loss = -(y * p.log() + (1 - y) * (1 - p).log()).mean()",
    "epsilons": "p = p[:, 0];"
    " loss = -torch.mean(y * torch.log(p + 1e-7) + (1 - y) * torch.log(1 - p + 1e-7))",
}

TAGS = """
X = torch.randn(200, 10, 5)
M = (torch.arange(10) < torch.randint(4, 11, (200, 1))).float()
Y = torch.where(M > 0, 1 + (X[..., 0] > 0).long(), 0)
X = X * M.unsqueeze(-1)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 24), nn.Linear(24, 3)

    def forward(self, x):
        return {end}(self.outer(self.inner(x).relu()))


model = Tagger()
rule = torch.optim.Adam(model.parameters(), {rate})
for epoch in range(15):
    for at in torch.randperm(200).split(20):
        p, y, m = model(X[at]), Y[at].unsqueeze(-1), M[at]
        loss = {loss}
        rule.zero_grad(); loss.backward(); rule.step()
"""
SHARED = (
    "(-(p / p.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7).gather(-1, y).squeeze(-1).log() * m).sum()"
    " / m.sum()"
)
OF_TAGS = {
    "shared out": ("torch.sigmoid", SHARED),
    "probabilities": ("F.softmax", "(-p.gather(-1, y).squeeze(-1).log() * m).sum() / m.sum()"),
    "log-probabilities": ("F.log_softmax", "(-p.gather(-1, y).squeeze(-1) * m).sum() / m.sum()"),
}


def watched(path: Path, text: str) -> Diagnosis:
    """The diagnosis of a script."""
    file = path / "train.py"
    file.write_text(HEAD + text)
    found, status = watch_script(file, [])
    assert found is not None
    assert not status
    return found


@pytest.mark.parametrize("loss", LOG_LOSSES.values(), ids=LOG_LOSSES)
def test_numbers_of_classes_in_a_log_loss_are_the_cause(tmp_path: Path, loss: str) -> None:
    found = watched(tmp_path, CLASSES.format(target="C", loss=loss))
    assert found.root is not None
    assert found.root.symptom == "objective-mismatch"
    assert "constant" not in found.run.facts


@pytest.mark.parametrize("loss", LOG_LOSSES.values(), ids=LOG_LOSSES)
def test_zeros_and_ones_in_it_are_well(tmp_path: Path, loss: str) -> None:
    found = watched(tmp_path, CLASSES.format(target="(X[:, 0] > 0).long()", loss=loss))
    assert found.root is None
    assert found.run.facts["constant"]["loss"] == pytest.approx(0.69, abs=0.01)


@pytest.mark.parametrize(("end", "loss"), OF_TAGS.values(), ids=OF_TAGS)
def test_steps_behind_the_end_do_not_count_in_a_guess(tmp_path: Path, end: str, loss: str) -> None:
    call = end if end == "torch.sigmoid" else f"(lambda z: {end}(z, -1))"
    found = watched(tmp_path, TAGS.format(end=call, rate=1e-2, loss=loss))
    assert found.root is None
    assert found.run.facts["constant"]["loss"] == pytest.approx(0.693, abs=0.005)
    assert found.run.facts["batch_size"] == 20


def test_what_learnt_nothing_is_told_from_a_guess(tmp_path: Path) -> None:
    found = watched(tmp_path, TAGS.format(end="torch.sigmoid", rate=1e-6, loss=SHARED))
    assert found.lost
