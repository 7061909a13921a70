"""Steps of the methods that see whole matrices: the mean and the longest, beside torch's Muon and AdamW.

    python -m bench.matrix_methods [--steps 40] [--threads 2]

Methods that take roots or bases every so often are told by their mean and their longest step, as a median
hides what they cost. Contestants step in turn, each on parameters of its own: ten 320 x 320 matrices,
a small ResNet's convolutions, and a block of a transformer (768 wide).
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from downslope import optim

SETS: dict[str, list[tuple[int, ...]]] = {
    "ten 320 x 320": [(320, 320)] * 10,
    "convolutions": [(16, 3, 3, 3), *[(32, 32, 3, 3)] * 4, *[(64, 64, 3, 3)] * 4, (10, 64)],
    "transformer block": [(2304, 768), (768, 768), (3072, 768), (768, 3072)],
}

Make = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]

CONTESTANTS: dict[str, Make] = {
    "AdamW": optim.AdamW,
    "Muon": lambda p: optim.Muon(p, matrices=True),
    "Muon, float32": lambda p: optim.Muon(p, matrices=True, ns_precision="float32"),
    "torch's Muon": lambda p: torch.optim.Muon([each for each in p if each.ndim == 2]),
    "SOAP, every 10": optim.SOAP,
    "Shampoo, every 10": lambda p: optim.Shampoo(p, precondition_frequency=10, grafting="adam"),
}


def parameters(shapes: Sequence[tuple[int, ...]], flat: bool) -> list[nn.Parameter]:
    """Parameters with gradients, drawn anew alike; `flat` as torch's Muon wants them."""
    draw = torch.Generator().manual_seed(0)
    found: list[nn.Parameter] = []
    for shape in shapes:
        p = nn.Parameter(torch.randn(shape, generator=draw))
        p.grad = torch.randn(shape, generator=draw)
        if flat:
            p = nn.Parameter(p.detach().flatten(1))
            p.grad = torch.randn(p.shape, generator=draw)
        found.append(p)
    return found


def measured(shapes: Sequence[tuple[int, ...]], steps: int) -> dict[str, list[float]]:
    """Seconds of every step of each contestant, in turns; the first three, which make state, left out."""
    made = {
        name: make(parameters(shapes, flat=name.startswith("torch"))) for name, make in CONTESTANTS.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in made}
    names = list(made)
    for turn in range(steps + 3):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            made[name].step()
            if turn >= 3:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser()
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--sets", nargs="*", default=list(SETS))
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    units = torch.cpu.get_capabilities().get("amx_bf16", False)
    print(f"{given.threads} threads, load {os.getloadavg()[0]:.1f}, AMX {units}; milliseconds a step")
    print(f"{'set':18} {'method':18} {'least':>8} {'mean':>8} {'longest':>8} {'of torch':>9}")
    for name in given.sets:
        found = measured(SETS[name], given.steps)
        beside = min(found["torch's Muon"])
        for method, each in found.items():
            ratio = f"{min(each) / beside:9.3f}" if "Muon" in method else " " * 9
            print(
                f"{name:18} {method:18} {1e3 * min(each):8.2f} {1e3 * sum(each) / len(each):8.2f} "
                f"{1e3 * max(each):8.2f} {ratio}"
            )


if __name__ == "__main__":
    main()
