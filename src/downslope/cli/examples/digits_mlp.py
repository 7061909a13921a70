"""Handwritten digits by a small network: a recipe that looks right, and fails.

Momentum 0.9 and lr 0.1 train this network to 97 % on pixels from 0 to 1 (`scaled`, the healthy twin). On the
pixels as scikit-learn gives them (`problem`) the same network with the same recipe kills its own units.

    downslope repair digits_mlp.py
    downslope diagnose digits_mlp.py:scaled
"""

from torch import nn

import downslope as ds


def network(width: int = 128) -> nn.Module:
    """Three hidden layers of ReLU units."""
    return nn.Sequential(
        nn.Linear(64, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 10),
    )  # fmt: skip


def recipe() -> ds.Recipe:
    """What trains such a network everywhere else."""
    return ds.Recipe(optimizer="momentum", lr=0.1, momentum=0.9, batch_size=64, epochs=20, seed=0)


def problem(scale: float = 1.0) -> ds.Problem:
    """Digits from their 64 pixels, each divided by `scale`; raw they lie between 0 and 16."""
    digits = ds.data.digits(scale=scale)
    return ds.Problem(
        model=network,
        objective="cross_entropy",
        train=digits.train,
        valid=digits.valid,
        metric="accuracy",
    )


def scaled() -> ds.Problem:
    """The healthy twin: the same but for the pixels' unit."""
    return problem(scale=16.0)
