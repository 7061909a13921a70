"""``downslope race TASK --optimizers sgd,adam``: who is better, after equal tuning, on equal seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from downslope.cli import options as ask
from downslope.cli.given import Given
from downslope.cli.guard import guarded
from downslope.cli.race_told import batches_told, told
from downslope.cli.race_words import check_settings, space_of, without, words_of
from downslope.cli.voice import Voice

if TYPE_CHECKING:
    from downslope.racing.result import Race

_Task = Annotated[
    str | None,
    typer.Argument(
        metavar="[TASK]", show_default=False, help="What to race on, as for fit; or give --suite."
    ),
]
_Optimizers = Annotated[
    str | None,
    typer.Option(
        "--optimizers",
        metavar="NAMES",
        help="Who races, with commas: sgd,adam; torch's own as torch.optim:ASGD, one's own as my.py:MyOpt.",
    ),
]
_Recipes = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="FILE", help="A recipe file that races too. Repeatable."),
]
_Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        metavar="NAME",
        help="Race on a set of problems: tiny (two, under a second each time), small (six, about 30 s each "
        "time on one core): once for every contestant, trial and seed.",
    ),
]
_BatchSizes = Annotated[
    str | None,
    typer.Option("--batch-sizes", metavar="SIZES", help="Race batch sizes against the clock: 1,10,100,full."),
]
_Rate = Annotated[
    str,
    typer.Option("--rate", help="Of --batch-sizes: tuned for each, scaled from the recipe's, or the same."),
]
_Seeds = Annotated[
    int | None, typer.Option("--seeds", help="Fresh seeds of each contestant, 8.", show_default=False)
]
_Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", help="Runs by which each is tuned, 16; of each batch size 8.", show_default=False
    ),
]
_Space = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="KEY=RANGE",
        help="What is tuned: lr=log:1e-4:1; of one: sgd.lr=log:1e-3:10. Repeatable.",
    ),
]
_By = Annotated[str, typer.Option("--by", help="What decides: level, steps or seconds (to the target).")]
_TargetLevel = Annotated[
    float | None, typer.Option("--goal", metavar="LEVEL", help="Level to reach; left out, the task's goal.")
]
_Retune = Annotated[bool, typer.Option("--retune", help="Tune anew for every seed.")]
_Widen = Annotated[
    bool,
    typer.Option("--widen", help="Widen a range at whose end the best trials lie, within the same trials."),
]
_Whole = Annotated[bool, typer.Option("--whole", help="Race every seed, even when it is decided before.")]
_Board = Annotated[
    Path | None,
    typer.Option("--board", metavar="FILE", help="Leaderboard (TOML) to which the race is added."),
]


def race(
    task: _Task = None,
    optimizers: _Optimizers = None,
    recipes: _Recipes = None,
    suite: _Suite = None,
    batch_sizes: _BatchSizes = None,
    rate: _Rate = "tuned",
    target: ask.Target = None,
    recipe: ask.RecipeFile = None,
    settings: ask.Settings = None,
    seeds: _Seeds = None,
    trials: _Trials = None,
    space: _Space = None,
    by: _By = "level",
    goal: _TargetLevel = None,
    retune: _Retune = False,
    widen: _Widen = False,
    whole: _Whole = False,
    seed: ask.Seed = None,
    budget: ask.Time = None,
    board: _Board = None,
    workers: ask.Workers = 1,
    ray: ask.Ray = None,
    folder: ask.Folder = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the race as JSON.")
    ] = None,
    report: ask.ReportPath = None,
    json: ask.Json = False,
    quiet: ask.Quiet = False,
    debug: ask.Debug = False,
) -> int:
    """Tune every contestant by the same number of runs, race all on the same fresh seeds, say who is better.

    A winner is named only beyond chance, and the race stops once that is sure. `downslope resume FOLDER` goes
    on with one that was interrupted.
    """
    voice = Voice(json=json, quiet=quiet)
    given = None if task is None else Given(task=task, target=target, recipe=recipe, settings=settings or ())

    def act() -> int:
        from downslope.cli.outcome import check_writable
        from downslope.core.errors import InputError

        with voice.alone():
            check_writable(report, save, board)
        if batch_sizes is not None:
            _refuse_with_batches({
                "--optimizers": optimizers, "--with": recipes, "--suite": suite, "--seeds": seeds,
                "--space": space, "--goal": goal, "--retune": retune, "--widen": widen, "--whole": whole,
                "--board": board, "--folder": folder, "--by": by != "level", "--workers": workers != 1,
                "--ray": ray,
            })  # fmt: skip
            return _batches(
                voice, _needed(given), batch_sizes, rate, trials, ask.seconds(budget), seed, save, report
            )
        if rate != "tuned":
            raise InputError(f"--rate {rate} is of a race of batch sizes: give --batch-sizes 1,10,100 too")
        options: dict[str, Any] = {
            "seeds": 8 if seeds is None else seeds, "trials": 16 if trials is None else trials, "by": by,
            "retune": retune, "widen": widen,
            "early": not (whole or board is not None), "seed": seed or 0,
            "space": space_of(space, [*ask.listed(optimizers), *(each.stem for each in recipes or ())]),
        }  # fmt: skip
        if workers != 1:
            options["workers"] = workers
        if ray is not None:
            options["ray"] = ray
        words = words_of(
            task,
            {
                "--optimizers": optimizers, "--with": recipes, "--suite": suite, "--target": target,
                "--recipe": recipe, "--set": settings, "--seeds": seeds, "--trials": trials, "--space": space,
                "--by": by, "--goal": goal, "--retune": retune, "--widen": widen, "--whole": whole,
                "--seed": seed, "--budget": budget, "--board": board, "--workers": workers, "--ray": ray,
                "--save": save, "--report": report,
            },
        )  # fmt: skip
        found = _raced(
            voice, given, suite, optimizers, recipes or [], goal, board, budget, folder, words, options
        )
        return told(voice, found, board, save, report)

    return guarded(act, debug=debug)


def _raced(
    voice: Voice,
    given: Given | None,
    suite: str | None,
    optimizers: str | None,
    recipes: list[Path],
    goal: float | None,
    board: Path | None,
    budget: str | None,
    folder: Path | None,
    said: list[str],
    options: Mapping[str, Any],
) -> Race:
    from downslope.core.errors import InputError
    from downslope.core.recipe import Recipe
    from downslope.racing.asked import problems_of
    from downslope.racing.board import AGREED, Board
    from downslope.racing.ledger import FILE, target_in
    from downslope.racing.race import race as run
    from downslope.reporting.race_live import Live
    from downslope.training.recorder import new_folder

    words = [*ask.listed(optimizers), *recipes]
    if not words:
        raise InputError("nobody races: give --optimizers sgd,adam, or --with recipe.toml")
    contestants: dict[str, Any] = {}
    for each in words:
        name = each.stem if isinstance(each, Path) else each.rpartition(":")[2]
        if isinstance(each, str) and each.partition(":")[0].endswith(".py"):
            each = f"{Path(each.partition(':')[0]).resolve()}:{name}"
        if name in contestants:
            raise InputError(f"two contestants are called {name!r}: each races once")
        contestants[name] = Recipe.load(each) if isinstance(each, Path) else each
    targets: Any = goal
    with voice.alone():
        if suite is not None:
            if given is not None:
                raise InputError(f"--suite {suite} and TASK {given.task}: give one of them")
            problems, shared, targets = _of_suite(voice, suite, goal)
        else:
            check_settings(_needed(given).settings, ask.listed(optimizers))
            problem, how = _needed(given).load(voice)
            problems, shared = problem, how
        where = folder or new_folder("race")
        if (where / FILE).exists():  # of a race that goes on: the board may have been made since
            targets = target_in(where)
        elif board is not None and board.exists():
            there = Board.load(board)
            there.check({key: options[key] for key in AGREED})
            targets = there.targets_for(problems_of(problems), targets) or None
        voice.begin()

        with Live(voice.progress) as live:
            return run(
                problems, contestants, recipe=shared, target=targets, seconds=ask.seconds(budget),
                folder=where, progress=voice.progress and live.picture is None, begin=voice.note,
                tell=live, going=live.going, command=said, **options,
            )  # fmt: skip


def _refuse_with_batches(options: Mapping[str, Any]) -> None:
    from downslope.core.errors import InputError

    for option, value in options.items():
        if value not in (None, False, []):
            raise InputError(f"{option} is of a race of optimizers: --batch-sizes races one recipe's batches")


def _of_suite(voice: Voice, name: str, goal: float | None) -> tuple[dict[str, Any], dict[str, Any], Any]:
    from downslope.racing.suites import suite

    found = suite(name)
    for each, why in found.skipped.items():
        voice.note(f"{each} is left out: {why}")
    voice.note(f"race: a few steps on each of {len(found.tasks)} problems are timed first")
    problems = {each: problem for each, (problem, _) in found.tasks.items()}
    shared = {each: recipe for each, (_, recipe) in found.tasks.items()}
    return problems, shared, found.targets if goal is None else goal


def _batches(
    voice: Voice,
    given: Given,
    sizes: str,
    rate: str,
    trials: int | None,
    seconds: float | None,
    seed: int | None,
    save: Path | None,
    report: Path | None,
) -> int:
    from downslope.core.errors import InputError
    from downslope.racing.batch_sizes import batch_sizes

    try:
        chosen: list[Any] = [each if each == "full" else int(each) for each in ask.listed(sizes)]
    except ValueError:
        raise InputError(
            f"--batch-sizes {sizes}: must be numbers or full, with commas: 1,10,100,full"
        ) from None
    with voice.alone():
        problem, how = given.load(voice)
        voice.begin()
        kind: Any = rate
        found = batch_sizes(
            problem, how, chosen, rate=kind, trials=8 if trials is None else trials, seed=seed or 0,
            seconds=seconds, progress=voice.progress, begin=voice.note,
        )  # fmt: skip
    return batches_told(voice, found, chosen, save, report)


def _needed(given: Given | None) -> Given:
    from downslope.core.errors import InputError

    if given is None:
        raise InputError("nothing to race on: give a TASK, such as digits or task.py, or --suite small")
    return given


def again(folder: Path, voice: Voice, ray: str | None = None, report: Path | None = None) -> int:
    """Go on with the race in `folder`: what it was asked for is said again.

    Args:
        folder: Of the race.
        voice: Speaks.
        ray: Another Ray cluster than it had; "none" goes on without.
        report: Where the report goes; None as it was asked for.

    Raises:
        RunFolderError: the folder does not say what that was.
    """
    from downslope.cli.main import main
    from downslope.core.errors import RunFolderError
    from downslope.racing.ledger import command_in

    words = command_in(folder)
    if words is None:
        raise RunFolderError(
            f"{folder}: this race was begun in Python; ds.race(..., folder={str(folder)!r}) goes on with it"
        )
    if ray is None and "--ray" in words:
        _check_there(words[words.index("--ray") + 1])
    if ray is not None:
        words = without(words, "--ray") + ([] if ray == "none" else ["--ray", ray])
    if report is not None:
        words = [*without(words, "--report"), "--report", str(report.resolve())]
    flags = [*(["--json"] if voice.json else []), *(["--quiet"] if voice.quiet else [])]
    return main(["race", *words, "--folder", str(folder), *flags])


def _check_there(address: str) -> None:
    """Refuse to go on with a race whose cluster is gone, and say how it goes on elsewhere.

    Raises:
        ClusterError: it cannot be joined.
    """
    from downslope.core.errors import ClusterError
    from downslope.training.population.ray_workers import ELSEWHERE, check_reached

    try:
        check_reached(address)
    except ClusterError as error:
        raise ClusterError(f"{error} {ELSEWHERE}") from None
