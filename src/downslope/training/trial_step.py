"""One full step, and one look at held-out data, on batches of any size: what batch sizes are measured by."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from downslope.core import batches, randomness
from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.core.run import Run
from downslope.core.sources import Loader, Memory
from downslope.training import choices
from downslope.training.evaluate import evaluating
from downslope.training.live_memory import LiveMemory
from downslope.training.prepare import prepare
from downslope.training.step import Step
from downslope.training.stochastic import StepRandomness


class TrialStep:
    """Model, optimizer and data of a problem as `fit` would have them; every step changes its own weights.

    Args:
        problem: Data in memory, or a Dataset.
        recipe: Its batch size does not matter.

    Raises:
        InputError: what `fit` raises, or a DataLoader, whose own batch size wins.
    """

    def __init__(self, problem: Problem, recipe: Recipe) -> None:
        if isinstance(problem.train_source, Loader):
            raise InputError(
                "the training data is a DataLoader, whose own batch size wins: give its dataset, or tensors"
            )
        bare = problem.edit(valid=None, goal=None, metric=None)
        run = Run(recipe=recipe, problem=bare)
        small = recipe.edit(batch_size=4, lr=recipe.lr) if recipe.batch_size != "full" else recipe
        self.state, self.train, _, _, observer, _ = prepare(run, bare, small)
        self.take = Step(self.state)
        self.size = self.train.size
        self.threads = choices.choose_threads(
            sum(each["products"] for each in observer.modules.values()) // 4 * 64, self.state.device
        )
        self._dtype = next(self.state.model.parameters()).dtype

    def batch(self, size: int) -> Any:
        """The first `size` examples, over and over where there are fewer."""
        if isinstance(self.train, Memory):
            if size <= self.train.size:
                return self.train.head(size)
            return batches.take(
                self.train.batch, torch.arange(size, device=self.train.device) % self.train.size
            )
        held = next(iter(self.train.stored(size)))
        return batches.to(held, self.state.device, self._dtype)

    def step(self, batch: Any) -> None:
        """Forward, backward, clip, move: what a step of `fit` does on `batch`."""
        with StepRandomness(self.state.model, self.state.recipe.seed) as random:
            random.at(1)
            loss, _ = self.take.forward(batch)
            self.take.backward(loss)
            self.take.clip()
            self.take.move(batch)
        self.state.step += 1

    def seconds(self, batch: Any) -> float:
        """How long one step takes."""
        cuda = self.state.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.state.device)
        begun = time.perf_counter()
        self.step(batch)
        if cuda:
            torch.cuda.synchronize(self.state.device)
        return time.perf_counter() - begun

    def memory(self, batch: Any) -> int:
        """Most bytes that tensors hold at once over two steps on `batch`, which are not the first.

        Parameters, gradients, the optimizer's state and the batch are among them. On a CUDA device what its
        allocator reserved.
        """
        if not self.state.step:  # makes gradients and the optimizer's state, which then stand in all steps
            self.step(self.batch(1) if self.state.device.type == "cuda" else batch)
        return self._peak(batch, lambda: (self.step(batch), self.step(batch)))

    def look_memory(self, batch: Any) -> int:
        """The same of the objective on `batch` in eval mode, without gradients."""

        def look() -> None:
            with evaluating(self.state.model), randomness.seeded(self.state.recipe.seed, "probe"):
                self.state.objective.raw(self.state.model, batch)

        return self._peak(batch, look)

    def _peak(self, batch: Any, act: Callable[[], object]) -> int:
        state = self.state
        if state.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(state.device)
            act()
            return int(torch.cuda.max_memory_reserved(state.device))
        held = [*state.model.parameters(), *state.model.buffers(), *batches.tensors(batch)]
        held += [value for own in state.optimizer.state.values() for value in batches.tensors(own)]
        held += [p.grad for p in state.model.parameters() if p.grad is not None]
        with LiveMemory(held) as live:
            act()
        return live.peak
