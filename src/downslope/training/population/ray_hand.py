"""What a worker of a Ray cluster does: trains member after member, in one process, with data mapped there."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from downslope._version import __version__
from downslope.core.lock import held, hold
from downslope.core.run import Run
from downslope.training.evaluate import Evaluation
from downslope.training.population.hand import Ended, Order, sealed, trained
from downslope.training.population.sent import mapped, packed, unpack
from downslope.training.stopping import stop_all

Step = tuple[str, bytes]
"""("evaluated", member, step and evaluation) or ("done", what `sealed` gave: runs, and their files)."""

_data: list[Path] = []
"""Where this process has the data that was sent to its machine."""

YOUNG = 60.0
"""Seconds in which who made a folder has locked it."""


class RayHand:
    """Trains one job at a time, in a thread: each call tells what it has come to by then.

    Args:
        token: Names the folder of the data, which the workers of one search on one machine share.
    """

    def __init__(self, token: str) -> None:
        _data[:] = [Path(tempfile.gettempdir()) / f"{_prefix()}{token}"]
        _data[0].mkdir(mode=0o700, exist_ok=True)
        self._lock = (_data[0] / "lock").open("a", encoding="utf-8")
        hold(self._lock, shared=True)
        sweep()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._steps: queue.SimpleQueue[Step] = queue.SimpleQueue()

    @property
    def versions(self) -> dict[str, str]:
        """Of what has to be the same everywhere."""
        return {"downslope": __version__, "torch": torch.__version__}

    def lacks(self, name: str) -> bool:
        """Whether nobody on this machine has written these data yet."""
        return not (_data[0] / name).exists()

    def keep(self, name: str, numbers: Any) -> None:
        """Write data to the file that all workers of this machine map; the first whole one stays."""
        partial = _data[0] / f"{name}.{os.getpid()}"
        partial.write_bytes(memoryview(numbers))
        partial.replace(_data[0] / name)

    def go(self, sent: bytes) -> Step:
        """Begin the member of an order; what it comes to first."""
        threading.Thread(target=self._train, args=(sent,), daemon=True).start()
        return self._steps.get()

    def on(self, ends: bool) -> Step:
        """Go on after an evaluation; what it comes to next."""
        self._answers.put(ends)
        return self._steps.get()

    def stop(self) -> None:
        """End the run after the step that it is in."""
        stop_all()

    def leave(self) -> None:
        """Remove the data; who has them mapped keeps them."""
        self._lock.close()
        shutil.rmtree(_data[0], ignore_errors=True)

    def _train(self, sent: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="run-", dir=_data[0], ignore_cleanup_errors=True) as place:
            self._steps.put(("done", self._trained(sent, Path(place) / "run")))

    def _trained(self, sent: bytes, place: Path) -> bytes:
        try:
            order: Order = unpack(sent)
            order = order._replace(job=order.job.placed(lambda index: place / str(index)))
            found: dict[int, Ended] | Exception = trained(order, self._ask)
        except Exception as error:  # noqa: BLE001 (raised again by who asked)
            found = error
        for run in found.values() if isinstance(found, dict) else ():
            if isinstance(run, Run):
                run.folder = None
        return sealed(found, files_of(place))

    def _ask(self, member: int, step: int, found: Evaluation) -> bool:
        self._steps.put(("evaluated", packed((member, step, found))))
        return self._answers.get()


def sweep() -> None:
    """Remove the folders of searches whose workers on this machine were killed, all of them."""
    for each in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        with contextlib.suppress(OSError):
            if time.time() - each.stat().st_mtime > YOUNG and not held(each / "lock"):
                shutil.rmtree(each, ignore_errors=True)


def _prefix() -> str:
    return f"downslope-ray-{os.getuid()}-"


def fetched(path: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """The tensor whose numbers were sent to this machine, mapped.

    Args:
        path: Where they lie with who sent them; its name is the hash of them.
        dtype: Of the tensor.
        shape: Of the tensor.
    """
    return mapped(str(_data[0] / Path(path).name), dtype, shape)


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder; none of one that is not there."""
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write them below a folder, the head last: a folder without it is no run.

    Raises:
        OSError: they cannot be written; what was is removed.
    """
    there = folder.exists()
    try:
        for name, content in sorted(files.items(), key=lambda item: item[0] == "run.json"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError:
        if not there:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
        raise
