"""Plain values for JSON and TOML."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.plain import plain, to_toml


def test_plain_values_are_json_and_non_finite_numbers_become_none() -> None:
    value = {
        1: float("nan"), "a": (np.float32(0.5), np.int64(3), True, None), "t": torch.tensor([1.0, math.inf]),
        "p": Path("x"), "o": ValueError, "n": np.array([[1, 2]]),
    }  # fmt: skip
    found = plain(value)
    assert found["1"] is None
    assert found["a"] == [0.5, 3, True, None]
    assert found["t"] == [1.0, None]
    assert found["n"] == [[1, 2]]
    json.dumps(found, allow_nan=False)


def test_tables_within_tables_keep_their_path() -> None:
    table = {"a": {"b": {"c": 1, "d": {"e": [1.5]}}, "f": 2}, "g": 3, "rows": [{"x": {"y": 1}}, {"x": {}}]}
    assert tomllib.loads(to_toml(table)) == table


def test_none_is_left_out_wherever_it_stands() -> None:
    table = {"a": None, "b": {"c": None}, "r": [{"x": None, "m": {"k": None, "z": 1}}]}
    assert tomllib.loads(to_toml(table)) == {"b": {}, "r": [{"m": {"z": 1}}]}


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    assert tomllib.loads(to_toml({"a": np.float64(0.1), "b": np.int64(3), "c": [np.float32(0.5)]})) == {
        "a": 0.1, "b": 3, "c": [0.5],
    }  # fmt: skip


def test_lists_that_mix_tables_and_numbers_stay_lists() -> None:
    assert tomllib.loads(to_toml({"a": [{"b": 1}, 2]})) == {"a": [{"b": 1}, 2]}


def test_code_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="cannot be written"):
        to_toml({"a": len})
