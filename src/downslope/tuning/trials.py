"""The trials of a search, as they are kept: each begun before it trains, each ended once, none lost."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from downslope.core.plain import plain
from downslope.tuning.distributions import distributions_of, params_of, reader
from downslope.tuning.life import LEASE, said
from downslope.tuning.reading import read_trials
from downslope.tuning.signature import signed
from downslope.tuning.storage import Storage
from downslope.tuning.trial import LEFT, RESULT, TWICE, Spent, Trial, trial_of

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, TrialState

    from downslope.core.space import Space

__all__ = ["Direction", "Trials", "read_trials"]

_log = logging.getLogger("downslope")

Direction = Literal["minimize", "maximize"]

PAUSE = 1.0
"""Seconds between two looks for signs of life."""

LOSSES = 2
"""Workers that may die over a configuration before it counts as failed."""


class Trials:
    """The trials of one search in a storage.

    Several processes may hold the same search open; each sees what the others have recorded. So that they do
    not begin more together than they should, they look and begin within one `batch`::

        with trials.batch():
            batch = trials.take(n)
            batch += trials.begin(ask(min(n - len(batch), budget - trials.spent.trials)))

    Args:
        storage: Where they are kept.
        space: What is searched.
        signature: What makes it this search and no other, by name: problem, metric, sampler, seed. The space
            and the direction are added to it.
        direction: Of the value.
        name: Of the search within its storage.

    Raises:
        StorageError: what is kept there under this name is another search, or it cannot be used.
    """

    def __init__(
        self,
        storage: Storage,
        space: Space,
        *,
        signature: Mapping[str, Any],
        direction: Direction = "minimize",
        name: str = "tune",
    ) -> None:
        self.storage, self.space, self.name, self.direction = storage, space, name, direction
        self._distributions, self._values = distributions_of(space), reader(space)
        self._ended: dict[int, Trial] = {}
        self._nobody: dict[int, float] = {}
        self._generation = storage.generation
        with self.batch():
            self._study = signed(storage, name, direction, space, signature)
        self._life = storage.life(self._study)
        self.reap()

    @property
    def worker(self) -> str:
        """The name under which this process trains."""
        return self._life.worker

    @property
    def study(self) -> optuna.Study:
        """Optuna's study of this search: for its samplers, its importances, its dashboard."""
        import optuna

        return optuna.load_study(study_name=self.name, storage=self.storage.optuna)

    def widen(self, space: Space) -> None:
        """Let what begins from now on come from `space`: the same keys, wider ranges, the same search."""
        self.space, self._distributions, self._values = space, distributions_of(space), reader(space)

    def note(self, key: str, value: Any) -> None:
        """Keep something of the search as a whole, for every process in it."""
        with self.batch():
            self._optuna.set_study_user_attr(self._study, key, plain(value))

    def noted(self, key: str) -> Any:
        """What any process has kept under `key`; None where none has."""
        with self.storage.telling():
            return self._optuna.get_study_user_attrs(self._study).get(key)

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """One lock and one write for all that is recorded within."""
        return self.storage.batch()

    # to train

    def begin(self, batch: Sequence[Mapping[str, Any]], **attrs: Any) -> list[Trial]:
        """Record configurations as running, all of them in one write, before any of them trains.

        Args:
            batch: Configurations, by the keys of the space; a key whose condition does not hold is absent.
            attrs: What else to keep of each: plain values.

        Raises:
            StorageError: they cannot be recorded; then none of them is.
        """
        from optuna.trial import TrialState, create_trial

        own = {**plain(attrs), "worker": self.worker}
        made = [
            create_trial(state=TrialState.RUNNING, user_attrs=own | more, **kept)
            for kept, more in map(self._kept, batch)
        ]
        with self.batch():
            keys = [self._optuna.create_new_trial(self._study, each) for each in made]
            return [self._read(self._optuna.get_trial(each)) for each in keys]

    def take(self, limit: int) -> list[Trial]:
        """Up to `limit` trials that wait, now running here: those of dead or interrupted workers."""
        from optuna.trial import TrialState

        taken: list[int] = []
        with self.batch():
            for each in self.waiting():
                if len(taken) == limit:
                    break
                with self._not_ended():
                    if self._optuna.set_trial_state_values(each.key, TrialState.RUNNING):
                        self._optuna.set_trial_user_attr(each.key, "worker", self.worker)
                        taken.append(each.key)
            return [self._read(self._optuna.get_trial(each)) for each in taken]

    # to end one

    def done(self, trial: Trial, value: float, **attrs: Any) -> bool:
        """Record the value of a trial.

        One that is not finite ends it as pruned: it is known to be bad, and not how bad.

        Args:
            trial: One that is running here; of one that was taken for lost meanwhile the value is given to
                the trial that follows it, if nobody trains that yet.
            value: What the search compares.
            attrs: What to keep of it: ``seconds`` and ``steps`` count for the budget.

        Returns:
            Whether it was kept.
        """
        from optuna.trial import TrialState

        if not math.isfinite(value):
            return self.pruned(trial, cause=f"diverged: its value is {value}", **attrs)
        return self._end(trial, TrialState.COMPLETE, [float(value)], attrs)

    def pruned(self, trial: Trial, value: float | None = None, *, cause: str = "", **attrs: Any) -> bool:
        """Record that a trial was ended early: `value` is the last that was seen of it."""
        from optuna.trial import TrialState

        finite = value is not None and math.isfinite(value)
        values = [float(value)] if value is not None and finite else None
        return self._end(trial, TrialState.PRUNED, values, {**attrs, **({"cause": cause} if cause else {})})

    def failed(self, trial: Trial, cause: str, **attrs: Any) -> bool:
        """Record that a trial failed of itself: it would again, so it is not retried."""
        from optuna.trial import TrialState

        return self._end(trial, TrialState.FAIL, None, {**attrs, "cause": cause})

    def rung(self, trial: Trial, step: int, value: float) -> None:
        """Record a value on the way, at the few steps where trials are compared."""
        with self.batch(), self._not_ended():
            self._optuna.set_trial_intermediate_value(trial.key, step, float(value))

    def give_back(self, trials: Sequence[Trial] | None = None, cause: str = "interrupted") -> list[Trial]:
        """End trials of this process that were interrupted, and let each wait to be trained again.

        Args:
            trials: Left out, all that are running here.
            cause: Why.

        Returns:
            Those that were given back.
        """
        with self.batch():
            mine = [each for each in self.running() if each.worker == self.worker]
            keys = {each.number for each in (mine if trials is None else trials)}
            given = [each for each in mine if each.number in keys]
            for each in given:
                self._leave(each, "given back", cause)
            self._follow()
        return given

    def reap(self) -> list[Trial]:
        """End the trials whose workers have died, and let each wait to be trained again, once.

        A configuration over which two workers died is failed: it may be what kills them.

        Returns:
            Those that were found.
        """
        with self.batch():
            running = self.running()
            workers = {each.worker for each in running if each.worker not in (None, self.worker)}
            dead = {each for each in workers if each and self._life.dead(each)}
            found = [each for each in running if each.worker in dead or self._is_nobodys(each)]
            for each in found:
                self._leave(each, "lost", f"its worker died ({said(each.worker or 'no name')})")
            self._follow()
        return found

    def settle(self, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until it is known of every worker in this search that it lives, or that it is dead.

        To be asked when nothing is left to begin: of a worker of this machine it is known at once, one of
        another machine shows it within ten seconds, and is dead after a minute without.

        Args:
            given_up: Asked every second; True ends the waiting.

        Returns:
            Whether there are trials that wait to be trained again.
        """
        marks: dict[str, float] = {}
        while not given_up():
            self.reap()
            if self.waiting():
                return True
            others = {each.worker for each in self.running() if each.worker is not None}
            now = {worker: self._life.mark(worker) for worker in others - {self.worker}}
            marks = {worker: marks.get(worker, mark) for worker, mark in now.items()}
            if all(now[worker] != mark for worker, mark in marks.items()):  # nan, of this machine, too
                return False
            time.sleep(PAUSE)
        return False

    # to look at

    def all(self) -> list[Trial]:
        """Every trial, by number. No copy is made of those that have ended."""
        with self.storage.telling():
            found = self._optuna.get_all_trials(self._study, deepcopy=False)
        self._newer()
        ended = self._ended
        return [ended.get(each.number) or self._read(each) for each in found]

    def running(self) -> list[Trial]:
        """Those that somebody trains."""
        return [each for each in self.all() if each.state == "running"]

    def waiting(self) -> list[Trial]:
        """Those that wait to be trained again."""
        return [each for each in self.all() if each.state == "waiting"]

    @property
    def spent(self) -> Spent:
        """What was used of the budget, over all workers and sessions."""
        found = self.all()
        return Spent(
            trials=sum(each.counts for each in found),
            seconds=math.fsum(float(each.attrs.get("seconds") or 0) for each in found),
            steps=sum(int(each.attrs.get("steps") or 0) for each in found),
        )

    # inside

    @property
    def _optuna(self) -> Any:
        return self.storage.optuna

    def _kept(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """A configuration in Optuna's terms; beside it the values that come back rounded."""
        params = params_of(self.space, values)
        dists = {name: self._distributions[name] for name in params}
        back = self._values(params)
        rounded = {key: value for key, value in values.items() if back[key] != value}
        return {"params": params, "distributions": dists}, {"values": rounded} if rounded else {}

    def _end(
        self, trial: Trial, state: TrialState, values: list[float] | None, attrs: Mapping[str, Any]
    ) -> bool:
        result = plain(attrs)
        with self.batch():
            key = self._key_to_tell(trial)
            if key is None:
                return False
            with self._not_ended():
                if result:
                    self._optuna.set_trial_user_attr(key, RESULT, result)
                self._optuna.set_trial_state_values(key, state, values)
                return True
        return False

    def _key_to_tell(self, trial: Trial) -> int | None:
        """Where the end of `trial` is to be recorded; None where it came too late."""
        now = self._read(self._optuna.get_trial(trial.key))
        if now.state == "running" and now.worker == self.worker:
            return trial.key
        follower = next((each for each in self.waiting() if each.retry_of == trial.number), None)
        if now.state in LEFT and follower is not None:
            return follower.key
        _log.warning(
            "trial %d was told too late: it was taken for lost, and is %s", trial.number,
            "trained by another worker" if now.state in LEFT else now.state,
        )  # fmt: skip
        return None

    def _leave(self, trial: Trial, how: Literal["lost", "given back"], cause: str) -> None:
        """End a running trial that is to be trained again, or that has killed two workers."""
        from optuna.trial import TrialState

        losses = trial.losses + (how == "lost")
        again = losses < LOSSES
        if not again:
            cause = f"{cause}, and that of trial {trial.retry_of} before"
        result = {"cause": cause, "left": how if again else "", "losses": losses}
        with self._not_ended():
            self._optuna.set_trial_user_attr(trial.key, RESULT, result)
            self._optuna.set_trial_state_values(trial.key, TrialState.FAIL)

    def _follow(self) -> None:
        """Let one trial follow each that was left; of two (a race in a database) the first counts."""
        from optuna.trial import TrialState

        found = self.all()
        followed: set[int] = set()
        for each in found:
            if each.state == "waiting" and each.retry_of in followed:
                with self._not_ended():
                    self._optuna.set_trial_user_attr(each.key, RESULT, {"cause": TWICE, "left": "given back"})
                    self._optuna.set_trial_state_values(each.key, TrialState.FAIL)
            elif each.retry_of is not None and each.cause != TWICE:
                followed.add(each.retry_of)
        for each in found:
            if each.state in LEFT and each.number not in followed and each.cause != TWICE:
                self._queue(each)

    def _queue(self, trial: Trial) -> None:
        from optuna.trial import TrialState, create_trial

        frozen = self._optuna.get_trial(trial.key)
        own = {"retry_of": trial.number, "losses": trial.losses}
        kept = {k: v for k, v in frozen.user_attrs.items() if k not in (RESULT, "worker", *own)}
        waiting = create_trial(
            state=TrialState.WAITING, params=frozen.params, distributions=frozen.distributions,
            user_attrs={**kept, **own},
        )  # fmt: skip
        self._optuna.create_new_trial(self._study, waiting)

    def _is_nobodys(self, trial: Trial) -> bool:
        """Whether the worker of a running trial died while it took it: it follows another and has none.

        A trial without a worker that follows none is plain Optuna's.
        """
        if trial.worker is not None or trial.retry_of is None:
            return False
        since = self._nobody.setdefault(trial.number, time.monotonic())
        return time.monotonic() - since > LEASE

    def _not_ended(self) -> contextlib.AbstractContextManager[None]:
        """In a database another worker may have ended a trial between two of our looks."""
        from optuna.exceptions import UpdateFinishedTrialError

        return contextlib.suppress(UpdateFinishedTrialError)

    def _newer(self) -> None:
        """Forget the trials that were read of a storage that has been opened anew."""
        if self._generation != self.storage.generation:
            self._generation = self.storage.generation
            self._ended.clear()

    def _read(self, frozen: FrozenTrial) -> Trial:
        """A trial of ours for one of Optuna's; one that has ended is read once."""
        self._newer()
        known = self._ended.get(frozen.number)
        if known is None:
            known = trial_of(self._values, frozen)
            if known.ended:
                self._ended[known.number] = known
        return known
