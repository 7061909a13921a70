"""Rates by depth and gradual unfreezing: what is near the input learns slowly, or later.

rate of unit l of L      lr * layer_decay ** (L - l)       (Howard and Ruder 2018, 3.2; Clark et al. 2020)
units that are trained   the last 1 + epoch // unfreeze    (Howard and Ruder 2018, 3.3)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.depth import Call, Unit, all_names, units
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.evaluate import evaluating

__all__ = ["Depths", "depths_of", "factors"]


def factors(recipe: Recipe, found: Sequence[Unit]) -> list[float]:
    """What the learning rate of each unit is multiplied by; 1 for the last."""
    decay = recipe.layer_decay or 1.0
    return [decay ** (len(found) - 1 - index) for index in range(len(found))]


def depths_of(problem: Problem, recipe: Recipe, model: nn.Module) -> tuple[Unit, ...]:
    """The units of `model` by a look at a forward pass; none where the recipe does not ask for depth."""
    if recipe.layer_decay is None and recipe.unfreeze is None:
        return ()
    return units(model, _calls(problem, model))


def _calls(problem: Problem, model: nn.Module) -> list[Call]:
    """Which modules are called on two examples, in their order; none where the pass fails."""
    calls: list[Call] = []
    kept: list[Any] = []  # alive, so that no two tensors have one address
    own = unwrap(model)
    handles = [
        own.get_submodule(name).register_forward_pre_hook(_note(name, calls, kept))
        for name in all_names(model)
    ]
    parameter = next(model.parameters())
    try:
        batch = next(iter(problem.train_source.stored(2)))
        batch = batches.map_tensors(lambda leaf: leaf[:2] if leaf.dim() else leaf, batch)
        args, kwargs, _ = problem.splitter(batches.to(batch, parameter.device, parameter.dtype))
        with torch.random.fork_rng(devices=[]), evaluating(model):
            model(*args, **kwargs)
    except Exception:  # noqa: BLE001 (the first step says what is wrong, better than this look could)
        return []
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _note(name: str, calls: list[Call], kept: list[Any]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        del module
        first = next((each for each in args if isinstance(each, Tensor)), None)
        kept.append(first)
        calls.append(Call(name, id(first) if first is not None else -len(kept)))

    return note


class Depths:
    """Which units are trained in an epoch, at which rates; and what is held fixed, held still.

    Args:
        recipe: `layer_decay`, `unfreeze`, `frozen`, and the groups that it holds fixed.
        model: In training.
        found: Its units, of which `unfreeze` trains more and more; none where the recipe asks for none.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, found: Sequence[Unit]) -> None:
        self.recipe, self.model, self.units = recipe, model, tuple(found)
        self._trained = {id(p) for p in model.parameters() if p.requires_grad} if found else set[int]()
        fixed = any(not group.train for group in recipe.groups)
        self._still = recipe.frozen == "eval" and (fixed or recipe.unfreeze is not None)
        self._held: list[nn.Module] = []

    def at(self, epoch: int) -> None:
        """Train what belongs to `epoch`, counted from 0."""
        if self.recipe.unfreeze is not None:
            for index, unit in enumerate(self.units):
                for p in unit.parameters:
                    if id(p) in self._trained:
                        p.requires_grad_(index >= self.first(epoch))
                        p.grad = p.grad if p.requires_grad else None
        if self._still:
            for module in self._held:
                module.train()
            self._held = []
            self._hold(self.model)

    def first(self, epoch: int) -> int:
        """Index of the unit nearest to the input that is trained in `epoch`."""
        if self.recipe.unfreeze is None:
            return 0
        return max(0, len(self.units) - 1 - epoch // self.recipe.unfreeze)

    def _hold(self, module: nn.Module) -> None:
        """Eval mode for modules whose parameters are all held fixed: no dropout, statistics as they are."""
        held = list(module.parameters())
        if held and not any(p.requires_grad for p in held):
            module.eval()
            self._held.append(module)
            return
        for child in module.children():
            self._hold(child)

    def rates(self, optimizer: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
        """Rate by unit as the optimizer has it now, under ``lr/NAME``; 0 for one that is not trained yet."""
        if not self.units:
            return {}
        by = {
            id(p): float(group.get("lr", math.nan))
            for group in optimizer.param_groups
            for p in group["params"]
        }
        found: dict[str, float] = {}
        for index, unit in enumerate(self.units):
            own = [by[id(p)] for p in unit.parameters if id(p) in by and id(p) in self._trained]
            found[f"lr/{unit.name}"] = max(own, default=0.0) if index >= self.first(epoch) else 0.0
        return found

    def describe(self) -> list[dict[str, Any]]:
        """For every unit its modules, parameters, factor of the rate, and the epoch from which it counts."""
        every, shares = self.recipe.unfreeze or 0, factors(self.recipe, self.units)
        return [
            {
                "name": unit.name, "modules": list(unit.modules),
                "parameters": sum(p.numel() for p in unit.parameters), "factor": factor,
                "from_epoch": every * (len(self.units) - 1 - index),
            }
            for index, (unit, factor) in enumerate(zip(self.units, shares, strict=True))
        ]  # fmt: skip


def told(rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> str:
    """The depth of a model in one line."""
    first, last = rows[0], rows[-1]
    said = [f"{len(rows)} depths from {first['name']} to {last['name']}"]
    if recipe.layer_decay is not None and recipe.lr is not None:
        said.append(f"lr {recipe.lr * first['factor']:.3g} to {recipe.lr:.3g}")
    if recipe.unfreeze is not None:
        end, epochs = first["from_epoch"], recipe.epochs
        late = sum(row["from_epoch"] >= epochs for row in rows) if epochs is not None else 0
        every = "epoch" if recipe.unfreeze == 1 else f"{recipe.unfreeze} epochs"
        never = f"{late} of them {'is' if late == 1 else 'are'} never trained in {epochs} epochs"
        said.append(never if late else f"one more every {every}, all from epoch {end + 1} on")
    return ", ".join(said)
