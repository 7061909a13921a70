"""How several inputs reach a model: what its forward takes decides, and what it does not take is one line."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import downslope as ds
from downslope.core.batches import default_split, whole_split
from downslope.core.errors import DataError
from downslope.core.feeding import Fed, fed

A, B, Y = torch.zeros(3, 2), torch.ones(3), torch.arange(3)


def model(source: str) -> nn.Module:
    """A module whose forward has these parameters and gives them back by name."""
    names = [each.split("=")[0].strip("* ") for each in source.split(",")]
    space: dict[str, Any] = {"nn": nn}
    pairs = ", ".join(f"{name!r}: {name}" for name in names)
    exec(f"class Own(nn.Module):\n def forward(self, {source}): return {{{pairs}}}", space)
    return space["Own"]()


def got(forward: str, batch: Any) -> dict[str, Any]:
    """What the forward is handed, by parameter."""
    own = model(forward)
    args, kwargs, target = Fed(default_split, lambda: own)(batch)
    assert target is Y
    return own(*args, **kwargs)


PAIR, NAMED = (A, B), {"x": A, "mask": B}


@pytest.mark.parametrize(
    ("forward", "batch", "wanted"),
    [
        ("x, mask", (PAIR, Y), {"x": A, "mask": B}),
        ("x, mask", ([A, B], Y), {"x": A, "mask": B}),
        ("x, mask", (A, B, Y), {"x": A, "mask": B}),
        ("x, mask=None", (PAIR, Y), {"x": A, "mask": B}),
        ("*inputs", (PAIR, Y), {"inputs": PAIR}),
        ("pair", (PAIR, Y), {"pair": PAIR}),
        ("x", ((A,), Y), {"x": A}),
        ("x, mask", (NAMED, Y), {"x": A, "mask": B}),
        ("mask, x", (NAMED, Y), {"x": A, "mask": B}),
        ("**inputs", (NAMED, Y), {"inputs": NAMED}),
        ("batch", (NAMED, Y), {"batch": NAMED}),
        ("x, mask", NAMED | {"labels": Y}, {"x": A, "mask": B}),
        ("batch", NAMED | {"y": Y}, {"batch": NAMED}),
        ("input", {"x": A, "y": Y}, {"input": A}),
        ("input", ({"x": A}, Y), {"input": A}),
        ("x", (A, Y), {"x": A}),
    ],
)
def test_the_forward_says_how_inputs_go_in(forward: str, batch: Any, wanted: dict[str, Any]) -> None:
    found = got(forward, batch)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert all(found[name][key] is each for key, each in value.items())
        elif isinstance(value, tuple):
            assert all(x is y for x, y in zip(found[name], value, strict=True))
        else:
            assert found[name] is value


@pytest.mark.parametrize("key", ["labels", "label", "target", "targets", "y"])
def test_a_dict_has_its_target_under_a_usual_key(key: str) -> None:
    assert default_split({"x": A, key: Y}).target is Y


def test_labels_win_over_a_y_that_is_then_an_input() -> None:
    args, kwargs, target = default_split({"y": A, "labels": Y})
    assert (args, list(kwargs)) == ((), ["y"])
    assert target is Y


@pytest.mark.parametrize(
    ("forward", "batch", "said"),
    [
        ("x, mask", ({"ids": A, "mask": B}, Y), r"inputs named ids, mask, and Own.forward takes \(x, mask\)"),
        (
            "x, mask",
            ((A, B, B), Y),
            r"3 inputs \(\(3, 2\), \(3,\), \(3,\)\), and Own.forward takes \(x, mask\)",
        ),
        ("x", (A, B, Y), r"2 inputs \(\(3, 2\), \(3,\)\), and Own.forward takes \(x\)"),
    ],
)
def test_what_the_forward_does_not_take_is_one_line_with_both_sides(
    forward: str, batch: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said) as told:
        got(forward, batch)
    assert "split=" in str(told.value)
    assert "\n" not in str(told.value)


def test_a_model_is_made_at_most_once_and_never_for_one_tensor() -> None:
    made: list[int] = []

    def factory() -> nn.Module:
        made.append(1)
        return model("x, mask")

    split = Fed(default_split, factory)
    split((A, Y))
    assert not made
    for _ in range(3):
        copy.deepcopy(split)((PAIR, Y))
    assert len(made) == 1


def test_inputs_without_a_target_are_fed_alike() -> None:
    assert fed(model("x, mask"), NAMED)[1] == NAMED
    assert fed(model("x, mask"), PAIR)[0] == PAIR
    assert fed(model("x"), A)[0][0] is A


def test_what_adapts_a_model_takes_what_the_model_inside_takes() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(2, 1)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.map(x) * mask[:, None]

    x, mask = 5 + 3 * torch.randn(50, 2), torch.ones(50)
    problem = ds.Problem(model=Masked, objective="squared_error", train=((x, mask), x[:, :1]))
    edited = problem.edit(ds.edits.StandardiseInputs())
    args, kwargs, _ = edited.splitter(edited.train_source.batch)
    out = edited.build(0)(*args, **kwargs)
    inner = problem.build(0)((x - x.mean(0)) / x.std(0, correction=0), mask)
    torch.testing.assert_close(out, inner, rtol=1e-4, atol=1e-5)


def test_a_model_by_name_takes_the_one_input_of_a_dict_and_its_sizes() -> None:
    problem = ds.Problem(
        model="mlp", objective="cross_entropy", train={"x": A.repeat(4, 1), "y": Y.repeat(4)}
    )
    args, _, _ = problem.splitter(problem.train_source.batch)
    assert problem.build()(*args).shape == (12, 3)


def test_without_an_objective_the_whole_batch_goes_to_the_model() -> None:
    own = model("input_ids, labels")
    args, kwargs, target = Fed(whole_split, lambda: own)({"input_ids": A, "labels": Y})
    assert (args, list(kwargs)) == ((), ["input_ids", "labels"])
    assert target is Y
    with pytest.raises(
        DataError, match="without an objective the whole batch goes to the model, which returns"
    ):
        Fed(whole_split, lambda: model("x"))((A, Y))
