"""The verb `tune`: search the hyper-parameters of a problem and a recipe."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from downslope.core.errors import ClusterError, InputError, RecipeError, RunFolderError
from downslope.core.problem import Problem
from downslope.core.recipe import Recipe
from downslope.training.broadcast import once
from downslope.training.hushed import hushed
from downslope.training.population.ray_workers import ELSEWHERE, join
from downslope.training.progress import Progress
from downslope.training.recorder import new_folder
from downslope.training.stopping import stoppable
from downslope.tuning import kept
from downslope.tuning.confirmed import Confirmed
from downslope.tuning.hunt import Hunt
from downslope.tuning.marks import told_if_changed
from downslope.tuning.plan import CONFIRM, FRESH, Plan, planned
from downslope.tuning.rung_hunt import RungHunt
from downslope.tuning.search import Search
from downslope.tuning.standing import Standing, Watch
from downslope.tuning.storage import open_storage
from downslope.tuning.strategies import STRATEGIES
from downslope.tuning.told import result
from downslope.tuning.trained import worst
from downslope.tuning.trial import Trial
from downslope.tuning.trials import Trials, read_trials

_log = logging.getLogger("downslope")


def tune(
    problem: Problem,
    recipe: Recipe | None = None,
    space: Mapping[str, Any] | None = None,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    steps: int | None = None,
    sampler: str = "random",
    pruner: str | None = None,
    seeds: int = 1,
    batch: int | None = None,
    confirm: int = CONFIRM,
    fresh: int = FRESH,
    widen: bool = False,
    folder: str | Path | Literal[False] | None = None,
    storage: str | Path | None = None,
    workers: int = 1,
    ray: str | None = None,
    seed: int = 0,
    progress: bool = True,
    resume: bool = False,
    watch: Watch | None = None,
) -> Search:
    """Search `space` for the recipe with the best measure on the validation data.

    Trials are trained in batches, as populations, from the seed of the recipe: all start alike, and differ by
    their values alone. Each is in the journal before it trains. One that diverges counts as the worst there
    is, one that fails as failed. Then the best few are trained again with fresh seeds, as the best of many
    values was partly luck. Ctrl-C, in any phase, ends it with what there is.

    Args:
        problem: What is learnt. Its metric on validation data is the value; its loss without a metric, by the
            objective as it is given here, also where settings of the objective are searched.
        recipe: How, apart from what is searched; left out, Adam with its defaults.
        space: Key to dimension: ``{"lr": ds.log(1e-4, 1), "model.width": ds.integer(16, 512)}``; keys of the
            recipe, entries of its settings ("betas.0"), arguments of the model's factory ("model.width"),
            settings of the objective ("objective.label_smoothing") and of the initialisation ("init.scale").
            Left out, `downslope.tuning.defaults.default_space` of the recipe's optimizer.
        trials: Configurations, in [1, inf); 64 where no budget is given.
        seconds: Longest time, in (0, inf), of which a fifth is kept for the confirmation.
        steps: Optimizer steps of all trials, in [1, inf), of which a fifth is kept likewise.
        sampler: "random", "grid", "sobol", "tpe", "gp" or "cma".
        pruner: Ends trials on their way: "halving" and "hyperband" compare all after the same training,
            "asynchronous", "stop-halving" and "median" with what has come in so far; "pbt" lets the worst go
            on from the best with other hyper-parameters (``search.schedule``). None ends none.
        seeds: Runs of each trial, whose value is their mean, in [1, inf).
        batch: Trials that are begun together at most, in [1, inf). Left out, 32; 8 for a sampler that learns
            ("tpe", "gp", "cma"), which it does between batches.
        confirm: How many of the best are trained again, in [0, inf).
        fresh: With how many fresh seeds each, in [2, inf).
        widen: Whether a range at whose end the best lie is widened on the way, within the budget.
        folder: Where it is kept; None makes ``runs/<time>-tune``, False keeps it in memory.
        storage: A journal or a database that several processes share, as URL or path; else that of `folder`.
        workers: Processes that train, crews and single members, as in `fit_population`; in [1, inf).
        ray: Address of a Ray cluster that does, in the place of `workers`: "host:port", "auto", "local",
            "ray://host:port", as in `fit_population`. One that goes away interrupts the search.
        seed: Of the draws, in [0, 2**63).
        progress: Whether to show how far it is, on standard error.
        resume: Go on with the search in `folder`.
        watch: Told how far it is, in the place of the progress line.

    Returns:
        The search: ``ds.fit(*search.best)`` trains its best.

    Raises:
        InputError: an argument outside of its domain, or a problem that cannot be trained.
        SpaceError: a range that is none, or a key that nothing has (the nearest is told).
        ClusterError: a cluster that cannot be joined.
        StorageError: a storage that is locked, gone or of another search.
        RunFolderError: a folder that holds a search already, or none to go on with.
    """
    plan = planned(
        problem, recipe, space, trials=trials, seconds=seconds, steps=steps, sampler=sampler, pruner=pruner,
        seeds=seeds, batch=batch, confirm=confirm, fresh=fresh, widen=widen, workers=workers, ray=ray,
        seed=seed,
    )  # fmt: skip
    place = _place(folder, resume)
    table: Mapping[str, Any] = {}
    if resume and place is not None:
        former, table = kept.read_plan(place, problem, plan.recipe)
        storage = storage or table.get("storage")
        plan = plan.over(former.space) if table.get("widened") else plan
    return _tuned(plan, place, storage, table, progress, watch)


def carry_out(
    plan: Plan,
    folder: str | Path | Literal[False] | None = None,
    *,
    storage: str | Path | None = None,
    progress: bool = True,
    watch: Watch | None = None,
    command: Mapping[str, Any] | None = None,
) -> Search:
    """Make the search that a plan asks for; `tune` is this after `planned`.

    Args:
        plan: What `planned` gave.
        folder: As in `tune`.
        storage: As in `tune`.
        progress: As in `tune`.
        watch: As in `tune`.
        command: What the command line was given besides, kept for `downslope resume`: plain values.

    Raises:
        RunFolderError: a folder that holds a search already, or a run.
        StorageError: a storage that is locked, gone or of another search.
    """
    table = {} if command is None else {"command": command}
    return _tuned(plan, _place(folder, False), storage, table, progress, watch)


def check_place(plan: Plan, folder: str | Path | None, storage: str | Path | None) -> None:
    """Refuse, before anything is timed or trained, what `carry_out` would refuse.

    Raises:
        RunFolderError: a folder that holds a search already, or a run.
        StorageError: a storage that is locked, gone or of another search.
    """
    if folder is not None:
        if kept.is_search(place := Path(folder)):
            raise RunFolderError(
                f"{place} holds a search already: `downslope resume {place}` goes on with it, "
                "another --folder begins one"
            )
        _place(folder, False)
    if storage is not None and ("://" in str(storage) or Path(storage).exists()):
        with open_storage(storage) as opened:
            direction = "maximize" if plan.direction == "max" else "minimize"
            Trials(opened, plan.asked, signature=plan.signature, direction=direction)


def resume(
    folder: str | Path,
    problem: Problem | None = None,
    recipe: Recipe | None = None,
    *,
    ray: str | None = None,
    progress: bool = True,
    watch: Watch | None = None,
) -> Search:
    """Go on with the search in `folder` as it was asked for.

    Args:
        folder: Of a search, finished or not; of one that is finished nothing is trained again.
        problem: The problem, where it cannot be found from the folder (code in a notebook).
        recipe: The recipe, where it holds code.
        ray: Another Ray cluster than it had; "none" goes on without.
        progress: Whether to show how far it is.
        watch: As in `tune`.

    Raises:
        RunFolderError: no search there.
        ModelError: the problem is not found again: give it.
        ClusterError: a cluster that cannot be joined.
    """
    place = Path(folder)
    plan, table = kept.read_plan(place, problem, recipe)
    if ray is not None:
        plan = replace(plan, ray=None if ray == "none" else ray)
    if plan.ray is not None and (ray is not None or kept.read_result(place).get("interrupted", True)):
        _join(plan.ray, told=ray is not None)  # a search that has ended needs none
    return _tuned(plan, place, table.get("storage"), table, progress, watch)


def _join(address: str, *, told: bool) -> None:
    """Join a cluster; of one that nobody named just now it is said how to go on elsewhere.

    Raises:
        ClusterError: it cannot be joined.
    """
    try:
        join(address)
    except ClusterError as error:
        raise error if told else ClusterError(f"{error} {ELSEWHERE}") from None


def load_search(folder: str | Path, problem: Problem | None = None, recipe: Recipe | None = None) -> Search:
    """The search in `folder`, finished or not; nothing is trained or written.

    Args:
        folder: What `Search.folder` said.
        problem: The problem, where it cannot be found from the folder (code in a notebook).
        recipe: The recipe, where it holds code.

    Raises:
        RunFolderError: no search there.
        StorageError: its storage is gone.
        ModelError: the problem is not found again: give it.
    """
    place = Path(folder)
    plan, table = kept.read_plan(place, problem, recipe)
    found = read_trials(table.get("storage") or place, plan.space)
    former = kept.read_result(place)
    return Search(
        plan=plan,
        trials=tuple(found),
        confirmed=_confirmed(former, found, plan),
        curves=kept.read_curves(place),
        seconds=float(former.get("seconds") or 0.0),
        steps=int(former.get("steps") or 0),
        interrupted=bool(former.get("interrupted", True)),
        stopped=former.get("stopped"),
        widenings=tuple(table.get("widened", ())),
        folder=place,
        journal=former.get("journal"),
    )


def _place(folder: str | Path | Literal[False] | None, resume: bool) -> Path | None:
    if folder is False:
        if resume:
            raise InputError("resume=True with folder=False: give the folder of the search to go on with")
        return None
    if folder is None:
        if resume:
            raise InputError("resume=True without a folder: give that of the search to go on with")
        return new_folder("tune")
    place = Path(folder)
    if kept.is_search(place) and not resume:
        raise RunFolderError(
            f"{place} holds a search already: `downslope resume {place}` or resume=True goes on with it, "
            "another folder begins one"
        )
    if (place / "run.json").exists():
        raise RunFolderError(f"{place} holds a run: give the search a folder of its own")
    if resume and not kept.is_search(place):
        raise RunFolderError(f"{place}: no search there to go on with ({kept.SEARCH} is missing)")
    return place


def _tuned(
    plan: Plan,
    place: Path | None,
    storage: str | Path | None,
    table: Mapping[str, Any],
    progress: bool,
    watch: Watch | None,
) -> Search:
    if plan.problem.valid_source is None:
        _log.warning("tune: no validation data, trials are judged on the training data; give valid=")
    for each in (place, storage):
        kept.tell_if_foreign(each)
    where = None if storage is None else kept.lasting(storage)
    told: Sequence[str] = table.get("widened", ())
    command = {"command": table["command"]} if "command" in table else {}
    with open_storage(storage if storage is not None else place) as opened:
        direction = "maximize" if plan.direction == "max" else "minimize"
        trials = Trials(opened, plan.asked, signature=plan.signature, direction=direction)
        told_if_changed(trials, plan.problem)
        journal = opened.place if opened.place != "memory" else None

        def write(now: Plan, widenings: Sequence[str]) -> None:
            if place is not None:
                kept.write_plan(place, now, where, {"widened": list(widenings), **command})

        write(plan, told)
        with (
            Progress("tune", plan.trials, shown=progress and watch is None, unit="trials") as bar,
            once(),
            hushed(),
        ):
            kind = RungHunt if plan.pruner in STRATEGIES else Hunt
            hunt = kind(plan, trials, folder=place, watch=watch or _teller(bar), on_widened=write)
            hunt.curves |= kept.read_curves(place)
            if told:
                hunt.use(plan.space, told)
            confirmed: tuple[Confirmed, ...] = ()
            with stoppable(hunt.stop):
                try:
                    hunt.search()
                    confirmed = _kept_confirmation(place, hunt) or hunt.confirm()
                except KeyboardInterrupt:
                    hunt.stop()
                finally:
                    hunt.hear()
                    trials.give_back()
        found = _search(hunt, trials, confirmed, place, journal)
    if place is not None:
        try:
            kept.write_result(place, result(found))
            if found.found and not found.recipe.coded:
                found.save(place / kept.BEST)
        except (OSError, RecipeError) as error:
            _log.warning("tune: %s is not complete: %s", place, getattr(error, "strerror", None) or error)
    return found


def _search(
    hunt: Hunt, trials: Trials, confirmed: tuple[Confirmed, ...], place: Path | None, journal: str | None
) -> Search:
    spent = trials.spent
    return Search(
        plan=hunt.plan,
        trials=tuple(trials.all()),
        confirmed=confirmed,
        curves=hunt.curves,
        seconds=hunt.seconds,
        steps=spent.steps + hunt.fresh_steps,
        interrupted=hunt.interrupted,
        stopped=hunt.stopped or (hunt.exhausted if any(e.state == "done" for e in trials.all()) else None),
        widenings=tuple(hunt.widenings),
        folder=place,
        journal=journal,
    )


def _kept_confirmation(place: Path | None, hunt: Hunt) -> tuple[Confirmed, ...]:
    """What an earlier session confirmed, where nothing was tried since."""
    former, found = kept.read_result(place), hunt.trials.all()
    ended = {each.number for each in found if each.ended}
    known = {
        each["number"] for each in former.get("trials", ()) if each["state"] not in ("running", "waiting")
    }
    if former.get("interrupted") or not ended <= known:
        return ()
    confirmed = _confirmed(former, found, hunt.plan)
    hunt.ended_before(int(former.get("steps") or 0), float(former.get("seconds") or 0.0))
    return confirmed


def _confirmed(former: Mapping[str, Any], found: Sequence[Trial], plan: Plan) -> tuple[Confirmed, ...]:
    """What a result holds of the confirmation; a value that is not finite is null there."""
    values = {each.number: each.values for each in found}
    bad = worst(plan.problem)
    return tuple(
        Confirmed(
            each["trial"],
            values[each["trial"]],
            each["seen"],
            tuple(bad if value is None else float(value) for value in each["fresh"]),
            tuple(each["seeds"]),
        )
        for each in former.get("confirmed", ())
        if each["trial"] in values
    )


def _teller(bar: Progress) -> Watch:
    def tell(standing: Standing) -> None:
        best = standing.best
        numbers = (
            "" if best is None or best.value is None else f"best {standing.plan.measure} {best.value:.4g}"
        )
        if standing.phase == "confirming":
            numbers += ", confirming it with fresh seeds"
        bar.update(standing.ended, numbers)

    return tell
