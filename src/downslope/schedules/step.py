"""A learning rate that falls in stairs."""

from __future__ import annotations

from downslope.schedules.schedule import Schedule, check_factor, check_steps, of_steps


def step(total_steps: int, *, every: int | None = None, factor: float = 0.1) -> Schedule:
    """``factor ** (t // every)`` at step t.

    Equivalent to ``torch.optim.lr_scheduler.StepLR(step_size=every, gamma=factor)``.

    Args:
        total_steps: length of the run, from 1.
        every: steps between two stairs, from 1; a third of the run if left out, as residual networks had it.
        factor: what each stair multiplies by, in (0, 1].

    Raises:
        RecipeError: an argument outside its domain.

    Source: He et al. 2016, "Deep residual learning", section 3.4 (divided by 10 twice or thrice in a run).
    """
    check_steps("total_steps", total_steps)
    width = check_steps("every", max(1, -(-total_steps // 3)) if every is None else every)
    gamma = check_factor("factor", factor, zero=False)
    return of_steps(lambda t: gamma ** (t // width))
