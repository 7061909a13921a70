"""A process that takes part in a search, ``worker.py PLACE BUDGET [ROUND]``: in ROUND it falls asleep."""

from __future__ import annotations

import sys
import time

from downslope.core import space
from downslope.tuning.storage import open_storage
from downslope.tuning.trials import Trials

SPACE = {"x": space.uniform(0.0, 1.0)}
SIZE = 4


def main(place: str, budget: int, falls_asleep: int) -> None:
    with open_storage(place) as storage:
        trials = Trials(storage, SPACE, signature={"problem": "none"})
        rounds = 0
        while True:
            trials.reap()
            with trials.batch():
                batch = trials.take(SIZE)
                first = trials.spent.trials
                count = max(0, min(SIZE - len(batch), budget - first))
                batch += trials.begin([{"x": i / budget} for i in range(first, first + count)])
            if not batch and all(each.ended for each in trials.all()):
                return
            rounds += 1
            sys.stdout.write(f"{rounds}\n")
            sys.stdout.flush()
            time.sleep(60 if rounds == falls_asleep else 0.01)
            with trials.batch():
                for each in batch:
                    trials.done(each, each.values["x"], seconds=0.01, steps=1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
