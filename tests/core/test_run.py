"""The Run's folder: read back whole, refused when broken, kept at its last good state on a full disk."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import downslope as ds
from downslope.core import weights
from downslope.core.errors import DownslopeError, ModelError, RunFolderError
from downslope.core.history import History, Probes
from downslope.training import checkpoint
from tests.training.problems import classification, regression, same_history, same_state

HOW = ds.Recipe(optimizer="adam", lr=0.02, batch_size=16, epochs=3)


@pytest.fixture
def run(tmp_path: Path) -> ds.Run:
    return ds.fit(regression(), HOW, folder=tmp_path / "run", progress=False, observe=0.5)


def folder(run: ds.Run) -> Path:
    assert run.folder is not None
    return run.folder


def test_a_loaded_run_is_the_run(run: ds.Run) -> None:
    loaded = ds.load_run(folder(run), regression())
    assert same_history(loaded, run)
    assert loaded.summary == run.summary
    assert loaded.recipe == run.recipe
    assert loaded.status == "done"
    assert json.dumps(loaded.facts) == json.dumps(run.facts)
    for statistic, probe in run.probes.items():
        again = loaded.probes[statistic]
        assert again.modules == probe.modules
        assert again.steps.tolist() == probe.steps.tolist()
        np.testing.assert_array_equal(again.values, probe.values)
    for which in ("best", "last"):
        assert same_state(loaded.model(which).state_dict(), run.model(which).state_dict())
    assert not loaded.model().training
    assert {"torch", "downslope", "threads"} <= set(loaded.environment)


def test_the_problem_is_found_again_from_its_task(tmp_path: Path) -> None:
    task = tmp_path / "task_of_run.py"
    task.write_text(
        "from tests.training.problems import regression\n\n\ndef problem():\n    return regression()\n",
        encoding="utf-8",
    )
    from downslope.training.tasks import load_task

    problem = load_task(str(task)).problem.edit(ds.edits.StandardiseInputs())
    run = ds.fit(problem, HOW, folder=tmp_path / "run", progress=False)
    assert same_state(ds.load_run(tmp_path / "run").model().state_dict(), run.model().state_dict())


def test_a_problem_that_cannot_be_found_is_asked_for(run: ds.Run) -> None:
    with pytest.raises(ModelError, match="problem="):
        ds.load_run(folder(run)).model()


def test_a_last_line_that_was_cut_off_is_left_out(run: ds.Run) -> None:
    lines = folder(run) / "history.jsonl"
    whole = lines.read_text(encoding="utf-8")
    before = ds.load_run(folder(run))
    last = whole.rstrip("\n").rpartition("\n")[2]
    for cut in (1, len(last) // 2, len(last) - 1):
        lines.write_text(whole + last[:cut], encoding="utf-8")
        assert same_history(ds.load_run(folder(run)), before)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("run.json", None, "no run there"),
        ("run.json", "{", "cannot be read"),
        ("run.json", "[]", "holds list"),
        ("run.json", "\udcff", "cannot be read"),
        ("run.json", '{"format": 99}', "format 99, this version reads 1"),
        ("run.json", "{}", "format None"),
        ("recipe.toml", "lrr = 1", "did you mean 'lr'"),
        ("history.jsonl", '{"kind": "col\n{"kind": "fact", "name": "a", "value": 1}\n', "line 1 is broken"),
        ("history.jsonl", '{"kind": "columns"}\n', "no history of a run"),
        ("history.jsonl", "[1]\n", "no history of a run"),
        ("history.jsonl", "\udcff\n", "cannot be read"),
        ("environment.json", "x", "cannot be read"),
    ],
)
def test_a_broken_folder_is_told_in_one_line(run: ds.Run, name: str, content: str | None, part: str) -> None:
    path = folder(run) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError) as told:
        ds.load_run(folder(run))
    assert part in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_a_broken_checkpoint_is_told(run: ds.Run, content: bytes) -> None:
    (folder(run) / "checkpoints" / "best.safetensors").write_bytes(content)
    with pytest.raises(RunFolderError, match="missing or broken"):
        ds.load_run(folder(run), regression()).model()


def test_a_model_that_is_not_that_of_the_run_is_refused(run: ds.Run) -> None:
    with pytest.raises(DownslopeError) as told:
        ds.load_run(folder(run), regression(model=lambda: nn.Linear(4, 1))).model()
    assert "\n" not in str(told.value)


def test_a_run_kept_in_memory_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOWNSLOPE_RUNS", str(tmp_path / "runs"))
    ds.fit(regression(), HOW, folder=False, progress=False)
    assert not (tmp_path / "runs").exists()
    named = ds.fit(regression(name="my problem/1"), HOW, progress=False)
    assert folder(named).parent == tmp_path / "runs"
    assert "my-problem-1" in folder(named).name


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path: Path) -> None:
    run = ds.fit(classification(model=Tied), HOW, folder=tmp_path / "run", progress=False)
    for name in ("last", "best", "resume"):
        with safe_open(tmp_path / "run" / "checkpoints" / f"{name}.safetensors", framework="pt") as opened:
            kept = [key for key in opened.keys() if key.endswith(("first.weight", "second.weight"))]  # noqa: SIM118
        assert len([key for key in kept if not key.startswith("optimizer")]) == 1
    model = ds.load_run(tmp_path / "run", classification(model=Tied)).model("last")
    assert model.first.weight is model.second.weight
    assert same_state(model.state_dict(), run.model("last").state_dict())


def test_tensors_by_name_come_back_as_they_were(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    state = {
        "a": base, "tied": base, "transposed": base.T, "row": base[0], "empty": torch.empty(0, 3),
        "half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(3), "text": "no tensor",
    }  # fmt: skip
    weights.save_tensors(tmp_path / "x.safetensors", state, {"step": 3})
    again, notes = weights.load_tensors(tmp_path / "x.safetensors")
    assert notes == {"step": 3}
    assert set(again) == set(state) - {"text"}
    for name, tensor in again.items():
        assert torch.equal(tensor, state[name])
        assert tensor.dtype == state[name].dtype
    assert again["tied"] is again["a"]


@pytest.mark.parametrize("where", ["a", "half", "notes"])
def test_a_byte_that_changed_on_the_disk_is_told_with_its_tensor(where: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    state = {
        "a": torch.arange(6.0),
        "half": torch.full((3,), 1.5, dtype=torch.bfloat16),
        "none": torch.empty(0),
    }
    weights.save_tensors(path, state, {"step": 31})
    data = bytearray(path.read_bytes())
    places = {"a": b"\x00\x00\x80\x40", "half": b"\xc0\x3f\xc0\x3f", "notes": b"31"}
    data[data.index(places[where])] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match="its bytes changed since it was written") as caught:
        weights.load_tensors(path)
    assert "notes" in str(caught.value) if where == "notes" else f"tensor {where!r}" in str(caught.value)


def test_a_file_of_others_has_no_checksums_and_is_read_as_it_is(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "x.safetensors")
    assert weights.load_tensors(tmp_path / "x.safetensors")[0]["a"].tolist() == [1.0, 1.0]


def test_copies_are_new_and_tied_ones_stay_tied() -> None:
    base = torch.arange(4.0).reshape(2, 2)
    made = weights.copied({"a": base, "tied": base, "transposed": base.T, "n": 3})
    base.zero_()
    assert made["a"] is made["tied"]
    assert made["a"].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert made["transposed"].tolist() == [[0.0, 2.0], [1.0, 3.0]]


def full(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    weights.save_tensors(path, {"a": torch.ones(2)})

    def partly(state: Any, file: Path, metadata: Any) -> None:
        Path(file).write_bytes(b"half")
        full()

    monkeypatch.setattr(weights, "save_file", partly)
    with pytest.raises(RunFolderError, match="No space left"):
        weights.save_tensors(path, {"a": torch.zeros(2)})
    assert torch.equal(weights.load_tensors(path)[0]["a"], torch.ones(2))
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("what", ["checkpoint", "history"])
def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_in_memory(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint.SaveTimes, "due", lambda _: True)
    undisturbed = ds.fit(regression(), HOW, folder=False, progress=False, observe=0.0)
    real, calls = weights.save_file, {"n": 0}

    def filling(*args: Any, **kwargs: Any) -> None:
        calls["n"] += 1
        if calls["n"] > 9:
            full()
        real(*args, **kwargs)

    def filled(state: Any) -> None:
        if state.step == 0 and what == "history" and state.run.folder is not None:
            recorder: Any = next(each for each in watched if each.run is state.run)
            recorder._file.close()
            recorder._file = type("Full", (), {"write": full, "flush": full, "close": full})()

    from downslope.training import recorder as module

    watched: list[Any] = []
    opened = module.Recorder.__init__

    def noted(self: Any, run: Any) -> None:
        opened(self, run)
        watched.append(self)

    monkeypatch.setattr(module.Recorder, "__init__", noted)
    if what == "checkpoint":
        monkeypatch.setattr(weights, "save_file", filling)
    with caplog.at_level(logging.WARNING, "downslope"):
        run = ds.fit(regression(), HOW, folder=tmp_path / "run", progress=False, observe=0.0, on_probe=filled)
    assert caplog.text.count("No space left on device") == 1
    assert run.status == "done"
    assert same_history(run, undisturbed)
    assert same_state(run.model().state_dict(), undisturbed.model().state_dict())
    on_disk = ds.load_run(tmp_path / "run", regression())
    if what == "history":  # the disk had room again when the first checkpoint was due: all is there
        assert "can be written again, nothing is missing" in caplog.text
        assert "unwritten" not in run.facts
        assert on_disk.status == "done"
        assert same_history(on_disk, undisturbed)
        assert same_state(on_disk.model().state_dict(), undisturbed.model().state_dict())
    else:
        assert "No space left on device" in run.facts["unwritten"]
        assert on_disk.status == "interrupted"
        assert on_disk.facts["killed"]["weights"] == ["best", "last"]
        monkeypatch.setattr(weights, "save_file", real)
        from downslope.training.fit import resume

        again = resume(tmp_path / "run", regression(), progress=False)
        assert same_history(again, undisturbed)
        assert same_state(again.model().state_dict(), undisturbed.model().state_dict())


# -- what was recorded -------------------------------------------------------------------------------------


def test_columns_are_aligned_by_step_with_gaps_where_nothing_was_recorded() -> None:
    history = History()
    history.log(0, valid_loss=3.0)
    history.extend("train_loss", [1, 2, 3], [1.0, 0.5, 0.25])
    history.log(2, valid_loss=2.0)
    assert history["step"].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(history["train_loss"], [np.nan, 1.0, 0.5, 0.25])
    np.testing.assert_array_equal(history["valid_loss"], [3.0, np.nan, 2.0, np.nan])
    assert history.series("valid_loss").steps.tolist() == [0, 2]
    assert history.series("nothing").values.tolist() == []
    assert history.last("nothing") is None
    with pytest.raises(KeyError, match="recorded: step"):
        history["nothing"]
    assert set(dict(history)) == {"step", "train_loss", "valid_loss"}


def test_a_step_said_twice_keeps_the_later_value() -> None:
    history = History()
    history.extend("a", [1, 2, 2], [1.0, 2.0, 3.0])
    assert history["a"].tolist() == [1.0, 3.0]


def test_forgetting_goes_back_to_a_step() -> None:
    history, probes = History(), Probes()
    history.extend("a", [1, 2, 3], [1.0, 2.0, 3.0])
    for step in (1, 3):
        probes.log(step, "s", {"m": float(step)})
    history.truncate(2)
    probes.truncate(2)
    assert history["a"].tolist() == [1.0, 2.0]
    assert probes["s"].steps.tolist() == [1]


def test_probes_keep_the_order_of_modules_and_mark_what_is_missing() -> None:
    probes = Probes()
    probes.log(5, "s", {"b": 1.0, "a": 2.0})
    probes.log(2, "s", {"a": 3.0})
    assert probes["s"].modules == ("b", "a")
    assert probes["s"].steps.tolist() == [2, 5]
    np.testing.assert_array_equal(probes["s"].values, [[np.nan, 3.0], [1.0, 2.0]])
    np.testing.assert_array_equal(probes["s"].of("a"), [3.0, 2.0])
