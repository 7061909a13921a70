"""Edits that keep the examples of a batch apart: they do what the right code does, and files hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core import edits
from downslope.core.edits.apart import axis_of, exchanged
from downslope.core.errors import EditError

X = torch.randn(12, 5, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 1, 0]


class Reads(nn.Module):
    def __init__(self, *, first: bool, view: bool = False) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, batch_first=first)
        self.mix = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=first)
        self.view = view

    def forward(self, x: Tensor) -> Tensor:
        if self.view:
            x = x.view(5, len(x), 3)
            return self.mix(self.rnn(x)[0])[-1].sum(-1)
        return self.mix(self.rnn(x)[0])[:, -1].sum(-1)


def problem(model: nn.Module) -> ds.Problem:
    return ds.Problem(model=lambda: model, objective="mse", train=(X, Y))


def test_batch_first_gives_what_modules_made_with_it_give() -> None:
    torch.manual_seed(0)
    wrong, right = Reads(first=False), Reads(first=True)
    right.load_state_dict(wrong.state_dict())
    made = problem(wrong).edit(edits.BatchFirst(("rnn", "mix"))).build().eval()
    with torch.no_grad():
        torch.testing.assert_close(made(X), right.eval()(X))
    back = problem(right).edit(edits.BatchFirst(("rnn", "mix"), first=False)).build().eval()
    with torch.no_grad():
        torch.testing.assert_close(back(X), Reads.forward(wrong_again(wrong), X))


def wrong_again(model: Reads) -> Reads:
    found = Reads(first=False)
    found.load_state_dict(model.state_dict())
    return found.eval()


def test_a_view_that_exchanges_axes_becomes_a_permutation_and_no_other_view_does() -> None:
    torch.manual_seed(0)
    wrong = Reads(first=False, view=True)
    made = problem(wrong).edit(edits.PermuteView()).build().eval()
    with torch.no_grad():
        direct = wrong.mix(wrong.rnn(X.transpose(0, 1))[0])[-1].sum(-1)
        torch.testing.assert_close(made(X), direct)
    assert exchanged((12, 5, 3), (5, 12, 3)) == (1, 0, 2)
    assert exchanged((64, 8, 8), (8, 64, 8)) == (1, 0, 2)
    for new in ((12, 15), (12, 3, 5), (12, 5, 3), (180,), (6, 10, 3)):
        assert exchanged((12, 5, 3), new) is None


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.soft = nn.Softmax(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        rows = functional.log_softmax(x[:, 0], 1) + x[:, 1].log_softmax(dim=0)
        return (self.soft(x[:, 2]) + torch.softmax(x[:, 3], 0) + rows).sum(1)


def test_softmax_over_the_examples_becomes_one_over_the_last_axis() -> None:
    made = problem(Scores()).edit(edits.OverClasses()).build()
    right = X[:, 0].log_softmax(1) + X[:, 1].log_softmax(1) + X[:, 2].softmax(1) + X[:, 3].softmax(1)
    torch.testing.assert_close(made(X), right.sum(1))


def test_the_axis_of_a_softmax_is_that_which_torch_takes() -> None:
    for size in ((4, 3), (4, 3, 2), (2, 4, 3, 2)):
        x = torch.randn(size)
        with pytest.warns(UserWarning, match="Implicit dimension"):
            made = functional.softmax(x)
        axis = axis_of(functional.softmax, (x,), {})
        assert axis is not None
        torch.testing.assert_close(made, torch.softmax(x, axis))
    assert axis_of(torch.softmax, (X, -3), {}) == 0
    assert axis_of(torch.relu, (X,), {}) is None
    assert axis_of(torch.softmax, (X[0, 0], 0), {}) is None


@pytest.mark.parametrize(
    "edit", [edits.BatchFirst(("rnn", "mix")), edits.BatchFirst(("rnn",), first=False), edits.PermuteView(),
             edits.OverClasses()], ids=str,
)  # fmt: skip
def test_a_file_holds_them_and_code_is_told(edit: edits.Edit, tmp_path: Path) -> None:
    assert edits.from_dict(edit.to_dict()) == edit
    path = edits.save(tmp_path / "fixed.toml", ds.Recipe(), [edit])
    assert edits.load(path)[1] == (edit,)
    assert edit.in_code  # type: ignore[attr-defined]


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(EditError, match="did you mean 'rnn'"):
        problem(Reads(first=False)).edit(edits.BatchFirst(("rn",)))
