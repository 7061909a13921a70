"""What a step of a watched loop takes, told from its model and not from a clock.

How often is looked must not hang on what else the machine does: the same loop has to be seen at the same
steps, alone and beside other work. So the times are estimated by a rule, from how many layers a model has,
how many numbers they hold and how many products they form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = 2.0
"""Price of a sampled step, in plain ones, where the model was not seen. The dearest that was measured with a
model that is no table of embeddings: 2.9; most lie between 0.2 and 1.3."""

CHEAPEST, DEAREST = 0.15, 50.0
"""Bounds of a price: the lowest that was measured; and beyond the other no more is needed."""

STEP, LAYER, NUMBER, PRODUCT = 0.2, 0.05, 1e-6, 7e-8
"""Milliseconds of a plain step: at least, for each layer, for each number that is updated, for each product
of the forward pass on one thread. Fitted by eye to 23 pairs of a model and SGD or Adam (dense, deep,
convolutional, recurrent, attention, tables; batches of 8 to 1024; torch 2.13, one thread): the price that
follows is 0.5 to 2.8 times the measured one, of a large table whose gradients are dense 0.4 times."""

SAMPLE, SEEN, KEPT = 0.05, 0.13, 3e-6
"""The same for what a sampled step adds: at least, for each layer, for each number that is kept."""

ACCELERATED = 64
"""Products that another device than the CPU forms in the time of one. A guess, at the lower end."""


class Pace:
    """Estimates of a plain step and of what a sampled one adds to it.

    Attributes:
        milliseconds: Of a plain step; 0 while the model is not known.
        price: Of a sampled step beyond a plain one, in plain steps.
    """

    def __init__(self) -> None:
        self.milliseconds = 0.0
        self.price = UNKNOWN

    def learn(self, modules: Mapping[str, Mapping[str, Any]], threads: int, device: str, dense: bool) -> None:
        """The model was seen.

        Args:
            modules: The fact ``modules``: ``parameters`` and ``products`` of each layer.
            threads: That form the products, on a CPU.
            device: Of the parameters.
            dense: Whether a step touches every number; it does not where gradients are sparse.
        """
        layers = len(modules)
        numbers = sum(int(each.get("parameters") or 0) for each in modules.values())
        products = sum(int(each.get("products") or 0) for each in modules.values())
        at_once = max(threads, 1) if device.startswith("cpu") else ACCELERATED
        plain = STEP + LAYER * layers + PRODUCT * products / at_once + (NUMBER * numbers if dense else 0.0)
        more = SAMPLE + SEEN * layers + KEPT * numbers
        self.milliseconds = plain
        self.price = min(max(more / plain, CHEAPEST), DEAREST)
