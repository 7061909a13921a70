"""Clothes by two convolutions and two dense layers: "fmnist_2c2d" of DeepOBS (Schneider et al. 2019)."""

from __future__ import annotations

from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.data import fashion_mnist
from downslope.models import cnn_2c2d

ACCURACY = {
    1: (0.85256, 0.00573),
    2: (0.87609, 0.00326),
    3: (0.88548, 0.00398),
    5: (0.89667, 0.00370),
    10: (0.90993, 0.00363),
}
"""Epochs to mean and deviation over 10 seeds of the published test accuracy by Adam (DeepOBS baselines,
fsschneider/DeepOBS_Baselines at 3da285a)."""


def problem() -> Problem:
    """Pixels in [0, 1], 60,000 for training, 10,000 held out.

    Raises:
        DataError: the images are nowhere and cannot be fetched.
    """
    table = fashion_mnist()
    return Problem(
        model=cnn_2c2d,
        arguments={"channels": 1, "size": 28, "outputs": 10},
        objective="cross_entropy",
        train=table.train,
        valid=table.valid,
        metric="accuracy",
        name="fmnist_2c2d",
    )


def recipe(epochs: int = 10) -> Recipe:
    """Adam at the rate that was tuned for 100 epochs, batches of 128."""
    return Recipe(optimizer="adam", lr=2.5118864315e-4, batch_size=128, epochs=epochs)
