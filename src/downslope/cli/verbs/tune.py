"""``downslope tune TASK``: search hyper-parameters, confirm the best with fresh seeds, say what mattered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import DONE, INTERRUPTED, SICK, UNUSABLE, complain, guarded
from downslope.cli.voice import Voice
from downslope.core.errors import InputError
from downslope.core.names import nearest

if TYPE_CHECKING:
    from downslope.tuning.plan import Plan
    from downslope.tuning.search import Search

Trials = Annotated[int | None, typer.Option("--trials", help="Configurations to try; 64 without a budget.")]
Budget = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="What it may take at most: 90s, 10m, 1h, or '5000 steps'."),
]
Sampler = Annotated[
    str,
    typer.Option("--sampler", metavar="NAME", help="random, grid, sobol, tpe, gp or cma.", show_default=True),
]
Space = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="KEY=DIMENSION",
        help="A key to search, for keys that are options too: seeds=..., steps=int:100:1000. Repeatable.",
    ),
]
Widen = Annotated[
    bool, typer.Option("--widen", help="Widen, within the budget, ranges at whose end the best lie.")
]
Pruner = Annotated[
    str | None,
    typer.Option(
        "--pruner",
        metavar="NAME",
        help="End trials on their way: halving, hyperband, asynchronous, stop-halving, median; or pbt.",
    ),
]
_OPTIONS = (
    "target", "recipe", "set", "weights", "seed", "seeds", "trials", "budget", "sampler", "space", "widen",
    "pruner", "batch", "confirm", "fresh", "storage", "workers", "ray", "folder", "output", "report", "json",
    "quiet", "debug", "help",
)  # fmt: skip


def tune(
    context: typer.Context,
    task: ask.Task,
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    weights: ask.WeightsFile = None,
    trials: Trials = None,
    budget: Budget = None,
    sampler: Sampler = "random",
    space: Space = None,
    widen: Widen = False,
    pruner: Pruner = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each trial.", show_default=True)] = 1,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", help="Trials trained together: 32; 8 with tpe, gp or cma, which learn between."
        ),
    ] = None,
    confirm: Annotated[
        int, typer.Option("--confirm", help="Best trials to train again.", show_default=True)
    ] = 3,
    fresh: Annotated[
        int, typer.Option("--fresh", help="Fresh seeds for each of them.", show_default=True)
    ] = 5,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="URL", help="Journal or database that several processes share."),
    ] = None,
    workers: ask.Workers = 1,
    ray: ask.Ray = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.", show_default=True)] = 0,
    folder: ask.Folder = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The best recipe. One of another search is replaced, which is said; a search that is "
            "interrupted before it confirms its best leaves it.",
        ),
    ] = Path("best.toml"),
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Search hyper-parameters, confirm the best with fresh seeds, and write its recipe.

    Any key is an option with a range: --lr log:1e-4:1 --model.width int:16:512 --optimizer choice:sgd,adam.
    Without one, the optimizer's own: its rate, its momentum or betas, its weight decay.
    """
    voice = Voice(json=json, quiet=quiet)

    def act() -> int:
        named, keys = parted([task, *context.args])
        given = Given(task=named, target=target, recipe=recipe, settings=ask.with_weights(settings, weights))
        from downslope.cli.outcome import check_writable, save_report
        from downslope.tuning.plan import planned
        from downslope.tuning.price import priced
        from downslope.tuning.tune import carry_out, check_place

        wanted = searched(space or (), keys)
        seconds, steps = limits(budget)
        with voice.alone():
            problem, how = given.load(voice)
            plan = planned(
                problem, how, wanted or None, trials=trials, seconds=seconds, steps=steps, sampler=sampler,
                pruner=pruner, seeds=seeds, batch=batch, confirm=confirm, fresh=fresh, widen=widen,
                workers=workers, ray=ray, seed=seed,
            )  # fmt: skip
            for new in made_for(output, report, storage):
                voice.note(f"tune: {new} is no folder yet: it is made")
            check_writable(output, report)
            check_place(plan, folder, storage)
            voice.begin()
            voice.note(f"tune: {', '.join(f'{key} {each}' for key, each in plan.space.items())}")
            voice.note(f"tune: {priced(plan)}")
            _tell_of_cluster(voice, plan)
            with watching(voice) as watch:
                found = carry_out(
                    plan, folder, storage=storage, progress=False, watch=watch,
                    command=remembered(given, output, report),
                )  # fmt: skip
            _tell_of_lost(voice, plan)
        return told(voice, found, given, output, lambda: save_report(report, found) if report else None)

    return guarded(act, debug=debug)


def _tell_of_cluster(voice: Voice, plan: Plan) -> None:
    """Say where trials are trained, where that is a Ray cluster."""
    if plan.ray is not None:
        from downslope.training.population.ray_workers import told_of

        voice.note(f"tune: {told_of(plan.ray, [plan.recipe] * (plan.batch * plan.seeds))}")


def _tell_of_lost(voice: Voice, plan: Plan) -> None:
    """Say how often a worker of a Ray cluster died under a member."""
    if plan.ray is not None:
        from downslope.training.population.ray_workers import lost_on_ray

        if count := lost_on_ray(plan.ray):
            what = "1 member lost its worker" if count == 1 else f"{count} members lost their worker"
            voice.note(f"tune: {what} on Ray; whoever does is begun anew, once")


def made_for(output: Path, report: Path | None, storage: str | None) -> list[Path]:
    """The folders of these files that are not there yet."""
    files = [output, report, None if storage is None or "://" in storage else Path(storage)]
    above = dict.fromkeys(each.parent for each in files if each is not None)
    return [each for each in above if not each.exists()]


def remembered(given: Given, output: Path, report: Path | None) -> dict[str, Any]:
    """What `downslope resume` says and writes as this command would, in plain values."""
    files = {"output": output, "report": report, "recipe": given.recipe}
    kept = {key: str(path.absolute()) for key, path in files.items() if path is not None}
    target = {} if given.target is None else {"target": given.target}
    return {"task": given.task, "settings": list(given.settings), **target, **kept}


def recalled(kept: Mapping[str, Any]) -> tuple[Given | None, Path | None, Path | None]:
    """What `remembered` gave: the task and what belongs to it, the best recipe's file, the report's."""
    if "task" not in kept:
        return None, None, None
    output, report, recipe = (
        relative(Path(kept[key])) if key in kept else None for key in ("output", "report", "recipe")
    )
    given = Given(
        task=kept["task"], target=kept.get("target"), recipe=recipe, settings=kept.get("settings", ())
    )
    return given, output, report


def relative(path: Path) -> Path:
    """`path` as seen from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def told(
    voice: Voice, found: Search, given: Given | None, output: Path | None, report: Callable[[], Path | None]
) -> int:
    """Write the best recipe and the report, show what was found, and give the exit status.

    Args:
        voice: Speaks.
        found: The search.
        given: What the command line asked for; None of a search that went on.
        output: Where the best recipe goes; None for its folder alone.
        report: Writes the report.
    """
    from downslope.cli.outcome import attempted
    from downslope.reporting import search_rows

    best, unsaved = attempted(lambda: _saved(voice, found, given, output))
    best = best or _own(found)
    written, unwritten = attempted(report)
    task = given.beside(found.edits) if given is not None and found.found else None
    voice.show([*search_rows.rows(found), *search_rows.next_rows(found, task, best, written)])
    voice.document({"verb": "tune", **found.to_dict(), "recipe": best, "report": written})
    if failure := unsaved or unwritten:
        raise failure
    if found.interrupted:
        return INTERRUPTED
    if found.found:
        return DONE
    complain(found.nothing)
    return UNUSABLE if found.failures else SICK


def _saved(voice: Voice, found: Search, given: Given | None, output: Path | None) -> Path | None:
    """Write the best recipe: over one of another search too, unless it may yet change and is kept anyway.

    Raises:
        InputError: the file cannot be written.
    """
    from downslope.core.errors import RecipeError, UnwrittenError

    if not found.found:
        return None
    own = _own(found)
    if output is None:
        return own
    former = _of_another(output, found)
    if former and found.interrupted and not found.best.fresh and own is not None:
        voice.note(f"{output} stays ({former}): this search was interrupted, its best so far is in {own}")
        return own
    try:
        written = found.save(output, () if given is None else given.edits())
    except UnwrittenError as error:
        raise InputError(f"{error}" + (f"; the best is kept in {own}" if own else "")) from None
    except RecipeError as error:
        voice.note(f"{output} is not written: {error}")
        return None
    if former:
        voice.note(f"{output} is replaced (it held {former})")
    return written


def _own(found: Search) -> Path | None:
    """The best recipe in the folder of the search."""
    kept = None if found.folder is None else found.folder / "best.toml"
    return kept if found.found and kept is not None and kept.is_file() else None


def _of_another(path: Path, found: Search) -> str:
    """What the file there holds in a few words; "" where there is none, or this search wrote it."""
    if not path.is_file():
        return ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return "what cannot be read"
    heads = [line[2:].partition(": ") for line in lines if line.startswith("# ")]
    notes = {label: text for label, _, text in heads}
    if found.folder is not None and notes.get("search") == found.folder.absolute().name:
        return ""
    return notes.get("best", "another recipe")


@contextlib.contextmanager
def watching(voice: Voice) -> Generator[Callable[[Any], None]]:
    """A block in which the table of the best so far is kept up to date on standard error."""
    if voice.quiet:
        yield lambda _: None
        return
    from downslope.reporting.search_live import Live

    with Live() as live:
        yield live


def searched(listed: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Key to the text of its dimension: of ``--space key=dimension``, and of ``--key dimension``.

    Raises:
        InputError: a word without an option, a key without a dimension, or one that is given twice.
    """
    found: dict[str, str] = {}
    pairs = [_pair(text) for text in listed]
    left = list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            raise InputError(f"{word!r} belongs to no option; a range goes behind its key: --lr log:1e-4:1")
        key, sign, text = word[2:].partition("=")
        if not sign:
            if not left or left[0].startswith("--"):
                raise InputError(f"{word}: a range must follow, {word} log:1e-4:1{_near(key)}")
            text = left.pop(0)
        pairs.append((key, text))
    for key, text in pairs:
        spelt = ".".join(part.replace("-", "_") for part in key.strip().split("."))
        if ":" not in text:
            raise InputError(f"--{key} {text}: no range, such as log:1e-4:1 or choice:a,b{_near(key)}")
        if spelt in found:
            raise InputError(f"--{key} is given twice: give it once")
        found[spelt] = text
    return found


def parted(words: Sequence[str]) -> tuple[str, list[str]]:
    """The task, and the keys with their ranges, in whatever order they were written.

    Raises:
        InputError: no task.
    """
    left, rest = list(words), list[str]()
    while left:
        word = left.pop(0)
        if not word.startswith("--"):
            return word, [*rest, *left]
        rest += [word] if "=" in word else [word, *left[:1]]
        left = left if "=" in word else left[1:]
    raise InputError(f"{words[0]} stands where TASK goes: downslope tune task.py --lr log:1e-4:1")


def limits(budget: str | None) -> tuple[float | None, int | None]:
    """Seconds and steps that a budget allows; None where it does not limit them.

    Raises:
        InputError: neither a time nor steps.
    """
    from downslope.core.budget import Budget as Read

    if budget is None:
        return None, None
    found = Read(budget)
    return (None, found.steps) if found.steps is not None else (found.seconds, None)


def _pair(text: str) -> tuple[str, str]:
    key, sign, dimension = text.partition("=")
    if not sign or not key.strip():
        raise InputError(f"--space {text}: must be key=dimension, such as lr=log:1e-4:1")
    return key, dimension


def _near(key: str) -> str:
    """The option that an unknown word may have meant."""
    near = nearest(key, _OPTIONS, 1)
    return f"; did you mean --{near[0]}?" if near and near[0] != key else ""
