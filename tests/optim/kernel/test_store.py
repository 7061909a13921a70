"""Object code on the disk: built once, loaded without numba, never trusted blindly."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys

import pytest
import torch
from torch import nn

from downslope import optim
from downslope.core.errors import RecipeError
from downslope.optim.kernel import store
from downslope.optim.kernel.emit import emit
from downslope.optim.kernel.trace import traced

STEP = """
import sys, torch
from downslope import optim
from downslope.core.errors import RecipeError
p = torch.nn.Parameter(torch.ones(5))
optimizer = optim.RMSprop([p], lr=0.5, backend="kernel")
p.grad = torch.ones(5)
optimizer.step()
print(p.tolist(), [name for name in ("numba", "sympy") if name in sys.modules])
"""


DEFAULTS = {"lr": 0.1, "alpha": 0.9, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False}


def source(**settings):
    programs = traced(optim.RMSprop.compose(DEFAULTS | settings).active())
    return emit(programs, ["f4"] * (1 + programs.states), threads=store.threads.team() is not None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder of the test's own, and nothing in the memory of the process."""
    monkeypatch.setenv("DOWNSLOPE_CACHE", str(tmp_path))
    store.kernel_of.cache_clear()
    yield tmp_path / "kernels"
    store.kernel_of.cache_clear()


def built(monkeypatch):
    """What is built from here on."""
    seen = []
    original = store.build.build
    monkeypatch.setattr(store.build, "build", lambda text, flags: seen.append(text) or original(text, flags))
    return seen


def again(text):
    """The kernel as another process would get it."""
    store.kernel_of.cache_clear()
    return store.kernel_of(text)


def test_another_process_loads_what_one_has_built_without_numba(folder):
    env = os.environ | {"DOWNSLOPE_CACHE": str(folder.parent)}
    run, way = [sys.executable, "-c", STEP], {"capture_output": True, "text": True, "env": env}
    said = [subprocess.run(run, check=True, **way).stdout for _ in range(2)]
    assert said[0].split("] [")[0] == said[1].split("] [")[0]
    assert [each.split("] [")[1].strip() for each in said] == ["'numba']", "]"]


def test_a_kernel_is_built_once_and_kept_for_the_user_alone(folder, monkeypatch):
    seen = built(monkeypatch)
    store.kernel_of(source())
    again(source())
    assert len(seen) == 1
    (path,) = folder.iterdir()
    assert path.suffix == ".o"
    if os.name == "posix":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("harm", [lambda b: b[:-9], lambda b: b"", lambda b: b"\n", lambda b: b"[]\n" + b,
                                  lambda b: b[:-1] + bytes([b[-1] ^ 1])])  # fmt: skip
def test_a_broken_file_is_built_anew_and_said(folder, monkeypatch, caplog, harm):
    store.kernel_of(source())
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    seen = built(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="downslope"):
        again(source())
    assert len(seen) == 1
    assert "is broken or of another version: it is built anew" in caplog.text
    again(source())
    assert len(seen) == 1  # the file is whole again


def test_a_file_of_another_kernel_is_not_run(folder, monkeypatch, caplog):
    store.kernel_of(source())
    (path,) = folder.iterdir()
    other = folder / f"{store._key(source(momentum=0.5))}.o"
    other.write_bytes(path.read_bytes())
    seen = built(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="downslope"):
        store.kernel_of(source(momentum=0.5))
    assert len(seen) == 1
    assert "is built anew" in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_what_others_could_write_is_not_run(folder, monkeypatch, caplog):
    store.kernel_of(source())
    folder.chmod(0o777)
    seen = built(monkeypatch)
    with caplog.at_level(logging.WARNING, logger="downslope"):
        again(source())
    assert len(seen) == 1
    assert "could be written by others" in caplog.text
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_folder_a_kernel_lives_in_the_process_and_it_is_said(tmp_path, folder, monkeypatch, caplog):
    (tmp_path / "kernels").write_text("a file is in the way")
    with caplog.at_level(logging.WARNING, logger="downslope"):
        store.kernel_of(source())
    assert "kernels are built anew in every process" in caplog.text


@pytest.mark.parametrize("name", ["_key", "get_host_cpu_name"])
def test_the_key_tells_texts_and_processors_apart(monkeypatch, name):
    import llvmlite.binding as llvm

    before = store._key(source())
    if name == "get_host_cpu_name":
        monkeypatch.setattr(llvm, name, lambda: "another")
        assert store._key(source()) != before
    else:
        assert store._key(source(momentum=0.5)) != before
        assert store._key(source(lr=0.7)) == before


@pytest.fixture
def without_numba(monkeypatch):
    """As on a machine where the extra is not installed."""
    real = store.importlib.util.find_spec
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda n: None if n == "numba" else real(n))
    store.missing.cache_clear()
    yield
    store.missing.cache_clear()


def test_without_numba_torch_steps_and_the_plan_names_the_extra(without_numba):
    p = nn.Parameter(torch.ones(100_000))
    optimizer = optim.RMSprop([p], lr=0.5)
    (row,) = optimizer.plan().rows
    assert row.backend == "eager"
    assert "pip install 'downslope[kernels]'" in row.reason
    p.grad = torch.ones_like(p)
    optimizer.step()
    with pytest.raises(RecipeError, match=r"^backend=.kernel.: numba is not"):
        optim.RMSprop([p], backend="kernel")


def test_where_numba_fails_torch_steps_and_it_is_said(folder, monkeypatch, caplog):
    def broken(text, flags):
        raise ImportError("Numba needs NumPy 2.2 or less. Got NumPy 2.5.")

    monkeypatch.setattr(store.build, "build", broken)
    p = nn.Parameter(torch.ones(100_000))
    try:
        optimizer = optim.RMSprop([p], lr=0.5)
        assert optimizer.plan().rows[0].backend == "kernel"
        p.grad = torch.ones_like(p)
        with caplog.at_level(logging.WARNING, logger="downslope"):
            optimizer.step()
            optimizer.step()
        assert caplog.text.count("(ImportError: Numba needs NumPy 2.2 or less") == 1
        assert "torch's operations step instead" in caplog.text
        twin = nn.Parameter(torch.ones(100_000))
        theirs = torch.optim.RMSprop([twin], lr=0.5)
        twin.grad = torch.ones_like(twin)
        theirs.step()
        theirs.step()
        torch.testing.assert_close(p, twin)
        assert "NumPy 2.2 or less" in optim.RMSprop([p]).plan().rows[0].reason
        with pytest.raises(RecipeError, match=r"^backend='kernel': numba cannot make kernels here"):
            optim.RMSprop([p], backend="kernel")
    finally:
        store._FAILED.clear()
        store.missing.cache_clear()
