"""Losses that a script writes out by hand: which they are, and what they expect of the output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from downslope.diagnosis.script import watch_script
from downslope.diagnosis.written import read
from downslope.training.facts.output import last_node
from tests.diagnosis.watched import HEAD

G = torch.Generator().manual_seed(0)
N, K = 16, 5
W = torch.randn(7, K, generator=G).requires_grad_()
Z = torch.randn(N, 7, generator=G) @ W
C = torch.randint(0, K, (N,), generator=G)
Y = functional.one_hot(C, K).float()
B = (torch.rand(N, 1, generator=G) > 0.5).float()
ROW = torch.arange(N)
Spelt = Callable[[Tensor], Tensor]


def bernoulli(p: Tensor, y: Tensor, epsilon: float = 0.0) -> Tensor:
    """The log loss of each entry, as it is written out."""
    return -(y * torch.log(p + epsilon) + (1 - y) * torch.log(1 - p + epsilon))


PROBABILITIES: dict[str, Spelt] = {
    "picked, then its logarithm": lambda p: -p[ROW, C].log().mean(),
    "gathered, with an epsilon": lambda p: -torch.log(p.gather(1, C[:, None]) + 1e-9).mean(),
    "the logarithm, then picked": lambda p: -torch.log(p)[range(N), C].mean(),
    "clamped, by shares": lambda p: -(Y * p.clamp_min(1e-8).log()).sum(1).mean(),
    "over all entries": lambda p: -(Y * p.log()).mean(),
    "summed within the logarithm, a quarter": lambda p: -(Y * p).sum(1).log().mean() / 4,
}
PROBABILITIES |= {
    "gathered along the last axis": lambda p: -p.gather(-1, C.unsqueeze(-1)).squeeze(-1).log().mean(),
    "of whole numbers, with an epsilon": lambda p: -(Y.long() * torch.log(p + 1e-7)).sum(-1).mean(),
    "shared out and clamped": lambda p: -(p / p.sum(-1, keepdim=True)).clamp(1e-7, 1).log()[ROW, C].mean(),
}
PROBABILITY: dict[str, Spelt] = {
    "both logarithms": lambda p: -(B * p.log() + (1 - B) * (1 - p).log()).mean(),
    "with epsilons": lambda p: -(B * (p + 1e-8).log() + (1 - B) * (1 - p + 1e-8).log()).mean(),
    "two means": lambda p: -(B * p.log()).mean() - ((1 - B) * torch.log1p(-p)).mean(),
    "asked for": lambda p: -torch.log(torch.where(B == 1, p, 1 - p)).mean(),
    "xlogy": lambda p: -(torch.xlogy(B, p) + torch.xlogy(1 - B, 1 - p)).mean(),
}
PROBABILITY |= {
    "clamped": lambda p: bernoulli(p.clamp(1e-7, 1 - 1e-7), B).mean(),
    "clipped, summed over its columns": lambda p: bernoulli(torch.clip(p, 1e-7, 1 - 1e-7), B).sum(1).mean(),
    "clamped, for numbers of classes": lambda p: bernoulli(p.squeeze(1).clamp(1e-7, 1 - 1e-7), C).mean(),
    "of real ones": lambda p: bernoulli(p[:, 0].clamp(1e-7, 1 - 1e-7), C.float()).mean(),
    "with epsilons, for those": lambda p: bernoulli(p.squeeze(1), C, 1e-7).mean(),
}
LOG_PROBABILITIES: dict[str, Spelt] = {
    "gathered": lambda p: -p.gather(-1, C.unsqueeze(-1)).squeeze(-1).mean(),
    "picked": lambda p: -p[ROW, C].mean(),
    "by shares": lambda p: -(Y * p).sum(-1).mean(),
}
LOGITS: dict[str, Spelt] = {
    "logsumexp": lambda z: (z.logsumexp(1) - z[ROW, C]).mean(),
    "exponentials": lambda z: (z.exp().sum(1).log() - (Y * z).sum(1)).mean(),
    "log-softmax": lambda z: -z.log_softmax(1)[ROW, C].mean(),
}
LOGIT: dict[str, Spelt] = {
    "softplus": lambda z: (functional.softplus(z) - B * z).mean(),
    "by signs": lambda z: torch.log1p(torch.exp(-(2 * B - 1) * z)).mean(),
    "logaddexp": lambda z: torch.logaddexp(torch.zeros_like(z), -(2 * B - 1) * z).mean(),
    "stable": lambda z: (z.clamp(min=0) - z * B + torch.log(1 + torch.exp(-z.abs()))).mean(),
}
NONE: dict[str, Spelt] = {
    "weights": lambda p: -(torch.linspace(0.5, 2, K)[C] * p[ROW, C].log()).mean(),
    "a focus": lambda p: -((1 - p[ROW, C]) ** 2 * p[ROW, C].log()).mean(),
    "rewards": lambda p: -(p[ROW, C].log() * torch.linspace(-1, 1, N)).mean(),
    "a penalty": lambda p: -p[ROW, C].log().mean() + 0.1 * W.square().sum(),
    "no target": lambda p: -p[:, 0].log().mean(),
    "a density": lambda p: -(p.log().exp() * 3)[ROW, C].log().mean(),
}


@pytest.mark.parametrize(
    ("expects", "spelt", "into"),
    [
        *(("probabilities", each, lambda z: z.softmax(1)) for each in PROBABILITIES.values()),
        *(("probability", each, lambda z: z[:, :1].sigmoid()) for each in PROBABILITY.values()),
        *(("log-probabilities", each, lambda z: z.log_softmax(1)) for each in LOG_PROBABILITIES.values()),
        *(("log-probabilities", each, lambda z: z.softmax(1).log()) for each in LOG_PROBABILITIES.values()),
        *(("logits", each, lambda z: z) for each in LOGITS.values()),
        *(("logit", each, lambda z: z[:, :1]) for each in LOGIT.values()),
    ],
    ids=[
        *PROBABILITIES, *PROBABILITY, *LOG_PROBABILITIES, *(f"{each}, after" for each in LOG_PROBABILITIES),
        *LOGITS, *LOGIT,
    ],
)  # fmt: skip
def test_a_spelling_is_known_by_its_value(expects: str, spelt: Spelt, into: Spelt) -> None:
    made = into(Z)
    found = read(spelt(made), [last_node(made)])
    assert found is not None
    assert found.function.__dict__["expects"] == expects
    value = float(found.function(found.made.detach(), found.target))
    assert value == pytest.approx(float(found.value), rel=1e-3)


@pytest.mark.parametrize("spelt", NONE.values(), ids=NONE)
def test_what_is_more_than_that_stays_unknown(spelt: Spelt) -> None:
    made = Z.softmax(1)
    assert read(spelt(made), [last_node(made)]) is None


TRAINED = """
T = F.one_hot(C, 4).float()
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4), *[{end}])
rule = torch.optim.Adam(model.parameters(), 1e-2)
for at in batches(150):
    o, t, c = model(X[at]), T[at], C[at]
    loss = {loss}
    rule.zero_grad(); loss.backward(); rule.step()
"""

SHARED = "-torch.log((o / (o.sum(1, keepdim=True) + 1e-8))[range(len(c)), c].clamp_min(1e-8)).mean()"


def watched(path: Path, end: str, loss: str, head: str = HEAD) -> tuple[str | None, bool]:
    """The root cause of a script, and whether its objective and a constant guess became known."""
    file = path / "train.py"
    file.write_text(head + TRAINED.format(end=end, loss=loss))
    found, status = watch_script(file, [])
    assert found is not None
    assert not status
    return None if found.root is None else found.root.symptom, "constant" in found.run.facts


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        ("", "-(t * torch.log(o.clamp(1e-7, 1))).sum(1).mean()"),
        ("nn.ReLU()", SHARED),
        ("type('End', (nn.Module,), {'forward': lambda self, x: F.relu(x)})()", SHARED),
        ("nn.Softplus()", "-torch.log(o[range(len(c)), c]).mean()"),
        ("nn.Softmax(1)", "(o.logsumexp(1) - o[range(len(c)), c]).mean()"),
    ],
    ids=["scores", "shared out after a relu", "and after a function", "no bound above", "twice"],
)
def test_an_output_that_is_none_of_what_it_expects_is_the_cause(tmp_path: Path, end: str, loss: str) -> None:
    assert watched(tmp_path, end, loss) == ("output-activation", True)


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        ("nn.Softmax(1)", "-torch.log(o[range(len(c)), c] + 1e-8).mean()"),
        ("", "-(t * torch.log(torch.softmax(o, 1) + 1e-9)).sum(1).mean()"),
        ("nn.Softplus()", "-torch.log((o / o.sum(1, keepdim=True))[range(len(c)), c]).mean()"),
        ("", "-torch.log((o.exp() / o.exp().sum(1, keepdim=True))[range(len(c)), c]).mean()"),
    ],
    ids=["softmax", "softmax in the loop", "shared out after a softplus", "exponentials shared out"],
)
def test_its_twin_is_well(tmp_path: Path, end: str, loss: str) -> None:
    assert watched(tmp_path, end, loss) == (None, True)


def test_what_fell_from_a_first_loss_of_the_inputs_making_is_not_called_healthy(tmp_path: Path) -> None:
    custom = "(1 + 1e-3 * o).clamp_min(1e-3).log().square().mean() * 100"
    file = tmp_path / "train.py"
    file.write_text(HEAD + "X = 1e4 * X\n" + TRAINED.format(end="", loss=custom))
    found, _ = watch_script(file, [])
    assert found is not None
    assert "Healthy" not in str(found)
    if found.root is None and not found.lost:
        assert found.reserve
