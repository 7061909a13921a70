"""Published results, run again: the mean over seeds beside the published mean, in published deviations.

    DOWNSLOPE_DATA=... python bench/published.py [--seeds 10] [--only quadratic_deep]

A result is reproduced where it lies within two of the published deviations. Of the long ones
three seeds are run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import downslope as ds
from downslope.testing.problems import char_gpt, fmnist_2c2d, quadratic_deep


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


def of_fmnist_2c2d(seeds: int) -> None:
    begun, curves = time.perf_counter(), dict[int, list[float]]()
    for seed in range(min(seeds, 3)):
        recipe = fmnist_2c2d.recipe().edit(seed=seed)
        run = ds.fit(fmnist_2c2d.problem(), recipe, folder=False, progress=False)
        for epoch in fmnist_2c2d.ACCURACY:
            value = run.history.series("valid_metric").values[epoch]
            curves.setdefault(epoch, []).append(float(value))
        so_far = ", ".join(f"{epoch}: {values[-1]:.4f}" for epoch, values in curves.items())
        print(f"fmnist_2c2d adam, seed {seed}  {so_far}  ({time.perf_counter() - begun:.0f} s)", flush=True)
    took = time.perf_counter() - begun
    for epoch, (mean, deviation) in fmnist_2c2d.ACCURACY.items():
        print(f"fmnist_2c2d adam, epoch {epoch:>2}  accuracy {deviations(curves[epoch], mean, deviation)}")
    print(f"fmnist_2c2d {took:.0f} s; {run.choices['precision']}")


def of_char_gpt(seeds: int) -> None:
    begun, finals = time.perf_counter(), list[float]()
    for seed in range(min(seeds, 3)):
        run = ds.fit(char_gpt.problem(), char_gpt.recipe().edit(seed=seed), folder=False, progress=False)
        finals.append(float(run.history.series("valid_loss").values[-1]))
    took = time.perf_counter() - begun
    print(f"char_gpt loss {deviations(finals, char_gpt.PUBLISHED, char_gpt.SPREAD)}  ({took:.0f} s)")


ALL: dict[str, Callable[[int], None]] = {
    "quadratic_deep": of_quadratic_deep,
    "fmnist_2c2d": of_fmnist_2c2d,
    "char_gpt": of_char_gpt,
}


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
