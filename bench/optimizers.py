"""One step of each optimizer beside torch's, on three sets of parameters.

    python bench/optimizers.py [--rounds 21] [--threads 1]

Every figure is torch's seconds over ours, round by round in turns: median [quartiles]; above 1 we are faster.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from _timing import interleaved, ratios

from downslope import optim


def resnet_shapes(inside, outside):
    """The second to fourth stage of a ResNet-18: two blocks, the first of them with a short cut."""
    norm = [(outside,), (outside,)]
    first = [(outside, inside, 3, 3), *norm, (outside, outside, 3, 3), *norm, (outside, inside, 1, 1), *norm]
    return [*first, *[(outside, outside, 3, 3), *norm] * 2]


SETS = {
    "mlp 64 wide, 6 tensors": [(64, 64), (64,), (64, 64), (64,), (10, 64), (10,)],
    "1 M in 22 tensors": [(224, 224), (224,)] * 10 + [(1000, 498), (1000,)],
    "resnet-18, 11.2 M in 60 tensors": [
        *[(64, 3, 7, 7), (64,), (64,)],
        *[(64, 64, 3, 3), (64,), (64,)] * 4,
        *resnet_shapes(64, 128),
        *resnet_shapes(128, 256),
        *resnet_shapes(256, 512),
    ],
}

METHODS = {
    "SGD": {"lr": 1e-4},
    "SGD momentum": {"lr": 1e-4, "momentum": 0.9},
    "SGD nesterov": {"lr": 1e-4, "momentum": 0.9, "nesterov": True},
    "Adagrad": {"lr": 1e-4},
    "RMSprop": {"lr": 1e-4},
    "Adam": {"lr": 1e-4},
    "AdamW": {"lr": 1e-4},
}


def parameters(shapes):
    params = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def contestants(name, shapes):
    kind, settings = name.split()[0], METHODS[name]
    ours, theirs = getattr(optim, kind), getattr(torch.optim, kind)
    made = {
        "eager": ours(parameters(shapes), **settings, backend="eager"),
        "loop": theirs(parameters(shapes), **settings, foreach=False),
        "foreach": theirs(parameters(shapes), **settings, foreach=True),
    }
    if kind != "RMSprop":
        made["native"] = ours(parameters(shapes), **settings, backend="native")
        made["fused"] = theirs(parameters(shapes), **settings, fused=True)
    return made


def row(name, shapes, rounds):
    made = contestants(name, shapes)
    times = dict(zip(made, interleaved([o.step for o in made.values()], rounds), strict=True))
    best = "native" if "native" in made else "eager"
    compared = [("loop", best), ("foreach", best), ("fused", best), ("loop", "eager")]
    shown = [str(ratios(times[a], times[b])) if a in times else "none" for a, b in compared]
    ours = f"{1e6 * median(times[best]):9.0f} us {best:6}"
    return f"  {name:14}" + "  ".join([ours, *(f"{cell:>20}" for cell in shown)])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"torch {torch.__version__}, {given.threads} threads, {given.rounds} rounds")
    for title, shapes in SETS.items():
        heads = ["torch loop/ours", "foreach/ours", "fused/ours", "loop/our eager"]
        print(f"{title}\n  {'':14}{'ours':>19}  " + "  ".join(f"{head:>20}" for head in heads))
        for name in METHODS:
            print(row(name, shapes, given.rounds), flush=True)


if __name__ == "__main__":
    main()
