"""Predictions on new files: coded as the training file was, by the run's folder alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from downslope.core.errors import DataError, ModelError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run, load_run
from downslope.training.fit import fit
from downslope.training.predict import predict
from downslope.training.tasks import load_task


def table(path: Path, rows: int = 120, *, gaps: bool = False, numbers: bool = False) -> Path:
    draw = np.random.default_rng(0)
    lines = ["size,colour,kind"]
    for i in range(rows):
        size, red = draw.normal(), i % 3 == 0
        kind = f"{100 + 10 * size:.3f}" if numbers else ("big" if size > 0 else "small")
        lines.append(f"{'' if gaps and i % 10 == 3 else f'{size:.4f}'},{'red' if red else 'blue'},{kind}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(path: Path, folder: Path, target: str = "kind", epochs: int = 40, **edits: object) -> Run:
    task = load_task(str(path), target)
    problem = task.problem.edit(**edits) if edits else task.problem
    return fit(problem, task.recipe.edit(epochs=epochs, lr=0.01), folder=folder, progress=False)


NEW = "colour,ignored,size\nblue,x,1.5\nred,y,-1.25\nblue,z,2.0\n"


def test_new_rows_are_predicted_by_the_folder_alone(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv")
    run = trained(train, tmp_path / "run")
    new = tmp_path / "new.csv"
    new.write_text(NEW, encoding="utf-8")
    here = run.predict(new)
    train.unlink()
    there = load_run(tmp_path / "run").predict(new)
    assert there.values == here.values == ["big", "small", "big"]
    assert torch.equal(there.output, here.output)
    assert there.places == ["2", "3", "4"]
    inputs = torch.tensor([[1.5, 0.0], [-1.25, 1.0], [2.0, 0.0]])
    with torch.no_grad():
        wanted = run.model()(inputs)
    assert torch.equal(there.output, wanted)
    assert torch.allclose(there.probabilities, wanted.softmax(1))


def test_what_standardises_and_codes_is_kept_in_the_folder(tmp_path: Path) -> None:
    run = trained(table(tmp_path / "train.csv"), tmp_path / "run", epochs=1)
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["problem"]["data"]
    assert kept["classes"] == ["big", "small"]
    assert [each["name"] for each in kept["columns"]] == ["size", "colour"]
    assert kept["columns"][1]["levels"] == ["blue", "red"]
    x = run.the_problem().train_source.batch[0].double()  # type: ignore[attr-defined]
    state = load_run(tmp_path / "run").state("last")
    assert torch.allclose(state["_before.mean"].double(), x.mean(0), atol=1e-6)
    assert torch.allclose(state["_before.std"].double(), x.std(0, correction=0), atol=1e-6)


def test_numbers_come_in_the_units_of_the_target(tmp_path: Path) -> None:
    train = table(tmp_path / "train.csv", numbers=True)
    trained(train, tmp_path / "run", epochs=150)
    train.unlink()
    found = load_run(tmp_path / "run").predict([[1.0, 0.0], [-1.0, 1.0]])
    assert found.probabilities is None
    assert found.values == pytest.approx([110.0, 90.0], abs=2.0)


def test_gaps_are_filled_in_by_the_training_mean_where_the_model_does_so(tmp_path: Path) -> None:
    from downslope.core.edits import FillInputs

    train = table(tmp_path / "train.csv", gaps=True)
    task = load_task(str(train), "kind")
    with pytest.raises(DataError, match=r"train\.csv line 5, column 'size': nan.*--set missing=mean"):
        fit(task.problem, task.recipe, folder=False, progress=False)
    fit(task.problem.edit(FillInputs()), task.recipe.edit(epochs=2), folder=tmp_path / "run", progress=False)
    held = task.problem.train_source.batch[0][:, 0]  # type: ignore[attr-defined]
    mean = held[held.isfinite()].mean()
    new = tmp_path / "new.csv"
    new.write_text("size,colour\n,red\n1.0,blue\n", encoding="utf-8")
    train.unlink()
    run = load_run(tmp_path / "run")
    filled = run.predict(torch.tensor([[float(mean), 1.0], [1.0, 0.0]]))
    assert torch.allclose(run.predict(new).output, filled.output, atol=1e-6)


def test_a_gap_is_refused_where_the_model_fills_none(tmp_path: Path) -> None:
    run = trained(table(tmp_path / "train.csv"), tmp_path / "run", epochs=1)
    new = tmp_path / "new.csv"
    new.write_text("size,colour\n1.0,red\n,blue\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"new\.csv line 3, column 'size': is missing.*--set missing=mean"):
        run.predict(new)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("size\n1\n2\n", r"no column 'colour', which train\.csv has"),
        ("size,colour\n1,green\n", r"line 2, column 'colour': 'green' does not occur in train\.csv"),
        ("size,colour\nbig,red\n", r"line 2, column 'size': 'big' is no number"),
    ],
)
def test_a_file_of_other_columns_or_categories_is_refused(tmp_path: Path, content: str, said: str) -> None:
    run = trained(table(tmp_path / "train.csv"), tmp_path / "run", epochs=1)
    new = tmp_path / "new.csv"
    new.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        run.predict(new)


def test_inputs_of_another_shape_are_refused(tmp_path: Path) -> None:
    run = trained(table(tmp_path / "train.csv"), tmp_path / "run", epochs=1)
    with pytest.raises(DataError, match=r"examples of shape \(3,\), those of training have \(2,\)"):
        run.predict(torch.zeros(4, 3))
    with pytest.raises(DataError, match="no such file"):
        run.predict("nowhere.csv")


def test_a_run_on_arrays_predicts_arrays_and_archives_of_them(tmp_path: Path) -> None:
    x = torch.randn(40, 3)
    problem = Problem(model="mlp", objective="logistic", train=(x, (x[:, 0] > 0).float()))
    run = fit(problem, Recipe(epochs=60, lr=0.03), folder=False, progress=False)
    found = predict(run, x)
    assert found.values == [int(v) for v in (run.model()(x) > 0).flatten()]
    assert found.probabilities is not None
    assert torch.allclose(found.probabilities.sum(1), torch.ones(40))
    (tmp_path / "x.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(DataError, match="not trained on a file"):
        run.predict(tmp_path / "x.csv")
    np.savez(tmp_path / "new.npz", x=np.asarray(x[:7]))
    torch.testing.assert_close(predict(run, tmp_path / "new.npz").output, predict(run, x[:7]).output)


def test_archives_and_idx_files_are_read_as_in_training(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "train.npz", X=x, y=(x[:, 0] > 0).astype(np.int64))
    np.savez(tmp_path / "new.npz", X=x[:5])
    run = trained(tmp_path / "train.npz", tmp_path / "run", target=None)  # type: ignore[arg-type]
    assert torch.equal(run.predict(tmp_path / "new.npz").output, run.predict(x[:5]).output)
    pixels = np.random.default_rng(1).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", 12, 8, 8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
    labels = bytes([0, 0, 8, 1]) + struct.pack(">I", 12) + bytes([0, 1] * 6)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    run = trained(tmp_path / "train-images-idx3-ubyte", tmp_path / "idx", None, 1)  # type: ignore[arg-type]
    found = load_run(tmp_path / "idx").predict(tmp_path / "train-images-idx3-ubyte")
    assert torch.allclose(found.output, run.predict(pixels[:, None] / np.float32(255)).output, atol=1e-6)
    assert set(found.values) <= {"0", "1"}


def test_images_are_predicted_by_name_and_broken_ones_told(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(8):
            image.new("L", (8, 8), shade + i).save(tmp_path / "set" / name / f"{i}.png")
    trained(tmp_path / "set", tmp_path / "run", None, 30)  # type: ignore[arg-type]
    new = tmp_path / "new"
    new.mkdir()
    image.new("RGB", (30, 20), (230, 230, 230)).save(new / "a.png")
    image.new("L", (8, 8), 10).save(new / "b.png")
    (new / "c.png").write_bytes(b"no")
    found = load_run(tmp_path / "run").predict(new)
    assert dict(zip(found.places, found.values, strict=True)) == {"a.png": "light", "b.png": "dark"}
    assert found.told == ("1 left out, cannot be decoded: c.png (no image that Pillow knows)",)


def test_a_run_on_text_continues_one_in_its_own_characters(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("abcdefgh" * 400, encoding="utf-8")
    task = load_task(str(book))
    problem = task.problem.edit(**{"model.width": 32, "model.depth": 1, "model.heads": 2})
    fit(problem, task.recipe.edit(steps=150, lr=0.01, warmup=0), folder=tmp_path / "run", progress=False)
    book.unlink()
    run = load_run(tmp_path / "run")
    assert run.continued("cdef", 20, temperature=0.01) == ("abcdefgh" * 4)[2:26]
    assert run.continued("abc", 30, seed=1) == run.continued("abc", 30, seed=1)
    with pytest.raises(DataError, match="character 'Z' at 1 does not occur"):
        run.continued("aZ")
    with pytest.raises(DataError, match="the prompt is empty"):
        run.continued("")
    with pytest.raises(DataError, match="continues one"):
        run.predict("book.txt")


def test_weights_of_code_need_the_problem(tmp_path: Path) -> None:
    x = torch.randn(40, 3)
    made = lambda: torch.nn.Linear(3, 2)  # noqa: E731
    problem = Problem(model=made, objective="cross_entropy", train=(x, (x[:, 0] > 0).long()))
    fit(problem, Recipe(epochs=1), folder=tmp_path / "run", progress=False)
    with pytest.raises(ModelError, match="problem is not at hand"):
        load_run(tmp_path / "run").predict(x)
    assert len(load_run(tmp_path / "run", problem).predict(x).values) == 40
