"""What an activation costs, beside ReLU in the same run: forward and backward pass, one thread.

In turns, so that a noisy machine disturbs all alike; the ratio is the median over the rounds of the time over
ReLU's in that round, with its quartiles. Inputs are standard normal, float32, `--size` of them (the default,
128 examples of 1024 units, stays in the cache of most machines).

    python bench/activations.py [--size 131072] [--rounds 15]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _timing import interleaved, ratios

from downslope.models.cost import SIZE, pass_of
from downslope.models.parts import ACTIVATIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    z, gradient = torch.randn(2, given.size)
    names = [name for name in ACTIVATIONS if name != "identity"]
    found = interleaved([pass_of(name, z, gradient) for name in names], given.rounds, target=0.02)
    relu = found[names.index("relu")]
    print(f"{given.size} values, forward and backward, one thread, torch {torch.__version__}")
    print(f"{'':13} ns a value   times ReLU")
    for name, times in sorted(zip(names, found, strict=True), key=lambda pair: ratios(pair[1], relu).median):
        ratio = ratios(times, relu)
        print(f"{name:13} {1e9 * ratio.first / given.size:10.2f}   {ratio}")


if __name__ == "__main__":
    main()
