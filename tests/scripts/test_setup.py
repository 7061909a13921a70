from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def find_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The script with nothing on PATH but `folder`, a shell and head."""
    for tool in ("head",):
        if not (folder / tool).exists():
            (folder / tool).symlink_to(f"/usr/bin/{tool}")
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "find_python.sh"), *arguments],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def works(folder: Path, name: str) -> Path:
    return executable(folder / name, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')


def fails(folder: Path, name: str) -> Path:
    return executable(folder / name, f"#!/bin/sh\necho '{name}: command not found' >&2\nexit 127\n")


def test_plain_python3_is_taken_if_it_will_do(tmp_path: Path) -> None:
    for name in ("python3.13", "python3"):
        works(tmp_path, name)
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3")


def test_a_shim_that_exists_and_fails_is_passed_over(tmp_path: Path) -> None:
    fails(tmp_path, "python3")
    fails(tmp_path, "python3.13")
    works(tmp_path, "python3.12")
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.12")


def test_an_interpreter_that_is_too_old_is_refused_in_one_line(tmp_path: Path) -> None:
    old = executable(
        tmp_path / "old", '#!/bin/sh\n[ "$1" = --version ] && { echo Python 3.8.18; exit 0; }\nexit 1\n'
    )
    done = find_python(tmp_path, str(old))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"PYTHON={old} cannot be used (Python 3.8.18): Python 3.11 or later is needed"
    ]


def test_a_machine_without_python_is_told_what_to_do_in_one_line(tmp_path: Path) -> None:
    done = find_python(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "make PYTHON=" in done.stderr


def test_a_lent_torch_replaces_its_pin_and_frees_the_pins_of_what_it_requires(setup: ModuleType) -> None:
    lent = setup.Torch("2.6.0+cu124", Path("/somewhere"))
    pins = "# text\nnumpy==2.4.6\nsympy==1.14.0\ntorch==2.13.0\ntyping_extensions==4.16.0\n"
    around = setup.constraints_around(pins, lent, {"sympy", "typing-extensions"})
    assert around == "# text\nnumpy==2.4.6\ntorch==2.6.0+cu124\n"


def test_releases_are_compared_as_numbers(setup: ModuleType) -> None:
    def release(version: str) -> tuple[int, ...]:
        return setup.Torch(version, Path()).release

    assert release("2.10.0+cpu") == (2, 10, 0)
    assert release("2.10.0") > setup.OLDEST_TORCH > release("2.5.1")
    assert release("2.6.0a0+gitabc123") >= setup.OLDEST_TORCH


def test_what_torch_requires_is_read_from_its_metadata(setup: ModuleType, tmp_path: Path) -> None:
    info = tmp_path / "torch-2.6.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 2.6.0\nRequires-Dist: sympy==1.13.1\n"
        "Requires-Dist: typing-extensions>=4.10.0\nRequires-Dist: optree>=0.13.0; extra == 'x'\n".replace(
            "extra == 'x'", 'extra == "x"'
        )
    )
    assert setup.requirements_of_torch(tmp_path) == {"sympy", "typing-extensions"}


def test_the_torch_of_an_interpreter_is_told_by_that_interpreter(setup: ModuleType, tmp_path: Path) -> None:
    python = executable(
        tmp_path / "python", '#!/bin/sh\necho a warning\necho \'["2.7.1+cpu", "/lent/site-packages"]\'\n'
    )
    assert setup.torch_of(python) == setup.Torch("2.7.1+cpu", Path("/lent/site-packages"))
    assert setup.torch_of(fails(tmp_path, "broken")) is None
    assert setup.torch_of(tmp_path / "absent") is None


def test_the_price_and_the_way_to_the_small_build_are_told(setup: ModuleType) -> None:
    said = setup.price("linux")
    for part in ("3 GB", "200 MB", "PIP_ARGS", "PYTHON="):
        assert part in said
    assert "CUDA" not in setup.price("darwin")


def test_a_set_up_cut_short_leaves_no_stamp_and_is_begun_afresh(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "venv"
    created: list[Path] = []

    def create(folder: Path, lent: object) -> None:
        assert lent is None
        created.append(folder)
        folder.mkdir(exist_ok=True)

    def interrupted(*_: object, apart: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setup, "torch_of", lambda _: None)
    monkeypatch.setattr(setup, "create", create)
    monkeypatch.setattr(setup, "install", interrupted)
    assert setup.main([str(folder)]) == 1
    assert (folder / setup.UNFINISHED).exists()
    assert not (folder / setup.STAMP).exists()
    assert not setup.is_usable(folder)

    monkeypatch.setattr(setup, "install", lambda *_, apart: None)
    assert setup.main([str(folder)]) == 0
    assert (folder / setup.STAMP).exists()
    assert not (folder / setup.UNFINISHED).exists()
    assert created == [folder, folder]


def test_a_failing_pip_is_one_line(
    setup: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, apart: bool) -> None:
        raise subprocess.CalledProcessError(1, ["pip", "install"])

    monkeypatch.setattr(setup, "torch_of", lambda _: None)
    monkeypatch.setattr(setup, "create", lambda folder, _: folder.mkdir())
    monkeypatch.setattr(setup, "install", fail)
    assert setup.main([str(tmp_path / "venv")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "set-up stopped: exit 1 of pip install; see above, then call make again."
    ]


def test_a_new_environment_sees_the_torch_of_another_one(setup: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    lent = setup.torch_of(sys.executable)
    assert lent is not None
    setup.create(tmp_path / "venv", lent)
    found = setup.torch_of(tmp_path / "venv" / "bin" / "python")
    assert found is not None
    assert found.version == lent.version
    assert not found.is_within(tmp_path)
    assert lent.is_within(lent.folder)


def test_every_requirement_is_pinned() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        line for extra in ("kernels", "ray", "dev") for line in project["optional-dependencies"][extra]
    ]
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in {"#", ""}]
    names = {line.partition("==")[0].lower().replace("_", "-") for line in pins}
    assert all("==" in line for line in pins)
    for line in wanted:
        name = line.split(">")[0].split("[")[0].lower()
        assert name in names, f"{line} has no pin"
    assert "torch==2.13.0" in pins


@pytest.mark.skipif(not os.access("/usr/bin/make", os.X_OK), reason="needs make")
def test_make_lists_its_targets() -> None:
    done = subprocess.run(["/usr/bin/make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("venv", "demo", "test", "test-ray", "lint", "bench", "clean"):
        assert f"make {target}" in done.stdout
