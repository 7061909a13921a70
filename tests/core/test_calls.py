"""What a forward pass calls, changed from outside: beside the same forward written out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits import LessDropout, LetThrough, OneMode, ReplaceCall, StandardiseInputs
from downslope.core.errors import EditError

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
HOW = ds.Recipe(optimizer="sgd", lr=0.1, epochs=2, batch_size=8)


class Net(nn.Module):
    """Two hidden layers; what lies between the layers is given."""

    def __init__(self, hidden: Any, end: Any) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)
        self.hidden, self.end = hidden, end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.head(self.hidden(self.two(self.hidden(self.one(x))))))


def problem(make: Any, **changes: Any) -> ds.Problem:
    y = (X[:, :1] > 0).float().expand(-1, 2).clone()
    return ds.Problem(**({"model": make, "objective": "mse", "train": (X, y)} | changes))


def plain(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(
    "called",
    [torch.sigmoid, Tensor.sigmoid, functional.sigmoid, nn.Sigmoid(), lambda x: x.clone().sigmoid_()],
    ids=["torch", "method", "functional", "module", "in place"],
)
def test_it_is_found_under_every_name(called: Any) -> None:
    changed = problem(lambda: Net(called, plain)).edit(ReplaceCall("sigmoid", "relu")).build(3)
    torch.testing.assert_close(changed(X), problem(lambda: Net(torch.relu, plain)).build(3)(X))


@pytest.mark.parametrize(
    ("which", "hidden", "end"),
    [
        ("all", torch.tanh, torch.tanh),
        ("hidden", torch.tanh, torch.sigmoid),
        ("last", torch.sigmoid, torch.tanh),
    ],
)
def test_the_hidden_calls_the_last_one_or_all_are_replaced(which: Any, hidden: Any, end: Any) -> None:
    sick = problem(lambda: Net(torch.sigmoid, torch.sigmoid))
    changed = sick.edit(ReplaceCall("sigmoid", "tanh", which)).build(3)
    for _ in range(2):  # every forward counts anew
        torch.testing.assert_close(changed(X), problem(lambda: Net(hidden, end)).build(3)(X))


def test_a_softmax_in_its_place_is_taken_over_the_classes() -> None:
    made = problem(lambda: Net(torch.tanh, torch.relu)).edit(ReplaceCall("relu", "softmax", "last")).build(3)
    plainly = problem(lambda: Net(torch.tanh, lambda x: functional.softmax(x, dim=1))).build(3)
    assert torch.equal(made(X), plainly(X))


def test_nothing_in_its_place_takes_it_out() -> None:
    sick = problem(lambda: Net(torch.tanh, lambda x: functional.softmax(x, dim=-1)))
    changed = sick.edit(ReplaceCall("softmax", which="last")).build(3)
    torch.testing.assert_close(changed(X), problem(lambda: Net(torch.tanh, plain)).build(3)(X))


def test_a_call_that_is_not_made_is_refused_and_so_is_an_unknown_name() -> None:
    sick = problem(lambda: Net(torch.tanh, plain))
    with pytest.raises(EditError, match="calls no sigmoid"):
        sick.edit(ReplaceCall("sigmoid", "relu"))
    once = problem(lambda: Net(plain, torch.tanh))
    with pytest.raises(EditError, match="calls no tanh"):
        once.edit(ReplaceCall("tanh", "relu", "hidden"))
    for given in (("sine",), ("tanh", "sine"), ("tanh", "relu", "first")):
        with pytest.raises(EditError, match="not known"):
            ReplaceCall(*given)  # type: ignore[arg-type]


def cut_by_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.tanh(x)


@pytest.mark.parametrize(
    "cut",
    [lambda x: x.detach(), lambda x: x.data, torch.detach, cut_by_no_grad],
    ids=["detach", "data", "torch.detach", "no_grad"],
)
def test_the_gradient_is_let_through_and_the_output_stays(cut: Any) -> None:
    def make() -> nn.Module:
        return Net(cut, plain)

    sick = problem(make)
    before, after = sick.build(3), sick.edit(LetThrough()).build(3)
    torch.testing.assert_close(after(X), before(X))
    for model in (before, after):
        model(X).sum().backward()
    assert before.one.weight.grad is None
    assert after.one.weight.grad.abs().sum() > 0


def test_without_gradients_there_are_none_and_the_outside_is_as_it_was() -> None:
    model = problem(lambda: Net(cut_by_no_grad, plain)).edit(LetThrough()).build(3)
    with torch.no_grad():
        assert not model(X).requires_grad
    assert torch.is_grad_enabled()
    assert not X.detach().requires_grad


class Moody(nn.Module):
    """Centres by the batch, and drops, in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x - x.mean(0)
        return self.head(self.drop(x))


def test_training_takes_the_branch_of_eval_mode_and_dropout_goes_on() -> None:
    model = problem(Moody).edit(OneMode()).build(3)
    drawn = torch.stack([model(X) for _ in range(400)])
    want = model.eval()(X)
    assert drawn.std(0).min() > 0
    torch.testing.assert_close(drawn.mean(0), want, atol=0.3, rtol=0)
    assert model.train().training
    model(X)
    assert all(each.training for each in model.modules())


def test_eval_mode_takes_the_branch_of_training_and_drops_nothing() -> None:
    model = problem(Moody).edit(OneMode("train")).build(3).eval()
    whole = problem(Moody).build(3).eval()
    torch.testing.assert_close(model(X), whole(X - X.mean(0)))
    assert not any(each.training for each in model.modules())
    with pytest.raises(EditError, match="must be"):
        OneMode("both")  # type: ignore[arg-type]


@pytest.mark.parametrize("edit", [ReplaceCall("tanh", "relu"), LetThrough(), OneMode(), LessDropout(0.0)])
def test_it_counts_in_training_beside_standardised_inputs_and_in_copies(edit: Any) -> None:
    class Each(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.head = nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.one(x))
            h = h if not self.training else functional.dropout(h, 0.5)
            return self.head(h.detach())

    task = problem(Each)
    for order in ((StandardiseInputs(), edit), (edit, StandardiseInputs())):
        whole = ds.fit(task.edit(*order), HOW, folder=False, progress=False)
        without = ds.fit(task.edit(StandardiseInputs()), HOW, folder=False, progress=False)
        assert whole.history.series("train_loss").values.tolist() != (
            without.history.series("train_loss").values.tolist()
        )
    model = task.edit(edit).build()
    torch.testing.assert_close(copy.deepcopy(model).eval()(X), model.eval()(X))


@pytest.mark.parametrize("edit", [ReplaceCall("tanh", "relu", "hidden"), LetThrough(), OneMode()])
def test_it_is_saved_and_says_what_to_write(edit: Any) -> None:
    assert ds.edits.from_dict(edit.to_dict()) == edit
    assert edit.in_code[0].startswith("in forward: ")


def test_the_words_say_where_and_what() -> None:
    assert str(ReplaceCall("sigmoid", "relu", "hidden")) == "hidden sigmoid in the forward -> relu"
    assert str(ReplaceCall("softmax", which="last")) == "last softmax in the forward -> nothing"
    assert ReplaceCall("softmax", which="last").in_code == ("in forward: take out the last softmax(...)",)
