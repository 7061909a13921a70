"""One step of Adafactor on one tensor, shape by shape, beside torch's.

    python bench/adafactor_shapes.py [--threads 1] [--rounds 15] [--shapes 512x512x3x3 256x64x1x1 ...]

Milliseconds of both, the least of the rounds, which are in turns; the ratio; and ours over an addition that
moves the same 20 bytes a parameter. On one thread the clock is that of the thread, which others slow but do
not stop.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from _probes import probes
from _steps import LR, METHODS, makers, parameters

from downslope.optim import Adafactor

SHAPES = [
    "512x512x3x3", "256x256x3x3", "64x64x3x3", "64x32x3x3x3", "96x1x3x3", "256x256x1x3", "256x64x2x2",
    "256x64x4x4", "256x64x5x5", "96x96x5x5", "64x3x7x7", "256x64x7x7", "384x1x7x7", "256x256x1x7",
    "256x256x7x1", "64x64x11x11", "256x64x1x1", "512x256x1x1", "2048x512x1x1", "64x64", "316x316", "1000x512",
    "1024x1024", "4096x1024", "4096x8", "512", "1000000"]  # fmt: skip

Action = Callable[[], object]


def least(actions: list[Action], rounds: int, clock: Callable[[], float]) -> list[float]:
    """The least seconds of a call of each, in turns of about 10 ms."""
    calls: list[int] = []
    for action in actions:
        action()
        start = clock()
        action()
        calls.append(max(1, int(0.01 / max(clock() - start, 1e-6))))
    best = [float("inf")] * len(actions)
    for _ in range(rounds):
        for i, action in enumerate(actions):
            start = clock()
            for _ in range(calls[i]):
                action()
            best[i] = min(best[i], (clock() - start) / calls[i])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--without-torch", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    made = makers("adafactor")
    print(f"{'shape':>16}  {'ours ms':>9}  {'ns each':>8}  {'torch ms':>9}  {'ratio':>6}  of the probe")
    for text in given.shapes:
        shape = tuple(int(size) for size in text.split("x"))
        steps = [Adafactor(parameters([shape]), lr=LR, backend="kernel").step]
        steps += [] if given.without_torch else [made["torch loop"](parameters([shape]))]
        steps.append(probes([shape], METHODS["adafactor"].bytes)["add_"])
        ours, *torchs, probe = least(steps, given.rounds, clock)
        size = torch.Size(shape).numel()
        beside = f"{1e3 * torchs[0]:9.3f}  {torchs[0] / ours:6.1f}" if torchs else f"{'-':>9}  {'-':>6}"
        print(
            f"{text:>16}  {1e3 * ours:9.3f}  {1e9 * ours / size:8.3f}  {beside}  {probe / ours:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
