"""``downslope batches TASK``: what each batch size costs and buys, and how large one may be."""

from __future__ import annotations

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, guarded
from downslope.cli.voice import Voice


def batches(
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    seed: ask.Seed = None,
    margin: ask.Margin = 0.15,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Measure time, memory and error of the gradient over the batch size, and the largest that has room."""
    given = Given(task=task, target=target, recipe=recipe, settings=settings or (), seed=seed)
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        from downslope.reporting.rows import Row
        from downslope.training.batch_limit import batch_limit
        from downslope.training.batch_table import batch_table

        with voice.alone():
            problem, how = given.load(voice)
            voice.begin()
            table = batch_table(problem, how)
            limit = batch_limit(problem, how, margin=margin)
        voice.show([Row(line, whole=True) for line in str(table).splitlines()])
        voice.show([Row(str(limit), label="limit")])
        voice.document({"verb": "batches"} | table.to_dict() | {"limit": limit.to_dict()})
        return DONE

    return guarded(act, debug=debug)
