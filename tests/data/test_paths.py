"""Files: what is inferred, what is told, what is refused, each checked on a file written for it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.errors import DataError
from downslope.data import load_path


@pytest.fixture
def write(tmp_path):
    def writer(text: str, name: str = "table.csv", encoding: str = "utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return writer


def both(loaded):
    """All rows, training part first."""
    if loaded.valid is None:
        return loaded.train
    return tuple(torch.cat(pair) for pair in zip(loaded.train, loaded.valid, strict=True))


def numbers(delimiter: str, header: str | None = "a,b,c", rows: int = 30) -> str:
    lines = [] if header is None else [header.replace(",", delimiter)]
    lines += [delimiter.join((f"{i}.5", f"{i * i}", f"{(i * 7) % 11 / 4}")) for i in range(rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["a,b,c", None])
def test_delimiter_and_header_are_found(write, delimiter, header):
    loaded = load_path(write(numbers(delimiter, header)))
    assert loaded.features == (["a", "b"] if header else ["column1", "column2"])
    assert loaded.target == ("c" if header else "column3")
    assert loaded.task == "regression"
    inputs, target = both(loaded)
    wanted = {(i + 0.5, float(i * i), (i * 7) % 11 / 4) for i in range(30)}
    assert {(*row, y) for row, y in zip(map(tuple, inputs.tolist()), target.tolist(), strict=True)} == wanted


def test_quoted_cells_keep_their_delimiters_and_line_breaks(write):
    text = 'x;name;y\n1;"a;b";0.5\n2;"a;b";1.5\n3;"c, ""d""";2.25\n' * 1
    loaded = load_path(write(text), valid=0.0)
    assert loaded.features == ["x", 'name=c, "d"']
    assert loaded.train[0][:, 1].sum() == 1


def test_a_target_in_the_first_row_makes_it_the_header(write):
    loaded = load_path(write("1999,2000\n1.5,2.5\n3.5,4.25\n"), target="2000", valid=0.0)
    assert loaded.features == ["1999"]
    assert sorted(loaded.train[1].tolist()) == [2.5, 4.25]


def test_a_table_of_text_has_a_header_where_its_first_row_recurs_nowhere(write):
    rows = "red,round,yes\nblue,round,no\nred,square,yes\nblue,square,no\n" * 3
    with_header = load_path(write("colour,shape,label\n" + rows), valid=0.0)
    assert with_header.features == ["colour=red", "shape=square"]
    assert load_path(write(rows), valid=0.0).features == ["column1=red", "column2=square"]


def test_columns_of_one_name_are_told_apart(write):
    loaded = load_path(write("a,a,a,y\n1,2,3,0.5\n4,5,6,1.5\n"), valid=0.0)
    assert loaded.features == ["a", "a.2", "a.3"]


def test_underscores_make_no_numbers(write):
    rows = "".join(f"1_{i % 3},{i / 3}\n" for i in range(12))
    assert load_path(write("a,y\n" + rows), valid=0.0).features == ["a=1_0", "a=1_1", "a=1_2"]


def test_missing_values_become_nan_and_are_told(write):
    loaded = load_path(write("a,b,y\n1,2,0.5\n,3,1.5\nNA,?,2.5\n4,nan,0.25\n"), valid=0.0)
    assert loaded.train[0].isnan().sum(0).tolist() == [2, 2]
    assert any("'a' 2, 'b' 2" in line for line in loaded.told)


def test_rows_without_a_target_are_left_out_and_told(write):
    loaded = load_path(write("a,y\n1,0.5\n2,\n3,2.5\n"), valid=0.0)
    assert sorted(loaded.train[0].flatten().tolist()) == [1, 3]
    assert any("1 row is without a target and left out" in line for line in loaded.told)


def test_text_columns_become_indicators(write):
    rows = [("red", 1), ("green", 2), ("blue", 3), ("", 4), ("red", 5), ("green", 6), ("blue", 7), ("", 8)]
    text = "colour,size,y\n" + "".join(f"{c},{s},{s / 3}\n" for c, s in rows)
    loaded = load_path(write(text), valid=0.0)
    assert loaded.features == ["colour=blue", "colour=green", "colour=missing", "colour=red", "size"]
    assert torch.equal(loaded.train[0][:, :4].sum(1), torch.ones(8))
    by_size = {int(row[4]): row[:4].tolist() for row in loaded.train[0]}
    assert by_size[2] == [0, 1, 0, 0]
    assert by_size[4] == [0, 0, 1, 0]


def test_a_few_cells_of_text_in_a_column_of_numbers_are_missing_and_told_with_their_line(write):
    text = "a,y\n" + "".join(f"{'oops' if i == 7 else i},{i / 3}\n" for i in range(40))
    loaded = load_path(write(text), valid=0.0)
    assert loaded.train[0].isnan().sum() == 1
    assert any("'oops' in line 9" in line for line in loaded.told)


def test_identifiers_counters_and_empty_columns_are_left_out_and_told(write):
    text = "id,name,empty,x,y\n" + "".join(f"{i},person {i},,{i % 5},{i / 3}\n" for i in range(30))
    loaded = load_path(write(text))
    assert loaded.features == ["x"]
    for name in ("'id'", "'name'", "'empty'"):
        assert any(name in line and "left out" in line for line in loaded.told)


def test_a_decimal_comma_is_read(write):
    loaded = load_path(write("a;y\n1,5;2,25\n2,5;3,75\n"), valid=0.0)
    assert sorted(loaded.train[0].flatten().tolist()) == [1.5, 2.5]
    assert sorted(loaded.train[1].tolist()) == [2.25, 3.75]


def test_text_targets_are_sorted_classes_and_the_split_is_stratified(write):
    text = "x,y\n" + "".join(f"{i},{'cat' if i % 4 else 'ant'}\n" for i in range(40))
    loaded = load_path(write(text), valid=0.2)
    assert loaded.classes == ["ant", "cat"]
    assert loaded.task == "classification"
    assert loaded.valid is not None
    assert torch.bincount(loaded.valid[1]).tolist() == [2, 6]
    inputs, target = both(loaded)
    assert all((int(x) % 4 != 0) == bool(y) for x, y in zip(inputs[:, 0], target, strict=True))


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        ([3, 5, 8], "classification", ["3", "5", "8"]),
        ([0, 1], "classification", ["0", "1"]),
        ([-1, 1], "classification", ["-1", "1"]),
        (range(60), "regression", []),
        (range(25), "regression", []),
        ([0.5, 1.5], "regression", []),
        ([4], "classification", ["4"]),
    ],
)
def test_whole_numbers_with_few_values_are_classes(write, values, task, classes):
    values = list(values)
    text = "x,y\n" + "".join(f"{i / 7},{values[i % len(values)]}\n" for i in range(60))
    loaded = load_path(write(text))
    assert (loaded.task, loaded.classes) == (task, classes)
    assert any(task in line for line in loaded.told)


def test_a_byte_order_mark_and_latin_1_are_read(write):
    rows = "é,y\n1,0.5\n2,1.5\n"
    assert load_path(write(rows, encoding="utf-8-sig"), valid=0.0).features == ["é"]
    loaded = load_path(write(rows, encoding="latin-1"), valid=0.0)
    assert loaded.features == ["é"]
    assert any("Latin-1" in line for line in loaded.told)


def test_a_table_agrees_with_pythons_own_reader_on_every_cell(write, tmp_path):
    draw = np.random.default_rng(0)
    values = draw.normal(size=(50, 6)) * 10.0 ** draw.integers(-5, 6, size=(50, 6))
    path = tmp_path / "wide.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([[f"c{i}" for i in range(6)], *values.tolist()])
    inputs, target = both(load_path(path, target="c2"))
    order = torch.argsort(target)
    wanted = values[np.argsort(values[:, 2])].astype(np.float32)
    np.testing.assert_array_equal(inputs[order].numpy(), np.delete(wanted, 2, axis=1))


@pytest.mark.parametrize(
    ("text", "target", "word"),
    [
        ("", None, "empty"),
        ("  \n\n", None, "empty"),
        ("a,b,y\n", "y", "no rows"),
        ("quality,b,y\n1,2,3\n4,5,6\n", "qualty", "did you mean 'quality'"),
        ("Quality,b,y\n1,2,3\n4,5,6\n", "quality", "did you mean 'Quality'"),
        ("a,b,y\n1,2,3\n1,2\n", None, "line 3: 2 cells"),
        ("a,y\n1,\n2,\n", "y", "holds no value"),
        ("y\n1\n2\n", "y", "no column but"),
        ("\0\1\2,\0", None, "no text"),
    ],
)
def test_a_bad_table_is_refused_in_one_line(write, text, target, word):
    with pytest.raises(DataError, match=word) as told:
        load_path(write(text), target=target)
    assert "\n" not in str(told.value)


def test_a_column_that_only_identifies_is_no_input(write):
    text = "name,y\n" + "".join(f"person {i},{i / 3}\n" for i in range(30))
    with pytest.raises(DataError, match="30 different values"):
        load_path(write(text))


def test_missing_files_folders_and_unknown_kinds(tmp_path, write):
    with pytest.raises(DataError, match="no such file"):
        load_path(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="folder"):
        load_path(tmp_path)
    with pytest.raises(DataError, match=r"\.xlsx"):
        load_path(write("x", "table.xlsx"))


class TestArrays:
    X, y = np.arange(40, dtype=np.float64).reshape(20, 2), np.arange(20) % 2

    @pytest.mark.parametrize("keys", [("X", "y"), ("x", "y"), ("data", "target")])
    def test_npz_whole(self, tmp_path, keys):
        path = tmp_path / "a.npz"
        np.savez(path, **{keys[0]: self.X, keys[1]: self.y})
        loaded = load_path(path)
        inputs, target = both(loaded)
        order = inputs[:, 0].argsort()
        assert torch.equal(inputs[order], torch.from_numpy(self.X).float())
        assert torch.equal(target[order], torch.from_numpy(self.y))
        assert loaded.classes == ["0", "1"]

    def test_npz_that_brings_its_split_keeps_it_in_order(self, tmp_path):
        path = tmp_path / "a.npz"
        images = np.arange(20 * 9, dtype=np.uint8).reshape(20, 1, 3, 3)
        np.savez(path, x_train=images[:15], y_train=self.y[:15], x_test=images[15:], y_test=self.y[15:])
        loaded = load_path(path, valid=0.9)
        assert torch.equal(loaded.train[0], torch.from_numpy(images[:15]).float())
        assert torch.equal(loaded.valid[1], torch.from_numpy(self.y[15:]))

    def test_pt_dict_and_pair(self, tmp_path):
        pair = (torch.randn(20, 3), torch.randn(20, 1))
        torch.save({"X": pair[0], "y": pair[1], "note": "text"}, tmp_path / "a.pt")
        torch.save(pair, tmp_path / "b.pt")
        for name in ("a.pt", "b.pt"):
            loaded = load_path(tmp_path / name, valid=0.0)
            assert loaded.task == "regression"
            assert loaded.train[1].shape == (20,)
        named = load_path(tmp_path / "a.pt", target="y", valid=0.0)
        assert named.target == "y"

    def test_tokens_stay_whole_numbers(self, tmp_path):
        torch.save(
            {"X": torch.randint(0, 50, (20, 7)), "y": torch.randint(0, 50, (20, 7))}, tmp_path / "a.pt"
        )
        loaded = load_path(tmp_path / "a.pt", valid=0.0)
        assert loaded.train[0].dtype == loaded.train[1].dtype == torch.int64
        assert loaded.task == "classification"

    def test_a_pickle_is_refused_and_never_run(self, tmp_path):
        ran = tmp_path / "ran"

        class Bomb:
            def __reduce__(self):
                return (ran.write_text, ("x",))

        torch.save({"X": Bomb(), "y": torch.zeros(3)}, tmp_path / "a.pt")
        with pytest.raises(DataError, match="refused"):
            load_path(tmp_path / "a.pt")
        np.savez(tmp_path / "a.npz", X=np.array([Bomb()], dtype=object), y=np.zeros(1))
        with pytest.raises(DataError, match=r"\.npz"):
            load_path(tmp_path / "a.npz")
        assert not ran.exists()

    @pytest.mark.parametrize(
        ("arrays", "target", "word"),
        [
            ({"X": X, "labels": y}, None, "it holds X, labels"),
            ({"X": X, "label": y}, "lable", "did you mean 'label'"),
            ({"X": X, "y": y[:3]}, None, "equally many"),
            ({"X": X[:0], "y": y[:0]}, None, "no example"),
            ({"X": np.array(["a"]), "y": y[:1]}, None, "dtype"),
        ],
    )
    def test_bad_archives_are_refused_in_one_line(self, tmp_path, arrays, target, word):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=word) as told:
            load_path(tmp_path / "a.npz", target=target)
        assert "\n" not in str(told.value)

    @pytest.mark.parametrize("name", ["a.npz", "a.pt"])
    def test_a_broken_file_is_refused_in_one_line(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"this is neither")
        with pytest.raises(DataError) as told:
            load_path(tmp_path / name)
        assert "\n" not in str(told.value)


def test_several_target_columns_are_refused_with_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("a,u,v\n" + "".join(f"{i},{i},{2 * i}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"must be the name of one column; of several .* give \(X, Y\)"):
        load_path(path, target=["u", "v"])  # type: ignore[arg-type]
