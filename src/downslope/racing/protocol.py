"""What a race agrees on before it starts: nobody may have it otherwise than the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from downslope.core.errors import InputError
from downslope.core.problem import Problem
from downslope.racing.contestants import Contestant
from downslope.racing.measure import measure_of
from downslope.racing.sequential import Sequential
from downslope.racing.times import FRACTION
from downslope.training.price import total_steps

By = Literal["level", "steps", "seconds"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The rules of a race.

    Attributes:
        seeds: Fresh seeds, at least 2, the same for all.
        trials: Runs that each contestant is tuned by on each problem, at least 0; the first is as given.
        seed: First seed: tuning has this one, the race those after it.
        by: What decides: the final level, or steps or seconds to the target.
        alpha: Chance of a winner where all are the same.
        early: Whether the race may stop before its last seed.
        retune: Whether each seed has a tuning of its own, so that luck in tuning is part of the noise.
        widen: Whether who does best at the end of its space draws its other trials from a wider one.
        fraction: Of the way of the reference that is the target where there is no goal.
        reference: Whose way that is; None takes the one that was tuned best.
    """

    seeds: int = 8
    trials: int = 16
    seed: int = 0
    by: By = "level"
    alpha: float = 0.05
    early: bool = True
    retune: bool = False
    widen: bool = False
    fraction: float = FRACTION
    reference: str | None = None

    def __post_init__(self) -> None:
        for key, least in (("seeds", 2), ("trials", 0), ("seed", 0)):
            value: Any = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                why = "; one seed tells no spread" if key == "seeds" else ""
                raise InputError(f"{key}={value!r}: must be an integer in [{least}, inf){why}")
        if self.by not in ("level", "steps", "seconds"):
            raise InputError(f"by={self.by!r}: must be 'level', 'steps' or 'seconds', what decides the race")
        if not _is_number(self.fraction) or not 0 < self.fraction <= 1:
            raise InputError(
                f"fraction={self.fraction!r}: must lie in (0, 1], it is a share of the reference's way"
            )
        if not _is_number(self.alpha) or not 0 < self.alpha < 1:
            raise InputError(f"alpha={self.alpha!r}: must lie in (0, 1), it is the chance of a false winner")
        if self.retune and self.trials < 2:
            raise InputError(
                f"retune=True with trials={self.trials}: there is nothing to tune anew; give two or more"
            )

    def test(self, contestants: int) -> Sequential:
        """The test of one pair among so many contestants.

        A winner has to beat every other. If it is not the one best, there is another at least as good that it
        has beaten by chance: with two-sided tests at a' that has at most ``a'/2`` for each of the r, so
        ``a' = 2 alpha / r``.
        """
        return Sequential(
            alpha=min(self.alpha, 2 * self.alpha / contestants), planned=self.seeds, early=self.early
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _is_number(given: Any) -> bool:
    return isinstance(given, (int, float)) and not isinstance(given, bool)


def described(
    protocol: Protocol,
    problems: Mapping[str, Problem],
    contestants: Mapping[str, Sequence[Contestant]],
    space: Mapping[str, Any] | None,
    target: Any,
) -> dict[str, Any]:
    """All that makes a race what it is, in plain values: a race that goes on must have the same."""
    return {
        **{key: value for key, value in protocol.to_dict().items() if key != "widen" or value},
        "space": None if space is None else {key: _text(each) for key, each in space.items()},
        "target": target,
        "problems": {
            name: {
                **{
                    key: problem.describe()[key]
                    for key in ("model", "arguments", "objective", "metric", "goal", "train", "valid")
                },
                "measure": measure_of(problem).column,
                "steps": [total_steps(problem, each.recipe) for each in contestants[name]],
                "contestants": {each.name: _recipe(each) for each in contestants[name]},
            }
            for name, problem in problems.items()
        },
    }


def _recipe(of: Contestant) -> str:
    return of.recipe.describe() if of.recipe.coded else of.recipe.to_toml()


def _text(dimension: Any) -> Any:
    if isinstance(dimension, Mapping):
        return {key: _text(each) for key, each in dimension.items()}
    return dimension.text() if hasattr(dimension, "text") else dimension
