"""Members on the workers of a Ray cluster: one a CPU, whose process and data stay from member to member."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import torch

from downslope._version import __version__
from downslope.core.errors import ClusterError, RunFolderError
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.training import choices
from downslope.training.population import ray_client
from downslope.training.population.foreman import Event, Foreman, GoneError
from downslope.training.population.hand import Ended, Job, Order, opened
from downslope.training.population.members import OnEvaluation
from downslope.training.population.ray_address import check_ray
from downslope.training.population.ray_hand import fetched, write_files
from downslope.training.population.sent import Parcels, unpack

CONNECT = 60.0
"""Seconds for joining a cluster, or starting one here."""

LEAVE = 3.0
"""Seconds for leaving a cluster."""

ELSEWHERE = "(--ray none goes on without a cluster, --ray ADDRESS on another)"
"""What may be said when `downslope resume` finds the cluster gone."""

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_request_timeout_seconds": "5",
    "RAY_gcs_rpc_server_connect_timeout_s": "2",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",  # how long a head that is gone is waited for
    "RAY_NUM_REDIS_GET_RETRIES": "1",
    "RAY_DEDUP_LOGS": "1",
}
"""Of Ray, for who has not set them: nothing is reported to its makers, and what is gone is gone soon."""


def run_on_ray(
    jobs: Sequence[Job],
    address: str,
    *,
    until: float | None = None,
    on_evaluation: OnEvaluation | None = None,
) -> Generator[tuple[int, Ended]]:
    """Train every member on a worker of a Ray cluster, each as `fit` alone does at one thread.

    Every free CPU (GPU, for recipes with ``device="cuda"``) has a worker, which stays for the next
    population. Large tensors go to the cluster once, to a file of each machine once, and are mapped there.
    Runs come back as bytes, and their folders are written here: a node that is lost loses what it had in
    hand. Such a member is begun anew, once, elsewhere where there is an elsewhere.

    Args:
        jobs: The members.
        address: As `check_ray` takes it.
        until: `time.monotonic` by which it ends.
        on_evaluation: As in `fit_population`; it is called in this process.

    Yields:
        Index and outcome of each, as they end; after Ctrl-C what the runs in hand have come to.

    Raises:
        ClusterError: the cluster cannot be joined, or has no room.
        GoneError: it went away, and with it what was in hand.
    """
    try:
        foreman = Foreman(jobs, RayHands(joined(address), jobs), until, on_evaluation)
        with contextlib.closing(foreman):
            yield from foreman.go()
    except GoneError:  # told once: who asks again is refused
        if (gone := _joined.pop(address, None)) is not None:
            gone.close()
        raise


def room_on_ray(address: str, recipes: Sequence[Recipe]) -> int:
    """How many of these members a cluster trains at a time.

    Args:
        address: As `check_ray` takes it.
        recipes: Of the members.

    Raises:
        ClusterError: the cluster cannot be joined.
        GoneError: it was joined, and went away.
    """
    return joined(address).ask("size", len(recipes), gpus_of(recipes))


def told_of(address: str, recipes: Sequence[Recipe]) -> str:
    """Where a cluster is, and how many of these members it trains at a time, in words.

    Raises:
        ClusterError: the cluster cannot be joined.
        GoneError: it was joined, and went away.
    """
    count = room_on_ray(address, recipes)
    where = joined(address).where
    place = "on a Ray cluster of its own" if where == "local" else f"on Ray at {where}"
    return f"{place}, {count} worker{'' if count == 1 else 's'}"


def lost_on_ray(address: str) -> int:
    """Members whose worker there died since it was joined."""
    return _joined[address].lost if address in _joined else 0


class Cluster:
    """A cluster that was joined, by a process of its own: what befalls Ray there does not befall this one.

    Args:
        address: As `check_ray` takes it.

    Raises:
        ClusterError: it cannot be joined.
    """

    def __init__(self, address: str) -> None:
        self.where = where = check_ray(address)
        self.address = address
        self.alive, self.ever = True, False
        self._ready = False
        self.up = 0
        """Workers."""
        self.lost = 0
        """Members whose worker died."""
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._saying = threading.Lock()
        self._line, theirs = Pipe()
        with theirs:
            self._process = _started(where, theirs)
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()
        try:
            self._replied(CONNECT)
        except BaseException:
            self.close()
            raise

    def say(self, *what: Any) -> None:
        """Tell the process; what is said to one that has ended is told by an event."""
        with self._saying, contextlib.suppress(OSError):
            self._line.send(what)

    def ask(self, *what: Any) -> Any:
        """What the process replies.

        Raises:
            ClusterError: it refuses.
            GoneError: the cluster went away.
        """
        self.say(*what)
        return self._replied(CONNECT)

    def close(self) -> None:
        """Leave the cluster; its workers end."""
        self.alive = False
        self.say("end")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVE)
        self._process.kill()
        self._process.wait()
        self._follower.join()
        self._line.close()

    def _replied(self, seconds: float) -> Any:
        try:
            kind, what = self._replies.get(timeout=seconds)
        except queue.Empty:
            raise self._wrong(f"it does not answer within {seconds:g} s") from None
        if kind == "gone":
            raise what
        if kind == "refused":
            raise self._wrong(what)
        return what

    def _wrong(self, why: str) -> ClusterError:
        return ClusterError(f"ray={self.address!r}: {why}")

    def _follow(self) -> None:
        """Hear the process until it ends."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, *more = self._line.recv()
                self._hear(kind, *more)
        if self._ready:
            self._over(GoneError(f"the Ray cluster {self.address} went away"))
        else:  # Ray has ended the process
            self._over(self._wrong(ray_client.NO_ANSWER))

    def _hear(self, kind: str, *more: Any) -> None:
        self._ready = self._ready or kind == "ready"
        if kind in ("ready", "size", "opened", "refused"):
            self._replies.put((kind, *more))
        elif kind == "room":
            (self.up,) = more
            self.ever = self.ever or self.up > 0
            self.events.put((kind, -1, None))
        elif kind == "gone":
            (why,) = more
            gone = GoneError(f"the Ray cluster {self.address} has no worker left: {why}")
            self._over(gone if self.ever else self._wrong(why))
        elif kind == "evaluated":
            index, packed = more
            self.events.put((kind, index, (partial(self.say, "answer", index), *unpack(packed))))
        else:
            index, *what = more
            self.events.put((kind, index, what))

    def _over(self, why: Exception) -> None:
        self.alive = False
        self.up = 0
        self._replies.put(("gone", why))
        self.events.put(("gone", -1, why))


_joined: dict[str, Cluster] = {}
"""Clusters that were joined, by address."""


def check_reached(address: str) -> None:
    """Refuse a cluster that cannot be joined; of one that was joined it is told later that it went away.

    Raises:
        ClusterError: as `check_ray` does.
    """
    if address not in _joined:
        check_ray(address)


def join(address: str) -> None:
    """Join a cluster, for populations to come: what refuses it does so before anything has begun.

    Raises:
        ClusterError: it cannot be joined.
    """
    try:
        joined(address)
    except GoneError as error:
        _joined.pop(address, None)
        raise ClusterError(f"ray={address!r}: {error}") from None


def joined(address: str) -> Cluster:
    """The cluster there, joined before or now.

    Raises:
        ClusterError: it cannot be joined.
        GoneError: it could before, and cannot any more.
    """
    former = _joined.get(address)
    if former is not None and former.alive:
        return former
    if former is not None:
        former.close()
    try:
        _joined[address] = made = Cluster(address)
    except ClusterError as error:
        if former is not None and former.ever:
            raise GoneError(f"the Ray cluster {address} went away: {error}") from None
        raise
    return made


@atexit.register
def leave_all() -> None:
    """Leave every cluster."""
    while _joined:
        _joined.popitem()[1].close()


def _started(where: str, line: Connection) -> subprocess.Popen[bytes]:
    """The process that joins a cluster; it hears no Ctrl-C, and what Ray writes is not for the user."""
    asked = {
        "cluster": where, "line": line.fileno(), "cpus": choices.cores(),
        "versions": {"downslope": __version__, "torch": torch.__version__},
    }  # fmt: skip
    code = f"import runpy; runpy.run_path({ray_client.__file__!r}, run_name='__main__')"
    paths = os.pathsep.join(each for each in sys.path if each)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, json.dumps(asked)],
        env=SETTINGS | os.environ | {"PYTHONPATH": paths},
        pass_fds=[line.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


class RayHands:
    """`Hands` that are the workers of a cluster."""

    why = "on a worker of Ray"
    threads = 1

    def __init__(self, cluster: Cluster, jobs: Sequence[Job]) -> None:
        self.cluster = cluster
        self.events = cluster.events = queue.SimpleQueue[Event]()
        self.parcels = Parcels(fetched)
        self.busy = set[int]()
        self.files: dict[int, list[str]] = {}
        self.died_on: dict[int, str] = {}
        every = [each.recipe for job in jobs for each in job.each]
        cluster.ask("open", len(jobs), gpus_of(every))

    @property
    def room(self) -> int:
        """Workers that wait."""
        return self.cluster.up - len(self.busy)

    def pack(self, order: Order) -> bytes:
        """An order, its large tensors as files; the folders are written here once it is back."""
        for each in order.job.each:
            if each.place is not False and (each.place / "run.json").exists():
                raise RunFolderError(f"{each.place} holds a run already")
        sent = self.parcels.pack(order._replace(job=order.job.placed(lambda index: Path(str(index)))))
        self.files[order.job.index] = self.parcels.files
        return sent

    def give(self, index: int, sent: bytes) -> None:
        """Begin a member, rather not where it died before."""
        self.busy.add(index)
        self.cluster.say("work", index, sent, self.files[index], self.died_on.get(index, ""))

    def opened(self, job: Job, what: Any) -> dict[int, Ended]:
        """The runs, or why there are none; their folders are written."""
        self.busy.discard(job.index)
        ended, files = opened(what[0], job)
        return {each.index: self._kept(each, ended[each.index], files or {}) for each in job.each}

    def _kept(self, job: Job, found: Ended, files: dict[str, bytes]) -> Ended:
        """What became of one member, its folder written."""
        if not isinstance(found, Run) or job.place is False:
            return found
        lead = f"{job.index}/"
        own = {name.removeprefix(lead): each for name, each in files.items() if name.startswith(lead)}
        try:
            write_files(job.place, own)
        except OSError as error:
            return RunFolderError(f"{job.place} cannot be written: {error.strerror or error}")
        found.folder = job.place
        return found

    def buried(self, job: Job, what: Any) -> str:
        """Remember where; the process that speaks to the cluster has done the rest."""
        self.busy.discard(job.index)
        self.cluster.lost += len(job.each)
        why, node = what
        for each in job.each:
            self.died_on[each.index] = node
        return why

    def unbegun(self, index: int) -> None:
        """Its worker was dead before it came."""
        self.busy.discard(index)

    def stop(self, indices: Sequence[int]) -> None:
        """Ctrl-C for each."""
        for index in indices:
            self.cluster.say("stop", index)

    def dismiss(self) -> None:
        """Give the workers back."""
        self.cluster.close()

    def close(self, busy: Sequence[int]) -> None:
        """Leave a cluster that is still at work; one that is not is kept for the next population."""
        if busy:
            self.cluster.close()
        self.parcels.tidy()


def gpus_of(recipes: Sequence[Recipe]) -> int:
    """How many GPUs a worker needs: one where a recipe asks for CUDA by name, as for "auto" CPUs will do."""
    return int(any(str(each.device).startswith("cuda") for each in recipes))
