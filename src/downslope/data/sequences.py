"""Made sequences whose answer is known: the adding problem, and tokens that hold a motif or not."""

from __future__ import annotations

import torch
from torch import Tensor

from downslope.core.errors import DataError
from downslope.data.split import parts
from downslope.data.table import Table


def adding(*, n: int = 2000, steps: int = 20, valid: float = 0.2, seed: int = 0) -> Table:
    """Sequences of numbers, two of them marked; the target is their sum.

    The adding problem (Hochreiter and Schmidhuber 1997, 5.4). The first mark stands in the first half, the
    second in the second half, so the lag grows with `steps`. Always answering 1, the mean, gives a squared
    error of 1/6. Differs from the paper: numbers in [0, 1], no
    marks at the ends, one length, a plain sum (as in Le, Jaitly and Hinton 2015).

    Args:
        n: sequences, at least 2.
        steps: their length, at least 2.
        valid: share held out, float in [0, 1).
        seed: of numbers, marks and split.

    Returns:
        The table; inputs float32 (n, steps, 2), number and mark; targets float32 (n,).

    Raises:
        DataError: an argument outside its domain.
    """
    _check("adding", n=n, steps=steps)
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.rand(n, steps, generator=draw)
    half = steps // 2
    first = torch.randint(half, (n, 1), generator=draw)
    second = half + torch.randint(steps - half, (n, 1), generator=draw)
    marks = torch.zeros(n, steps).scatter_(1, first, 1.0).scatter_(1, second, 1.0)
    inputs, target = torch.stack([numbers, marks], dim=2), (numbers * marks).sum(1)
    train, held, *_ = parts(inputs, target, valid=valid, seed=seed, stratify=False)
    return Table(train, held, "regression", ["number", "mark"], [])


def motifs(
    *,
    n: int = 1500,
    steps: int = 16,
    tokens: int = 12,
    kinds: int = 4,
    length: int = 3,
    valid: float = 0.2,
    seed: int = 0,
) -> Table:
    """Sequences of tokens with one of `kinds` motifs at a random place; the target is which one.

    A motif is a run of `length` different tokens; the rest is uniform noise, in which a second motif can
    stand by chance (so the best accuracy lies a little under 1).

    Args:
        n: sequences, at least 2.
        steps: their length, at least `length`.
        tokens: different tokens, at least `length`.
        kinds: motifs, at least 2.
        length: tokens of a motif, at least 2.
        valid: share held out, float in [0, 1).
        seed: of motifs, noise, places and split.

    Returns:
        The table; inputs int64 (n, steps), targets int64 (n,).

    Raises:
        DataError: an argument outside its domain.
    """
    _check("motifs", n=n, steps=steps, tokens=tokens, kinds=kinds, length=length)
    if length > min(steps, tokens):
        raise DataError(
            f"motifs: length={length}: must be at most steps={steps} and tokens={tokens}, a motif has "
            "different tokens and stands in the sequence"
        )
    draw = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    while len(found) < kinds:
        motif = torch.randperm(tokens, generator=draw)[:length]
        if not any(torch.equal(motif, each) for each in found):
            found.append(motif)
    inputs = torch.randint(tokens, (n, steps), generator=draw)
    target = torch.randint(kinds, (n,), generator=draw)
    place = torch.randint(steps - length + 1, (n, 1), generator=draw) + torch.arange(length)
    inputs.scatter_(1, place, torch.stack(found)[target])
    train, held, *_ = parts(inputs, target, valid=valid, seed=seed, stratify=True)
    names = [f"step {i}" for i in range(steps)]
    return Table(train, held, "classification", names, [_spelt(each) for each in found])


def _spelt(motif: Tensor) -> str:
    return " ".join(str(int(token)) for token in motif)


def _check(name: str, **sizes: int) -> None:
    for key, value in sizes.items():
        least = 1 if key == "tokens" else 2
        if value < least:
            raise DataError(f"{name}: {key}={value}: must be at least {least}")
