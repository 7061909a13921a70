"""Members of one shape side by side: their rows, draws, batches and losses, as one thing that shrinks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from downslope.core.sources import Memory
from downslope.optim.members import columns_of
from downslope.training.augmenting import Augmenter
from downslope.training.depth import Depths
from downslope.training.population.draws import Draws
from downslope.training.population.feed import Feed
from downslope.training.population.losses import Losses
from downslope.training.population.padded import pad
from downslope.training.population.stack import Stack
from downslope.training.ready import Ready


class Abreast:
    """What computes the losses and gradients of members together; `groups` says which have one shape.

    Args:
        made: The members, before their first step. Their models become views of the rows of `stack`.
    """

    def __init__(self, made: Sequence[Ready]) -> None:
        states = [each.state for each in made]
        for state in states:
            Depths(state.recipe, state.model, state.depths).at(0)  # what is held fixed may be in eval mode
        models, seeds = [state.model for state in states], [state.recipe.seed for state in states]
        self.stack = Stack(models, columns_of(states[0].optimizer))
        pad(self.stack.template)
        self.draws = Draws(self.stack.template, models, seeds)
        self.feed = Feed(
            cast("Memory", made[0].train), made[0].batch_size, seeds,
            [cast("Augmenter | None", state.augment) for state in states],
        )  # fmt: skip
        self.losses = Losses(self.stack, self.draws, states)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all members but those in `rows`; the models of the others stand for themselves again."""
        self.stack.keep(rows)
        for part in (self.draws, self.feed, self.losses):
            part.keep(rows)
