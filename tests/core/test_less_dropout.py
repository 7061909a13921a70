"""Less dropout, in modules and in functions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import downslope as ds
from downslope.core.edits.dropout import DROPOUTS, LessDropout, Shares
from downslope.core.errors import EditError

X = torch.ones(4, 8, 50)


class Calls(nn.Module):
    """Every way to say the share, and to drop."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(x, 0.9, self.training)
        x = functional.dropout(x, p=0.9, training=self.training)
        x = functional.dropout(x, training=self.training)
        return functional.dropout1d(x, 0.9, self.training)


@pytest.mark.parametrize("make", [Calls, lambda: nn.Sequential(nn.Dropout(0.9), Calls())])
def test_nothing_drops_any_more_and_nothing_is_scaled(make: type[nn.Module]) -> None:
    model = make().train()
    assert not torch.equal(model(X), X)
    changed = copy.deepcopy(LessDropout().adapt(model))
    assert torch.equal(changed(X), X)
    assert torch.equal(changed.eval()(X), X)


def test_a_share_is_lowered_to_what_is_asked_and_never_raised() -> None:
    torch.manual_seed(0)
    wide = torch.ones(100_000)
    for own, most, left in ((0.9, 0.2, 0.8), (0.1, 0.2, 0.9)):
        model = LessDropout(most).adapt(nn.Dropout(own)).train()
        assert float((model(wide) > 0).double().mean()) == pytest.approx(left, abs=0.01)


def test_what_stands_outside_of_the_model_drops_as_before() -> None:
    model = LessDropout().adapt(nn.Identity()).train()
    assert float((functional.dropout(model(X), 0.9) == 0).double().mean()) > 0.5


def test_a_model_that_raises_leaves_nothing_entered() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        LessDropout().adapt(Raises())(X)
    assert float((functional.dropout(X, 0.9) == 0).double().mean()) > 0.5


@pytest.mark.parametrize("function", DROPOUTS)
def test_each_function_that_drops_is_seen_with_its_own_default(function: object) -> None:
    extra = {functional.dropout2d: (1,), functional.dropout3d: (1, 1)}.get(function, ())  # type: ignore[call-overload]
    x = X.reshape(*X.shape, *extra)
    with Shares() as seen:
        out = function(x)  # type: ignore[operator]
    assert (seen.found == [0.5]) == (not torch.equal(out, x))


def test_it_trains_in_a_recipe_and_survives_its_file() -> None:
    assert ds.edits.from_dict(LessDropout(0.1).to_dict()) == LessDropout(0.1)
    with pytest.raises(EditError, match="must lie in"):
        LessDropout(1.0)
