"""The process that speaks to a Ray cluster for the one that searches.

Ray ends the whole process that it runs in where its cluster is gone, writes to standard error as it likes,
and takes the signals: so it has a process of its own, run as a script, which passes bytes on and needs no
torch. It ends when the line to who started it does.

To it:    ("size", members, gpus), ("open", members, gpus), ("answer", index, ends), ("stop", index),
          ("work", index, sent, files, node that it died on), ("end",)
From it:  ("ready", address), ("size", n), ("opened", n), ("refused", why), ("room", workers),
          ("evaluated", index, bytes), ("done", index, bytes), ("died", index, why, node), ("unbegun", index),
          ("gone", why)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
import secrets
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

START = 60.0
"""Seconds that a worker may take to begin: it imports torch, maybe from a network disk."""

ALIVE = 10.0
"""Seconds in which a worker answers that has nothing to do."""

IDLE = 60.0
"""Seconds after which the CPUs are given back that nobody asks anything of."""


NO_ANSWER = "what listens there does not answer as a Ray cluster, or wants a token (RAY_AUTH_MODE=token)"


class Trainer:
    """The actor: one a CPU, its process and data stay from member to member."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.hand: Any = None

    def hello(self) -> dict[str, str]:
        """Where it is, and the versions there; under "missing" what cannot be imported."""
        ray: Any = importlib.import_module("ray")
        node = {"node": str(ray.util.get_node_ip_address()), "id": ray.get_runtime_context().get_node_id()}
        if self.hand is None:
            try:
                made: Any = importlib.import_module("downslope.training.population.ray_hand")
            except ImportError as error:
                return node | {"missing": f"{type(error).__name__}: {error}"}
            self.hand = made.RayHand(self.token)
        return node | self.hand.versions

    def go(self, sent: bytes, refs: dict[str, Any]) -> tuple[str, bytes]:
        """Begin a member, its data fetched where this machine has not got them."""
        ray: Any = importlib.import_module("ray")
        for name, ref in refs.items():
            if self.hand.lacks(name):
                self.hand.keep(name, ray.get(ref))
        return self.hand.go(sent)

    def on(self, ends: bool) -> tuple[str, bytes]:
        """Go on after an evaluation."""
        return self.hand.on(ends)

    def stop(self) -> None:
        """End the run after the step that it is in."""
        self.hand.stop()

    def leave(self) -> None:
        """Remove the data from its machine."""
        self.hand.leave()


class UnfitError(Exception):
    """A worker that cannot train what is sent to it."""


class Slot:
    """One worker, as it is seen from here.

    Args:
        actor: Its handle.
        found: What it said at its start.
    """

    def __init__(self, actor: Any, found: dict[str, str]) -> None:
        self.actor, self.node, self.id = actor, found["node"], found["id"]
        self.answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.since = time.monotonic()


class Speaker:
    """Answers one line with what the cluster does.

    Args:
        ray: The module, connected.
        line: To who started this process.
        versions: That a worker must have.
    """

    def __init__(self, ray: Any, line: Connection, versions: dict[str, str]) -> None:
        self.ray, self.line, self.versions = ray, line, versions
        self.token = secrets.token_hex(8)
        self.lock, self.saying = threading.RLock(), threading.Lock()
        self.slots: list[Slot] = []
        self.free: list[Slot] = []
        self.at_work: dict[int, Slot] = {}
        self.coming, self.gpus = 0, 0
        self.refs: dict[str, Any] = {}
        """Data in the cluster's own store, by the hash of them."""
        self.used = set[str]()
        """Those that the population has."""

    def say(self, *what: Any) -> None:
        """Tell who started this process; one that is gone needs no telling."""
        with self.saying, contextlib.suppress(OSError):
            self.line.send(what)

    def serve(self) -> None:
        """Until the line ends, or nobody has asked anything for long."""
        with contextlib.suppress(EOFError, OSError):
            while self.line.poll(IDLE) or self.at_work or self.coming:
                if not self.line.poll(0):
                    continue
                kind, *more = self.line.recv()
                if kind == "end":
                    return
                getattr(self, kind)(*more)

    def close(self) -> None:
        """Give the workers back."""
        leaving = [slot.actor.leave.remote() for slot in self.slots]
        with contextlib.suppress(Exception):
            self.ray.wait(leaving, num_returns=len(leaving), timeout=1.0) if leaving else None
        self.ray.shutdown()

    # -- how many -----------------------------------------------------------------------------------------

    def size(self, members: int, gpus: int) -> None:
        """How many members can be trained at a time."""
        self.say("size", min(members, self._most(gpus)))

    def open(self, members: int, gpus: int) -> None:
        """Have as many workers as there are members, or as there is room."""
        self.refs = {name: ref for name, ref in self.refs.items() if name in self.used}
        self.used.clear()
        with self.lock:
            if gpus != self.gpus:
                for slot in self.slots:
                    self.ray.kill(slot.actor)
                self.slots, self.free, self.gpus = [], [], gpus
                time.sleep(1.0)  # what they held is known to be free a little later
            wanted = min(members, self._most(gpus))
            new = wanted - len(self.slots) - self.coming
        if not wanted:
            self.say("refused", self._full(gpus))
            return
        for _ in range(new):
            self._hire()
        self._tell_room()
        self.say("opened", wanted)

    def _most(self, gpus: int) -> int:
        free = self.ray.available_resources()
        room = int(free.get("CPU", 0))
        if gpus:
            room = min(room, int(free.get("GPU", 0)))
        return len(self.slots) + max(room, self.coming) if gpus == self.gpus else len(self.slots) + room

    def _full(self, gpus: int) -> str:
        kind = "GPU" if gpus else "CPU"
        all_of_them = int(self.ray.cluster_resources().get(kind, 0))
        if not all_of_them:
            return f"the cluster has no {kind}"
        return f"none of the cluster's {all_of_them} {kind}s is free: `ray status` tells what holds them"

    def _hire(self) -> None:
        with self.lock:
            self.coming += 1
        threading.Thread(target=self._arrive, daemon=True).start()

    def _arrive(self) -> None:
        """One more worker, once it answers; where none is left and none comes that is told."""
        slot, why = None, ""
        try:
            slot = self._come()
        except TimeoutError:
            why = f"no worker has begun there within {START:g} s"
        except UnfitError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 (Ray has several names for a cluster without room)
            why = f"no worker begins there: {said(error)}"
        with self.lock:
            self.coming -= 1
            if slot is not None:
                self.slots.append(slot)
                self.free.append(slot)
            elif not self.slots and not self.coming:
                self.say("gone", why)
        self._tell_room()

    def _come(self) -> Slot:
        made = self.ray.remote(Trainer).options(
            num_cpus=1, num_gpus=self.gpus, max_restarts=0, max_task_retries=0, max_concurrency=3,
            scheduling_strategy="SPREAD",
        )  # fmt: skip
        actor = made.remote(self.token)
        try:
            found = self.ray.get(actor.hello.remote(), timeout=START)
            self._check(found)
        except Exception:
            self.ray.kill(actor)
            raise
        return Slot(actor, found)

    def _check(self, found: dict[str, str]) -> None:
        if "missing" in found:
            raise UnfitError(
                f"its worker at {found['node']} cannot import downslope ({found['missing']}): "
                f"install downslope {self.versions['downslope']} there"
            )
        for name in ("downslope", "torch"):
            if found[name] != self.versions[name]:
                raise UnfitError(
                    f"its worker at {found['node']} has {name} {found[name]}, "
                    f"here is {self.versions[name]}: they must be the same"
                )

    def _tell_room(self) -> None:
        with self.lock:
            self.say("room", len(self.slots))

    # -- members ------------------------------------------------------------------------------------------

    def work(self, index: int, sent: bytes, files: list[str], avoid: str) -> None:
        """Give a member to a worker, rather not on the node where it died before."""
        try:
            refs = {Path(file).name: self._put(file) for file in files}
        except Exception as error:  # noqa: BLE001 (a store that is full, a disk too)
            self.say("died", index, f"its data cannot be sent: {said(error)}", "")
            return
        with self.lock:
            if not self.free:
                self.say("unbegun", index)
                return
            slot = next((each for each in self.free if each.id != avoid), self.free[0])
            self.free.remove(slot)
            self.at_work[index] = slot
        threading.Thread(target=self._train, args=(slot, index, sent, refs), daemon=True).start()

    def _put(self, file: str) -> Any:
        """The data in a file, in the cluster's store: put there once."""
        name = Path(file).name
        self.used.add(name)
        if name not in self.refs:
            numpy: Any = importlib.import_module("numpy")
            self.refs[name] = self.ray.put(numpy.fromfile(file, dtype="uint8"))
        return self.refs[name]

    def _train(self, slot: Slot, index: int, sent: bytes, refs: dict[str, Any]) -> None:
        get = self.ray.get
        try:
            if time.monotonic() - slot.since > 1.0:
                get(slot.actor.hello.remote(), timeout=ALIVE)
        except Exception:  # noqa: BLE001 (it died while it had nothing to do)
            self._bury(slot, index)
            self.say("unbegun", index)
            return
        try:
            kind, found = get(slot.actor.go.remote(sent, refs))
            while kind == "evaluated":
                self.say(kind, index, found)
                kind, found = get(slot.actor.on.remote(slot.answers.get()))
        except Exception as error:  # noqa: BLE001 (Ray has many names for what became of a worker)
            self._bury(slot, index)
            self.say("died", index, cause(error, slot.node), slot.id)
            return
        with self.lock:
            slot.since = time.monotonic()
            self.at_work.pop(index, None)
            self.free.append(slot)
            self.say("done", index, found)

    def _bury(self, slot: Slot, index: int) -> None:
        """Forget a worker, and have another one wherever there is room."""
        with self.lock:
            self.at_work.pop(index, None)
            self.slots.remove(slot)
            with contextlib.suppress(Exception):
                self.ray.kill(slot.actor)
            self._hire()
            self._tell_room()

    def answer(self, index: int, ends: bool) -> None:
        """What is said to a member that was evaluated."""
        if (slot := self.at_work.get(index)) is not None:
            slot.answers.put(ends)

    def stop(self, index: int) -> None:
        """Ctrl-C for one member."""
        if (slot := self.at_work.get(index)) is not None:
            slot.actor.stop.remote()


def cause(error: BaseException, node: str) -> str:
    """What became of a worker, in a few words: Ray says it in many."""
    text = str(error)
    if "node" in text and any(each in text for each in ("node died", "node has died", "node was terminated")):
        return f"its node {node} died"
    if type(error).__name__ == "OutOfMemoryError" or "memory on the node" in text:
        return f"its node {node} ran out of memory"
    if "worker process has died" in text or "Worker unexpectedly exits" in text:
        return f"its process at {node} was killed"
    return f"at {node}: {said(error)}"


def said(error: BaseException) -> str:
    """An error of Ray in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def refusal(error: BaseException) -> str:
    """Why Ray does not connect, in one line."""
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return f"its versions are not those of here: {text[:400]}"
    if isinstance(error, ConnectionError):
        return f"{NO_ANSWER} ({text[:200]})"
    return f"it cannot be joined: {type(error).__name__}: {text[:400]}"


def main() -> None:
    """Join the cluster that the argument names, and serve."""
    asked = json.loads(sys.argv[1])
    os.set_inheritable(asked["line"], False)
    with Connection(asked["line"]) as line:
        try:
            ray: Any = importlib.import_module("ray")
            own: dict[str, Any] = {"num_cpus": asked["cpus"], "include_dashboard": False}
            ray.init(
                address=asked["cluster"], log_to_driver=False, logging_level="ERROR",
                **(own if asked["cluster"] == "local" else {}),
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 (told by who asked)
            line.send(("refused", refusal(error)))
            return
        speaker = Speaker(ray, line, asked["versions"])
        speaker.say("ready", asked["cluster"])
        try:
            speaker.serve()
        finally:
            speaker.close()


if __name__ == "__main__":
    main()
