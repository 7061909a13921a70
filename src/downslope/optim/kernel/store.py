"""Object code on the disk, so that a kernel is built once on a machine and loaded in milliseconds ever after.

    $DOWNSLOPE_CACHE/kernels/<key>.o     one line of JSON, then the code

The key covers the text of the loop, how it is built, the versions of numba and llvmlite, and the CPU's name
and features. Loading needs llvmlite alone, not numba. As the files are run, the folder is the user's own and
closed to others; a file that is broken, or a folder that others could write, is said, and what was
in it is built anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import stat
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from downslope.core.cache import cache_folder
from downslope.core.errors import RecipeError
from downslope.optim.kernel import build, threads
from downslope.optim.rounding import FACTORS, ODD

__all__ = ["has_half", "kernel_of", "missing"]

_log = logging.getLogger("downslope")

FORMAT = 1
"""Of the files."""


@functools.cache
def missing() -> str | None:
    """What kernels need and this Python has not, with what to do; None where nothing is missing."""
    if _FAILED:
        return _FAILED[0]
    for name in ("numba", "llvmlite"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed, which makes kernels: pip install 'downslope[kernels]'"
    return None


@functools.cache
def has_half() -> bool:
    """Whether the CPU itself turns float16 into float32; else LLVM would call functions that are not here."""
    import llvmlite.binding as llvm  # pyright: ignore[reportMissingTypeStubs]

    features: dict[str, bool] = cast("Any", llvm).get_host_cpu_features()
    return platform.machine() in ("aarch64", "arm64") or features.get("f16c", False)


@functools.cache
def kernel_of(source: str, flags: frozenset[str] = build.FLAGS) -> threads.Kernel:
    """The kernel of `source`: from this process, from the disk, or built now.

    Args:
        source: the text of the loop.
        flags: LLVM's licences with numbers.

    Raises:
        RecipeError: numba cannot be used here.
    """
    try:
        return _made(source, flags)
    except Exception as error:  # numba and LLVM raise what they like, and torch's operations can step instead
        cause = str(error).strip().partition("\n")[0]
        _FAILED[:] = [f"numba cannot make kernels here ({type(error).__name__}: {cause})"]
        missing.cache_clear()
        raise RecipeError(_FAILED[0]) from error


_FAILED: list[str] = []
"""Why no kernel can be made in this process, once one could not."""


def _made(source: str, flags: frozenset[str]) -> threads.Kernel:
    _prepare()
    key = _key(source, flags)
    folder = _folder()
    if folder is not None:
        found = _read(folder / f"{key}.o", key)
        if found is not None:
            return _load(found)
    start = time.perf_counter()
    made = build.build(source, flags)
    _log.debug("kernel %s built in %.2f s", key, time.perf_counter() - start)
    if folder is not None:
        _write(folder / f"{key}.o", key, made)
    return _load(made)


def _key(source: str, flags: frozenset[str] = build.FLAGS) -> str:
    import llvmlite.binding as llvm  # pyright: ignore[reportMissingTypeStubs]

    binding: Any = llvm
    parts = [
        str(FORMAT),
        source,
        *sorted(flags),
        repr((ODD, FACTORS)),
        Path(build.__file__).read_text(encoding="utf-8"),
        importlib.metadata.version("numba"),
        importlib.metadata.version("llvmlite"),
        platform.machine(),
        platform.system(),
        binding.get_host_cpu_name(),
        binding.get_host_cpu_features().flatten(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _folder() -> Path | None:
    """Where the files lie, made for the user alone; None, and said, where that cannot be."""
    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            _log.warning("%s belongs to another user: kernels are built anew in every process", folder)
            return None
        if os.name == "posix" and stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
            if stat.S_IMODE(status.st_mode) & 0o022:
                _log.warning("%s could be written by others: what was in it is built anew", folder)
                for path in folder.glob("*.o"):
                    path.unlink()
    except OSError as error:
        _log.warning("%s cannot be used (%s): kernels are built anew in every process", folder, error)
        return None
    return folder


def _read(path: Path, key: str) -> build.Object | None:
    try:
        head, _, code = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("kernel %s cannot be read (%s): it is built anew", path, error)
        return None
    try:
        said = cast("dict[str, Any]", json.loads(head))
        if said["key"] == key and said["sha256"] == hashlib.sha256(code).hexdigest():
            return build.Object(code, str(said["entry"]), tuple(said["needs"]))
    except (ValueError, KeyError, TypeError):
        pass
    _log.warning("kernel %s is broken or of another version: it is built anew", path)
    return None


def _write(path: Path, key: str, made: build.Object) -> None:
    head = {
        "key": key,
        "entry": made.entry,
        "needs": made.needs,
        "sha256": hashlib.sha256(made.code).hexdigest(),
    }
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(head).encode() + b"\n" + made.code)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        _log.warning("kernel %s cannot be kept (%s)", path, error)


@functools.cache
def _prepare() -> None:
    """LLVM made ready, and told of OpenMP's functions, which it must find at any link."""
    import llvmlite.binding as llvm  # pyright: ignore[reportMissingTypeStubs]

    binding: Any = llvm
    with contextlib.suppress(RuntimeError):  # newer ones need none, and say so
        binding.initialize()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    team = threads.team()
    for name, address in (team.symbols if team is not None else {}).items():
        binding.add_symbol(name, address)


def _load(made: build.Object) -> threads.Kernel:
    import llvmlite.binding as llvm  # pyright: ignore[reportMissingTypeStubs]

    binding: Any = llvm
    for name in made.needs:
        if not binding.address_of_symbol(name):
            # Of numba's wrapper, for errors that these loops cannot have; unbound it would end the process.
            binding.add_symbol(name, ctypes.cast(ctypes.pythonapi.abort, ctypes.c_void_p).value)
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(made.code))
    engine.finalize_object()
    address: int = engine.get_function_address(made.entry)
    return threads.Kernel(address, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine)
