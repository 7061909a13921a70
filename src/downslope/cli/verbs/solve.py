"""``downslope solve TASK``: the exact answer, where there is one, with its proof."""

from __future__ import annotations

from typing import Annotated

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice

L2 = Annotated[float, typer.Option("--l2", help="Penalty l2/2 |w|^2 on the weights; biases are free.")]


def solve(
    task: ask.Task,
    target: ask.Target = None,
    l2: L2 = 0.0,
    settings: ask.Settings = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Solve a convex task exactly: least squares, Huber, logistic and softmax regression.

    Data alone gets the linear model that fits its target.
    """
    given = Given(task=task, target=target, settings=settings or ())
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.reporting import console
        from downslope.terrain.exact.solve import solve as exactly
        from downslope.training.evaluate import evaluate
        from downslope.training.tasks import is_data, linear

        with voice.alone():
            problem, _ = given.load(voice, trained=False)
            if is_data(task):
                problem, chosen = linear(problem)
                voice.hold(f"{task}: {chosen}")
            voice.begin()
            found = exactly(problem, l2=l2)
            judged = None
            if found.kind != "not-attained" and problem.valid_source is not None:
                judged = evaluate(problem, found.model(), problem.valid_source)
        voice.show(console.of_solution(found, judged))
        held = {} if judged is None else {"valid_loss": judged.loss, "valid_metric": judged.metric}
        voice.document({"verb": "solve"} | found.to_dict() | held)
        return DONE

    return guarded(act, debug=debug)
