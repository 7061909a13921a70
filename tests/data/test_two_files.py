"""A training and a validation file: both whole, and with one coding of columns and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.errors import DataError
from downslope.core.problem import Problem
from downslope.data import load_path

TRAIN = "a,colour,t\n0.5,red,low\n1.5,green,mid\n2.5,blue,up\n3.5,red,low\n4.5,blue,up\n5.5,green,mid\n"


def files(folder: Path, train: str, valid: str) -> tuple[Path, Path]:
    made = folder / "tr.csv", folder / "va.csv"
    for path, text in zip(made, (train, valid), strict=True):
        path.write_text(text, encoding="utf-8")
    return made


def test_the_validation_file_has_the_training_files_classes_categories_and_order(tmp_path: Path) -> None:
    first, second = files(tmp_path, TRAIN, "t,a,colour\nup,7,red\nmid,8,blue\n")
    loaded = load_path(first, "t", valid=second)
    assert (loaded.features, loaded.classes) == (
        ["a", "colour=blue", "colour=green", "colour=red"],
        ["low", "mid", "up"],
    )
    inputs, target = loaded.valid or pytest.fail("no validation part")
    assert inputs.tolist() == [[7.0, 0.0, 0.0, 1.0], [8.0, 1.0, 0.0, 0.0]]
    assert target.tolist() == [2, 1]


def test_of_two_files_a_problem_uses_every_row(tmp_path: Path) -> None:
    first, second = files(tmp_path, TRAIN, "a,colour,t\n7,red,up\n8,blue,mid\n9,red,mid\n")
    problem = Problem(model="mlp", objective="cross_entropy", train=str(first), valid=str(second), target="t")
    assert problem.valid_source is not None
    assert (problem.train_source.size, problem.valid_source.size) == (6, 3)
    beside = problem.valid_source.stored(3)
    alone = Problem(model="mlp", objective="cross_entropy", train=first, valid=next(beside), target="t")
    assert alone.train_source.size == 6


def test_a_class_given_by_number_keeps_its_index(tmp_path: Path) -> None:
    rows = "".join(f"{i},{1 + i % 2}\n" for i in range(20))
    first, second = files(tmp_path, f"a,t\n{rows}", "a,t\n3,2.0\n4,2\n")
    assert (load_path(first, "t", valid=second).valid or ())[1].tolist() == [1, 1]
    np.savez(tmp_path / "tr.npz", X=np.ones((20, 3)), y=np.arange(20) % 3 + 5)
    np.savez(tmp_path / "va.npz", X=np.zeros((4, 3)), y=np.array([7, 6, 6, 7]))
    loaded = load_path(tmp_path / "tr.npz", valid=tmp_path / "va.npz")
    assert len(loaded.train[1]) == 20
    assert (loaded.valid or ())[1].tolist() == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("valid", "said"),
    [
        ("a,colour,t\n1,red,low\n1,red,top\n", "va.csv line 3, target 't': class 'top' does not occur in tr"),
        ("a,colour,t\n1,pink,low\n", "va.csv line 2, column 'colour': 'pink' does not occur in tr.csv"),
        ("a,color,t\n1,red,low\n", "va.csv: no column 'colour', which tr.csv has; did you mean 'color'"),
        ("a,colour,t\n1e39,red,low\n", "va.csv line 2, column 'a': 1e39 overflows float32"),
        ("a,colour,t\nx,red,low\n", "va.csv line 2, column 'a': 'x' is no number, and tr.csv holds numbers"),
    ],
)
def test_what_the_training_file_does_not_know_is_refused_in_one_line(
    tmp_path: Path, valid: str, said: str
) -> None:
    first, second = files(tmp_path, TRAIN, valid)
    with pytest.raises(DataError) as raised:
        load_path(first, "t", valid=second)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_archive_of_another_shape_or_class_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "tr.npz", X=np.ones((20, 3)), y=np.arange(20) % 2)
    np.savez(tmp_path / "narrow.npz", X=np.ones((4, 2)), y=np.arange(4) % 2)
    np.savez(tmp_path / "odd.npz", X=np.ones((4, 3)), y=np.arange(4))
    torch.save({"X": torch.ones(4, 3), "y": torch.arange(4)}, tmp_path / "va.pt")
    for name, said in (("narrow.npz", "shape (2,)"), ("odd.npz", "class 2"), ("va.pt", "files of one kind")):
        with pytest.raises(DataError) as raised:
            load_path(tmp_path / "tr.npz", valid=tmp_path / name)
        assert said in str(raised.value)
