"""How far back a recurrent network can learn: what a late state owes to an early one, lag by lag."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from downslope.core import batches
from downslope.core.adapted import unwrap
from downslope.core.asked import check_asked
from downslope.core.errors import InputError, ModelError
from downslope.core.names import did_you_mean
from downslope.core.problem import Problem
from downslope.terrain.ground import ground_of
from downslope.terrain.ground.stand import Standing, stand
from downslope.terrain.recurrence.recurrence import Pass, profile, recurrences
from downslope.terrain.recurrence.state_jacobians import given_to, of_loop, of_whole, radii

EXAMPLES = 64
"""Sequences over which what the output owes to its inputs is a mean."""

SHORTEST = 3
"""Steps below which there is no lag to speak of."""

MOST = 64
"""Lags at which singular values are taken; of longer sequences they are spaced evenly in their logarithm."""


@dataclass(frozen=True)
class Lags:
    """What the last state and the output of a recurrence owe to the steps before; printed it is a table."""

    module: str
    """Qualified name of the recurrence."""
    kind: str
    """Class of the module."""
    steps: int
    """Steps of a sequence, T."""
    lags: tuple[int, ...]
    """T - t, ascending from 0; all of them up to `MOST`."""
    singular_values: Tensor
    """Of ds_T/ds_t, descending; float64, shape (sequences, lags, numbers in a state)."""
    profile: Tensor
    """Root mean square of the derivative of the model's output by what the recurrence is given at each step,
    in the largest of them; float64, shape (steps,)."""
    radius: dict[str, float]
    """Spectral radius of each recurrent weight; of an LSTM or GRU of each gate's. Empty for modules of one's
    own."""
    notes: tuple[str, ...]
    """What was left out or held still."""

    @property
    def largest(self) -> Tensor:
        """The largest singular value at each lag, its geometric mean over the sequences; shape (lags,)."""
        return _mean(self.singular_values[:, :, 0])

    @property
    def directions(self) -> Tensor:
        """How many directions of the state still count, ``(sum v**2)**2 / sum v**4`` of singular values v;
        1 where the main one alone is left. Its mean over the sequences, shape (lags,).
        """
        shares = self.singular_values / self.singular_values[:, :, :1].clamp_min(1e-300)
        squares = shares.square()
        return (squares.sum(2).square() / squares.square().sum(2)).nan_to_num(0.0).mean(0)

    @property
    def rate(self) -> float:
        """Factor a step of the largest singular value, from the longest lag at which any is left.

        Below 1 the past fades, above 1 it explodes. For h_t = W h_{t-1} it tends to W's spectral radius.
        """
        held = [(lag, value) for lag, value in self._by_lag() if lag]
        lag, value = next(
            ((lag, value) for lag, value in reversed(held) if value > 0 or math.isnan(value)), (1, 0.0)
        )
        return value ** (1 / lag)

    def reach(self, left: float = 1e-3) -> int:
        """The longest lag up to which the largest singular value never falls below `left`."""
        reached = 0
        for lag, value in self._by_lag():
            if not value >= left:
                break
            reached = lag
        return reached

    def _by_lag(self) -> list[tuple[int, float]]:
        return [(lag, float(value)) for lag, value in zip(self.lags, self.largest, strict=True)]

    def __str__(self) -> str:
        rows = [("lag", "largest", "directions", "output by input")]
        rows += [_row(self, i) for i in shown(self.lags)]
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
        head = f"{self.module} {self.kind}, {self.steps} steps: singular values of ds_T/ds_t by lag T - t"
        radius = ", ".join(f"{name} {value:.3g}" for name, value in self.radius.items())
        end = self.reach()
        far = f"a thousandth is left up to lag {end}" if end < self.lags[-1] else "no lag is out of reach"
        lines = [head, *lines, f"a factor of {self.rate:.3g} a step; {far}"]
        return "\n".join([*lines, *([f"spectral radius: {radius}"] if radius else []), *self.notes])


def lags(
    problem: Problem,
    model: Standing = None,
    *,
    module: str | None = None,
    sequences: int = 8,
    seed: int = 0,
) -> Lags:
    """The singular values of the Jacobian of the last state of a recurrence by the earlier ones.

    ``ds_T/ds_t = prod_{s=t+1..T} ds_s/ds_{s-1}``. A gradient from step T reaches step t multiplied by it, so
    what a network can learn from so far back is bounded by its largest singular value; where that shrinks by
    a constant factor a step, the past fades, where it grows, gradients explode. The state s is all that is
    handed on: of an LSTM its cell too, of several layers all of them.

    Any recurrence is seen: torch's RNN, LSTM and GRU, its cells in a loop, and modules of one's own that are
    called step after step with what they gave before.

    Args:
        problem: Its training part has the sequences.
        model: Where to stand: a module, a Run (its last model), a state dict or its path; None for the start.
        module: Qualified name of the recurrence; the first one where left out.
        sequences: Over which singular values are taken, at least 1; Jacobians differ from one to the next.
        seed: Of the start, where no model is given.

    Returns:
        Singular values by lag, in float64 for recurrences of torch, and what the output owes to each step.

    Raises:
        ModelError: the model has no recurrence, or none called so; its sequences have fewer than 3 steps.
        InputError: `sequences` below 1.

    Cost: for a recurrence of torch one step back for each number in a state, each step, each sequence; for a
    loop as many passes of the model. Memory: ``sequences * lags * d**2`` numbers for a loop, d those in a
    state; ``sequences * d**2`` for a recurrence of torch.

    Source: Pascanu, Mikolov and Bengio 2013, section 2 and equation 5; Hochreiter 1991.
    """
    if sequences < 1:
        raise InputError(
            f"sequences={sequences}: must be at least 1, they are what the Jacobian is taken over"
        )
    check_asked(problem, None)
    given, told = stand(problem, model, seed)
    ground = ground_of(problem, given, examples=max(EXAMPLES, sequences), seed=seed)
    batch = next(iter(ground.pieces)).batch
    args, kwargs, _ = problem.splitter(batch)
    made = Pass(unwrap(ground.model), args, kwargs, seed)
    name, handed = _chosen(made, module)
    owed = profile(made, SHORTEST, name)
    steps = 0 if owed is None else len(owed.values)
    if owed is None or steps < SHORTEST:
        raise ModelError(
            f"the recurrence {name!r} sees {steps} steps of (sequences, steps, inputs) on the way to the "
            f"output: at least {SHORTEST} are needed for a lag"
        )
    part = made.model.get_submodule(name)
    notes = [*told, *ground.notes, *_told(part, handed)]
    if handed == "whole":
        entered = given_to(made, name, sequences)
        if entered is None or not isinstance(part, nn.RNNBase):
            raise ModelError(f"the recurrence {name!r} is not called on (sequences, steps, inputs)")
        chosen = _spaced(len(entered.x))
        values = of_whole(part, entered, chosen)
    else:
        chosen = _spaced(steps)
        values = of_loop(made, name, min(sequences, batches.length(batch)), chosen, steps)
    top = float(owed.values.max())
    shape = owed.values / top if top > 0 else owed.values
    return Lags(name, type(part).__name__, steps, tuple(chosen), values, shape, radii(part), tuple(notes))


def _chosen(made: Pass, wanted: str | None) -> tuple[str, str]:
    """The recurrence that is looked at, and how it is called."""
    found = recurrences(made, SHORTEST)
    if not found:
        raise ModelError(
            "the model has no recurrence: neither an RNN, LSTM or GRU nor a module that is called step after "
            "step with what it gave before"
        )
    if wanted is not None and wanted not in found:
        raise ModelError(
            f"no recurrence {wanted!r}{did_you_mean(wanted, found)}: there is {', '.join(found)}"
        )
    name = wanted or next(iter(found))
    return name, found[name]


def _told(module: nn.Module, handed: str) -> list[str]:
    notes = {
        "values": "a step is handed the state without its graph (detach): no gradient goes back",
        "nothing": "each step starts from an empty state: no gradient goes back",
    }
    found = [notes[handed]] if handed in notes else []
    if getattr(module, "bidirectional", False):
        found.append("both directions: followed is the forward one of the first layer")
    return found


def _spaced(steps: int) -> list[int]:
    if steps <= MOST:
        return list(range(steps))
    apart = torch.logspace(0, math.log10(steps - 1), MOST - 1, dtype=torch.float64).round().long()
    return [0, *apart.unique().tolist()]


def _mean(values: Tensor) -> Tensor:
    """The geometric mean over the first dimension; 0 where one is."""
    return values.log().mean(0).exp()


def shown(lags: tuple[int, ...]) -> list[int]:
    """Places of the lags that a table shows: 1, 2, 5, 10, 20, ... and the last."""
    wanted = [1, *(step * 10**power for power in range(7) for step in (1, 2, 5))]
    near = {min(range(len(lags)), key=lambda i: abs(lags[i] - lag)) for lag in wanted if lag <= lags[-1]}
    return sorted(near | {len(lags) - 1})


def _row(found: Lags, i: int) -> tuple[str, str, str, str]:
    lag = found.lags[i]
    owed = float(found.profile[len(found.profile) - 1 - lag])
    return str(lag), f"{float(found.largest[i]):.3g}", f"{float(found.directions[i]):.2g}", f"{owed:.3g}"
