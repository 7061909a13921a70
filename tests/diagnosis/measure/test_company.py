"""What others make of an answer: nothing where each example is answered by itself; where it is done first."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits import from_dict
from downslope.core.errors import ModelError
from downslope.diagnosis.measure import mixed
from downslope.diagnosis.measure.company import APART, Given, mixing
from downslope.diagnosis.symptoms.mixed_examples import MUCH

X, OTHER = (torch.randn(32, 6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))


class Made(nn.Module):
    """A model of some layers and a forward that is handed over."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.head, self.does = nn.Linear(8, 3), forward

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


def encoder(*, first: bool) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=first)
        return nn.Sequential(nn.Linear(4, 8), nn.TransformerEncoder(block, 2))


def recurrent(kind: str = "LSTM", *, first: bool = False) -> nn.Module:
    rnn = getattr(nn, kind)(4, 8, 2, batch_first=first)
    return Made(lambda m, x: m.head(m.rnn(x)[0][:, -1]), rnn=rnn)


def attends(*, first: bool = False) -> nn.Module:
    mix, up = nn.MultiheadAttention(8, 2, batch_first=first), nn.Linear(4, 8)
    return Made(lambda m, x: m.head(m.mix(*[m.up(x)] * 3)[0].mean(1)), mix=mix, up=up)


def viewed(how: Callable[[Tensor], Tensor]) -> nn.Module:
    return Made(lambda m, x: m.head(m.rnn(how(x))[0][-1]), rnn=nn.GRU(4, 8))


def normed(**how: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.BatchNorm1d(8, **how), nn.ReLU(), nn.Linear(8, 3))


def packed(m: Any, x: Tensor) -> Tensor:
    sizes = torch.arange(len(x)) % 4 + 3
    rows = nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
    return m.head(m.rnn(rows)[1][0])


def softly(m: Any, x: Tensor) -> Tensor:
    weights = functional.softmax(m.up(x).mean(2), dim=0)
    return m.head((weights[..., None] * m.up(x)).sum(1))


def paired(m: Any, x: Tensor) -> Tensor:
    return m.head(torch.relu(m.up(x.reshape(-1, 8)).reshape(len(x) // 2, 2, 3, 8).mean(2).flip(1)).mean(1)
                  ).repeat_interleave(2, 0)  # fmt: skip


APART_MODELS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3)),
    "LSTM, batch first": lambda: recurrent(first=True),
    "GRU, transposed": lambda: viewed(lambda x: x.transpose(0, 1)),
    "GRU, permuted by einsum": lambda: viewed(lambda x: torch.einsum("ntd->tnd", x)),
    "attention, batch first": lambda: attends(first=True),
    "encoder, batch first": lambda: encoder(first=True),
    "batch norm": normed,
    "group norm": lambda: nn.Sequential(nn.Conv1d(6, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Flatten()),
    "packed": lambda: Made(packed, rnn=nn.GRU(4, 8, batch_first=True)),
    "dropout": lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 3)),
    "a view within an example": lambda: Made(lambda m, x: m.head(x.view(len(x), 3, 8).mean(1))),
    "loop over examples": lambda: Made(lambda m, x: torch.stack([m.head(e.reshape(3, 8)[1]) for e in x])),
    "time first in the output": lambda: Made(lambda m, x: m.rnn(x.transpose(0, 1))[0], rnn=nn.GRU(4, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", APART_MODELS)
@pytest.mark.parametrize("other", [None, Given((OTHER,), {}, 32)], ids=["of the batch", "of another"])
def test_models_that_answer_every_example_by_itself(name: str, other: Given | None) -> None:
    torch.manual_seed(0)
    assert mixing(APART_MODELS[name](), Given((X,), {}, 32), other) == {"share": 0.0, "rows": 32}


MIXING: dict[str, tuple[Callable[[], nn.Module], str, str, bool]] = {
    "LSTM": (recurrent, "batch_first", "rnn", True),
    "GRU": (lambda: recurrent("GRU"), "batch_first", "rnn", True),
    "RNN": (lambda: recurrent("RNN"), "batch_first", "rnn", True),
    "attention": (attends, "batch_first", "mix", True),
    "encoder": (lambda: encoder(first=False), "batch_first", "1", True),
    "view": (lambda: viewed(lambda x: x.view(6, -1, 4)), "view", "", True),
    "reshape": (lambda: viewed(lambda x: torch.reshape(x, (6, 32, 4))), "view", "", True),
    "softmax over axis 0": (lambda: Made(softly, up=nn.Linear(4, 8)), "softmax", "", True),
    "mean of the batch": (lambda: Made(lambda m, x: m.head((x - x.mean(0)).reshape(-1, 3, 8)[:, 0])),
                          "other", "", False),
    "pairs": (lambda: Made(paired, up=nn.Linear(8, 8)), "other", "", False),
    "no running statistics": (lambda: normed(track_running_stats=False), "norm", "2", False),
    "hidden state by the wrong axis": (
        lambda: Made(lambda m, x: m.head(m.rnn(x, torch.zeros(1, x.size(1), 8))[0][:, -1]), rnn=nn.GRU(4, 8)),
        "batch_first", "rnn", False),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_is_named_and_what_puts_it_right_does(name: str) -> None:
    make, by, where, cured = MIXING[name]
    torch.manual_seed(0)
    model = make()
    found = mixing(model, Given((X,), {}, 32), Given((OTHER,), {}, 32))
    assert found["share"] > 1e3 * APART
    assert (found["by"], found["where"], bool(found["edits"])) == (by, where, cured)
    for each in found["edits"]:
        model = from_dict(each).adapt(model)
    if cured:
        assert mixing(model, Given((X,), {}, 32))["share"] <= APART


def test_the_share_is_that_of_a_linear_mix() -> None:
    class Half(nn.Module):
        def __init__(self, part: float) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            return x + self.part * x.roll(1, 0)

    x, other = (torch.randn(4096, 8, generator=torch.Generator().manual_seed(s)) for s in (2, 3))
    for part in (0.1, 1.0):  # of an exchanged neighbour half are exchanged in either pass
        found = mixing(Half(part), Given((x,), {}, 4096), Given((other,), {}, 4096))
        own = 1 + part**2 / 2
        assert found["share"] == pytest.approx(part**2 / 2 / (own + part**2 / 2), rel=0.05)


def test_batch_statistics_make_little_and_cut_up_examples_much() -> None:
    torch.manual_seed(0)
    for name in ("no running statistics", "mean of the batch"):
        assert mixing(MIXING[name][0](), Given((X,), {}, 32))["share"] < MUCH / 2
    for name in ("pairs", "view"):
        assert mixing(MIXING[name][0](), Given((X,), {}, 32))["share"] > MUCH


def test_examples_along_another_axis_are_exchanged_there() -> None:
    torch.manual_seed(0)
    model = Made(lambda m, x: m.head(m.rnn(x)[0][-1]), rnn=nn.GRU(4, 8))
    assert mixing(model, Given((X.transpose(0, 1),), {}, 32, axis=1))["share"] == 0
    model = Made(lambda m, x: m.head(m.rnn(x)[0][-1]), rnn=nn.GRU(4, 8, batch_first=True))
    found = mixing(model, Given((X.transpose(0, 1),), {}, 32, axis=1))
    assert found["edits"] == [{"kind": "batch-first", "modules": ("rnn",), "first": False}]


def test_an_axis_of_as_many_numbers_is_not_taken_for_the_examples() -> None:
    torch.manual_seed(0)
    timed = Made(lambda m, x: m.rnn(x.transpose(0, 1))[0], rnn=nn.GRU(4, 6))
    for rows in (6, 8):
        assert mixing(timed, Given((X[:rows],), {}, rows))["share"] == 0


def calls_itself(m: Any, x: Tensor) -> Tensor:
    return m.head(x[:, 0].repeat(1, 2)) + next(NOISE)


NOISE = iter(range(10**6))


@pytest.mark.parametrize(
    ("model", "x", "said"),
    [
        (Made(lambda m, x: m.head(x[:, 0].repeat(1, 2))), X[:3], "a batch of 3 is too small"),
        (Made(lambda m, x: m.head(x.sum() * torch.ones(8)).sum()), X, "no numbers of single examples"),
        (Made(lambda m, x: x.flatten(1) @ x.flatten(1).T), X, "for every pair of examples"),
        (Made(lambda m, x: m.head(x[:, 0].repeat(1, 2)) / 0), X, "not finite"),
        (Made(lambda m, x: m.head(torch.ones(len(x), 8))), X, "does not change"),
        (Made(calls_itself), X, "two passes over the same batch differ"),
    ],
    ids=range(6),
)
def test_what_cannot_be_told_is_said(model: nn.Module, x: Tensor, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        mixing(model, Given((x,), {}, len(x)))


def test_hooks_of_somebodys_own_are_not_called() -> None:
    model, called = nn.Linear(4, 2), list[int]()
    model.register_forward_hook(lambda *_: called.append(1))
    with pytest.raises(ModelError, match="hooks of its own"):
        mixing(model, Given((X[:, 0],), {}, 32))
    assert not called


def test_nothing_of_the_model_is_touched(capsys: pytest.CaptureFixture[str]) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = nn.Sequential(nn.Flatten(), nn.Linear(24, 3), nn.BatchNorm1d(3)), 0
            self.table = nn.Embedding(5, 3, max_norm=0.1)
            self.inner[2].eval()

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            print("called")
            x.mul_(1.0)
            return self.inner(x) + self.table(torch.zeros(len(x), dtype=torch.long)) + x.mean(0)[0, :3]

    model = Counts()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    modes = [each.training for each in model.modules()]
    drawn, x = torch.get_rng_state(), X.clone()
    assert mixing(model, Given((x,), {}, 32))["share"] > 0
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert [each.training for each in model.modules()] == modes
    assert model.calls == 0
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(x, X)
    assert capsys.readouterr().out == ""


def test_a_problem_is_asked_by_batches_as_the_recipe_takes_them() -> None:
    y = X.sum((1, 2))
    problem = ds.Problem(model=recurrent, objective="mse", train=(X, y[:, None].expand(-1, 3)))
    found = mixed.measure(problem, ds.Recipe(batch_size=8))
    assert (found["rows"], found["whole"], found["by"]) == (8, False, "batch_first")
    assert mixed.measure(problem, ds.Recipe(batch_size="full"))["whole"]
    edited = problem.edit(*(from_dict(each) for each in found["edits"]))
    assert mixed.measure(edited, ds.Recipe(batch_size=8))["share"] == 0
