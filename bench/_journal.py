"""What keeping a search costs: bookkeeping of a trial above its training, and opening a long search.

`bench.tune` calls these; alone: ``python -m bench._journal``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from downslope.core import space
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials

SPACE = {
    "lr": space.log(1e-5, 1e-1),
    "weight_decay": space.log(1e-7, 1e-1),
    "momentum": space.one_minus(space.log(1e-3, 1e-1)),
    "model.width": space.integer(16, 512, log=True),
    "optimizer": space.choice("sgd", "adam"),
}


class Cost(NamedTuple):
    wall: float
    """Seconds."""
    cpu: float
    """Seconds of this process."""


def measured(action: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def overhead(place: Path | str | None, trials: int = 1024, batch: int = 32) -> Cost:
    """Seconds a trial: draw it, record it as running, tell its value, in batches as `tune` does; no training.

    The bar is 2 ms.
    """
    with open_storage(place) as storage:
        kept = Trials(storage, SPACE, signature={"bench": trials})
        total = measured(lambda: _fill(kept, trials, batch))
    return Cost(total.wall / trials, total.cpu / trials)


def opening(folder: Path, trials: int = 10_000) -> Cost:
    """Seconds to open a journal of so many trials of five hyper-parameters, and read them all.

    The bar is 2 s for 10,000. The journal is written first, if `folder` has none.
    """
    if not (folder / "journal.log").exists():
        with open_storage(folder) as storage:
            _fill(Trials(storage, SPACE, signature={}), trials, 500)

    def look() -> None:
        with open_storage(folder) as storage:
            kept = Trials(storage, SPACE, signature={})
            if kept.spent.trials != trials or len(kept.all()) != trials:
                raise SystemExit(f"{folder} holds {kept.spent.trials} trials in place of {trials}")

    return measured(look)


def _fill(kept: Trials, trials: int, batch: int) -> None:
    for first in range(0, trials, batch):
        kept.reap()
        numbers = range(first, min(first + batch, trials))
        points = [space.draw(SPACE, [(0.618 * (i + k + 1)) % 1 for k in range(len(SPACE))]) for i in numbers]
        with kept.batch():
            begun = kept.begin(points)
        with kept.batch():
            for each in begun:
                kept.done(each, each.values["lr"], seconds=0.1, steps=230)


def main() -> None:
    print("bookkeeping of a trial above its training (bar 2 ms) and opening 10,000 trials (bar 2 s)")
    with tempfile.TemporaryDirectory() as folder:
        places = {"memory": None, "journal": Path(folder) / "a", "sqlite": f"sqlite:///{folder}/b.db"}
        for name, place in places.items():
            cost = overhead(place, 32 if name == "sqlite" else 1024)
            print(f"{name:8} {1e3 * cost.wall:8.2f} ms a trial, {1e3 * cost.cpu:.2f} of them CPU")
        for _ in range(3):
            cost = opening(Path(folder) / "c")
            print(f"10,000 trials open in {cost.wall:.2f} s, {cost.cpu:.2f} of them CPU")


if __name__ == "__main__":
    main()
