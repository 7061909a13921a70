"""Make `.venv` ready: `python scripts/setup.py .venv [pip arguments]`, with the standard library only.

An interpreter that can already import a recent enough torch lends it, and pip loads no second one. A
set-up that was cut short leaves `.unfinished` behind and the next call starts afresh; a complete one
leaves the stamp on which the Makefile depends.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_TORCH = (2, 6)
STAMP = ".downslope-ready"
UNFINISHED = ".unfinished"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

_PROBE = """
import json, torch, os
print(json.dumps([torch.__version__, os.path.dirname(os.path.dirname(os.path.abspath(torch.__file__)))]))
"""


@dataclass(frozen=True)
class Torch:
    """A torch that some interpreter can import."""

    version: str
    """With the local part, such as ``2.13.0+cpu``."""
    folder: Path
    """The site-packages that holds it."""

    @property
    def release(self) -> tuple[int, ...]:
        """The numbers before any suffix: ``(2, 13, 0)``."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version.split("+")[0])[:3])

    def is_within(self, folder: Path) -> bool:
        """True if it is installed in `folder` itself, not lent by another environment."""
        return self.folder.resolve().is_relative_to(folder.resolve())


def torch_of(python: str | Path) -> Torch | None:
    """The torch that `python` imports; None if there is none, or if importing it fails."""
    try:
        done = subprocess.run([str(python), "-c", _PROBE], capture_output=True, text=True, check=True)
        version, folder = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None
    return Torch(version, Path(folder))


def normal(name: str) -> str:
    """A distribution's name as indices compare it: lower case, runs of ``-_.`` as one ``-``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of_torch(folder: Path) -> set[str]:
    """Names of what the torch in `folder` itself requires, without its extras."""
    found = importlib.metadata.distributions(name="torch", path=[str(folder)])
    lines = [line for each in found for line in (each.requires or []) if "extra ==" not in line]
    return {normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines}


def constraints_around(pins: str, lent: Torch, required: set[str]) -> str:
    """`pins` with torch held at the `lent` version, and without pins on what that torch itself requires.

    A torch of another release may need other versions of its own requirements than the pinned one does.
    """
    kept = [
        line
        for line in pins.splitlines()
        if line.startswith("#") or normal(line.split("==")[0]) not in required | {"torch"}
    ]
    return "\n".join([*kept, f"torch=={lent.version}", ""])


def price(platform: str) -> str:
    """What pip is about to load, and how to get the small build of torch, as told before it starts."""
    if platform != "linux":
        return "pip will load torch (about 100 MB) and about 300 MB of other packages."
    return (
        "pip will load torch and about 300 MB of other packages. On Linux the usual build of torch brings\n"
        "CUDA, 3 GB in all; the CPU build is about 200 MB, and enough for everything that needs no GPU:\n"
        f'  make venv PIP_ARGS="--extra-index-url {CPU_INDEX}"\n'
        "A torch that you already have is used instead if you name its interpreter:\n"
        "  make venv PYTHON=/path/to/python"
    )


def is_usable(folder: Path) -> bool:
    """True if `folder` is a complete environment of the running Python's version."""
    python = folder / "bin" / "python"
    if not python.exists() or (folder / UNFINISHED).exists():
        return False
    code = "import sys, pip; print(sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == str(sys.version_info[:2])


def create(folder: Path, lent: Torch | None) -> None:
    """A new environment at `folder`, which sees the `lent` torch if there is one.

    The packages of a virtual environment are not those of its base interpreter, so what
    ``--system-site-packages`` does not reach is named in a ``.pth`` file.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / UNFINISHED).touch()
    venv.create(folder, system_site_packages=lent is not None, with_pip=True, symlinks=True)
    if lent is not None and torch_of(folder / "bin" / "python") is None:
        site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        (site / "lent_torch.pth").write_text(f"{lent.folder}\n", encoding="utf-8")


def install(folder: Path, constraints: Path, arguments: list[str], *, apart: bool) -> None:
    """Put the package (editable) with its extras for work on it into `folder`, every version as pinned.

    `apart`: the environment sees packages of another one, whose commands would not be in its `bin`; so
    every pinned package is first installed in `folder` itself, whatever the other one holds. Ray is large:
    `make test-ray` brings it where it is wanted.
    """
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", *arguments]
    if apart:
        pinned = folder / "requirements.txt"
        lines = constraints.read_text(encoding="utf-8").splitlines()
        pinned.write_text(
            "\n".join(line for line in lines if line.split("==")[0] not in ("torch", "ray")), encoding="utf-8"
        )
        own = [*pip, "--ignore-installed", "--no-deps", "--requirement", str(pinned)]
        subprocess.run(own, check=True, cwd=ROOT)
    pip += ["--constraint", str(constraints)]
    subprocess.run([*pip, "hatchling", "editables"], check=True, cwd=ROOT)
    subprocess.run([*pip, "--no-build-isolation", "--editable", ".[dev,kernels]"], check=True, cwd=ROOT)


def set_up(folder: Path, arguments: list[str]) -> None:
    """All of it: the environment, the decision on torch, the packages, the stamp."""
    python = folder / "bin" / "python"
    if not is_usable(folder):
        lent = torch_of(sys.executable)
        if lent is not None and lent.release < OLDEST_TORCH:
            print(f"torch {lent.version} in {lent.folder} is older than 2.6 and is not used.")
            lent = None
        print(f"Making {folder} with {sys.executable} ({sys.version.split()[0]}).", flush=True)
        create(folder, lent)
    (folder / UNFINISHED).touch()
    (folder / STAMP).unlink(missing_ok=True)
    found = torch_of(python)
    constraints = ROOT / "constraints.txt"
    lends = found is not None and not found.is_within(folder)
    if found is None:
        print(price(sys.platform), flush=True)
    elif lends:
        print(f"torch {found.version} in {found.folder} is used as it is; pip loads no other.", flush=True)
        around = constraints_around(
            constraints.read_text(encoding="utf-8"), found, requirements_of_torch(found.folder)
        )
        constraints = folder / "constraints.txt"
        constraints.write_text(around, encoding="utf-8")
    install(folder, constraints, arguments, apart=lends)
    (folder / UNFINISHED).unlink()
    (folder / STAMP).touch()


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 not, with one line that says why."""
    folder = ROOT / arguments[0]
    try:
        set_up(folder, arguments[1:])
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        if "ensurepip" in command:
            print(
                f"{sys.executable} cannot make virtual environments: install its venv package, "
                "or name another interpreter: make PYTHON=/path/to/python3.13",
                file=sys.stderr,
            )
        else:
            print(
                f"set-up stopped: exit {error.returncode} of {command}; see above, then call make again.",
                file=sys.stderr,
            )
        return 1
    except KeyboardInterrupt:
        print("set-up interrupted; the next call starts it again.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"set-up stopped: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
