"""Data frames as data: the target is the column that is named, and nothing of it is among the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import downslope as ds
from downslope.core.errors import DataError

pd: Any = pytest.importorskip("pandas", reason="pandas is not installed: the extra 'tables' has it")
DRAW = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": DRAW.normal(size=60), "v": DRAW.normal(size=60), "b": range(60)})


def problem(train: Any, **more: Any) -> ds.Problem:
    return ds.Problem(model="linear", objective="squared_error", train=train, **more)


def test_the_target_is_the_column_that_is_named() -> None:
    given = problem(FRAME, target="v", valid=FRAME[:20])
    x, y = given.train_source.batch  # type: ignore[attr-defined]
    np.testing.assert_allclose(x, FRAME[["a", "b"]].to_numpy())
    np.testing.assert_allclose(y, FRAME["v"].to_numpy())
    assert given.edit(objective="huber").build()(torch.zeros(1, 2)).shape == (1, 1)
    run = ds.fit(given, ds.Recipe(steps=3), folder=False, progress=False)
    assert run.summary["valid_loss"] > 0


@pytest.mark.parametrize(
    ("train", "target", "said"),
    [
        (FRAME, None, "a data frame alone does not tell its target: say target='column'"),
        (FRAME, "w", "no column 'w'; known: a, b, v"),
        (FRAME.assign(c="x"), "v", "column 'c' of the data frame holds no numbers"),
        (FRAME[["v"]], "v", "the target 'v' alone, and no inputs"),
        (FRAME, ["v"], "must be the name of one column"),
        (FRAME[["a", "v", "a"]], "v", "two columns 'a'; rename one"),
        ((FRAME[["a"]], FRAME["v"]), "v", "goes with a path or a data frame; train has a target of its own"),
    ],
)
def test_what_a_frame_does_not_tell_is_refused(train: Any, target: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        problem(train, target=target)


def test_a_pair_of_frames_is_inputs_and_target() -> None:
    x, y = problem((FRAME[["a", "b"]], FRAME["v"])).train_source.batch  # type: ignore[attr-defined]
    assert x.shape == (60, 2)
    assert y.shape == (60,)


def test_columns_of_the_held_out_frame_are_those_of_training_by_name() -> None:
    given = problem(FRAME, target="v", valid=FRAME[["b", "v", "a"]].assign(more=1.0)[:20])
    x, y = given.valid_source.batch  # type: ignore[union-attr]
    np.testing.assert_allclose(x, FRAME[["a", "b"]].to_numpy()[:20])
    np.testing.assert_allclose(y, FRAME["v"].to_numpy()[:20])
    with pytest.raises(DataError, match="valid: the data frame has no column 'b', and that"):
        problem(FRAME, target="v", valid=FRAME[["a", "v"]])
