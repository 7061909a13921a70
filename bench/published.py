"""Published results, run again: the mean over seeds beside the published mean, in published deviations.

    python bench/published.py [--seeds 10] [--only quadratic_deep]

A result is reproduced where it lies within two of the published deviations.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import downslope as ds
from downslope.testing.problems import quadratic_deep


def deviations(values: list[float], mean: float, deviation: float) -> str:
    """The mean of `values` and how far it lies from the published one."""
    found = statistics.mean(values)
    spread = statistics.stdev(values) if len(values) > 1 else float("nan")
    away = (found - mean) / deviation
    return f"{found:9.4f} +- {spread:.4f}  published {mean:9.4f} +- {deviation:.4f}  away {away:+.2f}"


def of_quadratic_deep(seeds: int) -> None:
    for method, (_, mean, deviation) in quadratic_deep.PUBLISHED.items():
        begun, finals = time.perf_counter(), list[float]()
        for seed in range(seeds):
            run = ds.fit(
                quadratic_deep.problem(seed), quadratic_deep.recipe(method), folder=False, progress=False
            )
            finals.append(float(run.history.series("valid_loss").values[-1]))
        took = time.perf_counter() - begun
        print(f"quadratic_deep {method:<9} test loss {deviations(finals, mean, deviation)}  ({took:.0f} s)")


ALL: dict[str, Callable[[int], None]] = {"quadratic_deep": of_quadratic_deep}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=ALL)
    given = parser.parse_args()
    for name, run in ALL.items():
        if given.only in (None, name):
            run(given.seeds)


if __name__ == "__main__":
    main()
