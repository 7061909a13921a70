"""Weights from files of every kind: torch itself wrote what is read, and nothing is ever executed."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from downslope.core.errors import WeightsError
from downslope.core.state_files import read_state


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Whole(nn.Module):
    """A model that is pickled as an object."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def same(read: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    return read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_format_gives_the_same_weights_and_the_same_fingerprint(kind: str, tmp_path: Path) -> None:
    state = net().state_dict()
    path = tmp_path / "weights.bin"  # the name says nothing, the bytes do
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    found = read_state(path)
    assert same(found.tensors, dict(state))
    assert found.fingerprint == read_state(state).fingerprint
    assert found.place == str(path.resolve())


def test_other_values_have_another_fingerprint() -> None:
    state = net().state_dict()
    changed = {key: value.clone() for key, value in state.items()}
    changed["2.bias"][0] += 1e-6
    assert read_state(state).fingerprint != read_state(changed).fingerprint


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
        lambda s: {"epoch": 3, "best_acc1": torch.tensor(0.7), "state_dict": s},
        lambda s: {"checkpoint": {"state_dict": s}, "args": argparse.Namespace(lr=0.1)},
        lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}, "loss": np.float64(0.5)},
        lambda s: {"my_network": s, "scheduler": {"last": torch.ones(1)}},
    ],
)
def test_the_model_is_found_in_a_training_checkpoint(wrapped: Any, tmp_path: Path) -> None:
    state = net().state_dict()
    torch.save(wrapped(state), tmp_path / "checkpoint.pt")
    found = read_state(tmp_path / "checkpoint.pt")
    assert same(found.tensors, dict(state))
    assert found.told


def test_of_several_models_the_others_are_told_and_can_be_asked_for(tmp_path: Path) -> None:
    state = net().state_dict()
    averaged = {key: value + 1 for key, value in state.items()}
    torch.save({"model": state, "model_ema": averaged}, tmp_path / "two.pt")
    found = read_state(tmp_path / "two.pt")
    assert same(found.tensors, dict(state))
    assert "model_ema" in found.told[0]
    assert same(read_state(tmp_path / "two.pt", "model_ema").tensors, averaged)
    with pytest.raises(WeightsError, match="no part 'model_emma'; did you mean 'model_ema'"):
        read_state(tmp_path / "two.pt", "model_emma")


def test_shards_of_a_hub_folder_are_joined_and_a_lost_one_is_named(tmp_path: Path) -> None:
    state = net().state_dict()
    names = list(state)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, keys in parts.items():
        save_file({key: state[key] for key in keys}, tmp_path / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert same(read_state(tmp_path).tensors, dict(state))
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"b\.safetensors"):
        read_state(tmp_path)


def test_a_shard_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    index = {"weight_map": {"w": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(WeightsError, match="outside of the folder"):
        read_state(tmp_path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "beside weights"])
def test_code_in_a_pickle_is_refused_by_name_and_never_executed(kind: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "evil.pt"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"w": Trap(mark)}))
    else:
        held = {"w": Trap(mark)} | (dict(net().state_dict()) if kind == "beside weights" else {})
        torch.save(held, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(WeightsError, match=r"refused, it holds code \((posix|nt)\.system\)") as error:
        read_state(path)
    assert "\n" not in str(error.value)
    assert not mark.exists()
    os.system(f"touch {mark}")  # the trap is one: what it would have run leaves the mark
    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["w.pkl", "w.safetensors"])
def test_a_pickle_of_any_protocol_is_named_as_one_and_never_executed(
    protocol: int, name: str, tmp_path: Path
) -> None:
    mark, path = tmp_path / "executed", tmp_path / name
    lists = {key: value.tolist() for key, value in net().state_dict().items()}
    for held, said in (
        (Trap(mark), r"refused, it holds code \((posix|nt)\.system\)"),
        (lists, "refused, it is a pickle that torch.save did not write"),
        (dict(net().state_dict()), r"refused, it holds code .*torch\.storage\._load_from_bytes"),
    ):
        path.write_bytes(pickle.dumps(held, protocol=protocol))
        with pytest.raises(WeightsError, match=said) as error:
            read_state(path)
        assert "nothing was executed; save the weights alone: torch.save(" in str(error.value)
    assert not mark.exists()


def test_arrays_of_numpy_and_other_archives_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"0.weight": np.ones(3)})
    np.save(tmp_path / "w.npy", np.ones(3))
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    for name, said in (
        (
            "w.npz",
            r"arrays of NumPy \(\.npz\), no state dict; torch\.save\(\{name: torch\.as_",
        ),
        ("w.npy", "one array of NumPy"),
        ("w.zip", "a zip archive that torch.save did not write"),
    ):
        with pytest.raises(WeightsError, match=said) as error:
            read_state(tmp_path / name)
        assert "enforce" not in str(error.value)
    with np.load(tmp_path / "w.npz") as there:
        torch.save({name: torch.as_tensor(value) for name, value in there.items()}, tmp_path / "w.pt")
    assert read_state(tmp_path / "w.pt").tensors["0.weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_whole_model_object_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(Whole(), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"an object of a class \(.*Whole.*state_dict\(\)"):
        read_state(tmp_path / "model.pt")


def test_torchs_old_tar_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps({}, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    with pytest.raises(WeightsError, match="legacy tar format"):
        read_state(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_that_was_cut_is_told_in_one_line(kind: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "cut.pt"
    if kind == "safetensors":
        save_file(net().state_dict(), path)
    else:
        torch.save(net().state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(WeightsError, match="broken or cut short") as error:
        read_state(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"hello, world\n" * 9, "neither safetensors nor a file of torch.save"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x89HDF\r\n\x1a\n0000000000000000", "HDF5"),
    ],
)
def test_what_is_no_file_of_weights_is_called_what_it_is(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_state(path)


def test_a_list_a_number_and_an_absent_file_are_told(tmp_path: Path) -> None:
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    for name, said in (
        ("list.pt", "holds list"),
        ("number.pt", "it holds epoch"),
        ("absent.pt", "No such file"),
    ):
        with pytest.raises(WeightsError, match=said):
            read_state(tmp_path / name)
    with pytest.raises(WeightsError, match=r"folder without run\.json"):
        read_state(tmp_path)
    with pytest.raises(WeightsError, match="must be a path"):
        read_state(3)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(2)}, path)
    assert float(read_state(path).tensors["w"].sum()) == 0
    torch.save({"w": torch.ones(3)}, path)
    assert float(read_state(path).tensors["w"].sum()) == 3
