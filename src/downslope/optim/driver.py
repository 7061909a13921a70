"""The driver: the one `torch.optim.Optimizer` of this package, which runs every chain of rules.

    step = closure, hooks, then for each group: is the layout still right? else lay out; step each bucket.

It owns backends and layout; the mathematics is in the rules. `plan` tells what runs and why.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.core.errors import ModelError, RecipeError
from downslope.optim import ops
from downslope.optim.composed import composed
from downslope.optim.domains import DOMAINS, Domains, Switch, check, check_of
from downslope.optim.group import GroupLayout, Work
from downslope.optim.implementation import check_implementation
from downslope.optim.kinds import check_parameters
from downslope.optim.nonfinite import Guarded
from downslope.optim.options import GROUP_OPTIONS, check_options, taken_apart
from downslope.optim.picks import check_patterns
from downslope.optim.plan import Plan, check_backend, check_forced, rows_of, unheard
from downslope.optim.refusals import (
    check_entry,
    check_foreign,
    check_group_names,
    check_has_params,
    check_leaf,
    check_saved,
    check_there,
    check_trainable,
    listed,
)
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain
from downslope.optim.saved import (
    STAMP,
    check_stamp,
    check_state_keys,
    drop_fixed,
    kin,
    restore,
    state_keys,
    watched,
)
from downslope.optim.scheduled import Scheduler, check_alone
from downslope.optim.shown import Mode, does_show
from downslope.optim.steps import called, run

__all__ = ["Optimizer", "Params"]

Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


class Optimizer(Guarded, torch.optim.Optimizer):
    """Runs a chain of rules on parameters, with the fastest backend that fits each of them.

    Subclasses name their settings, which become entries of every parameter group, and compose the chain from
    them. A setting changed in ``param_groups`` (by a scheduler, by hand) counts from the next step on.

    Args:
        params: parameters, named parameters, or groups of them.
        settings: hyper-parameters by name.
        backend: ``"reference"`` (the rules as written), ``"eager"`` (in place, list-wise), ``"native"``
            (torch's fused kernel), ``"kernel"`` (a loop made of the rules, on the CPU), ``"compiled"``
            (the same by torch.compile, for GPUs), or None: the fastest that fits.
        implementation: arguments of torch's class that choose among its implementations; checked and ignored.

    Raises:
        RecipeError: a hyper-parameter outside its domain or misspelt, or a backend that cannot run this.
        ModelError: no parameters, one given twice, or one that the rules cannot step.
    """

    source: ClassVar[str] = ""
    batch: ClassVar[str | None] = None
    """``"full"`` where every step must see the whole training set."""

    options: ClassVar[Mapping[str, Any]] = GROUP_OPTIONS
    """What groups of every class may say beside its settings, and what counts where they do not."""

    implementation: ClassVar[tuple[str, ...]] = ()
    """What torch's class of that name takes to choose among its implementations; taken and ignored here."""

    domains: ClassVar[Domains] = {}
    """Where settings may lie, None for anywhere; it comes before the table that all classes share."""

    fixed: ClassVar[Mapping[str, Any]] = {}
    """What torch's class of the same state has as a setting and this one cannot change. It is saved with the
    groups, so that torch steps on in the same way, and refused where it differs."""

    kin: ClassVar[str] = ""
    """The class of whose states its own is one, where that is not itself: see `downslope.optim.saved.kin`."""

    _told = False
    """Whether a change of dtype was said."""
    _former: dict[Tensor, dict[str, Any]] | None = None
    """What the states held before this step laid them out, while it may still be refused."""
    _held: Sequence[Any] = ()
    """The states at the last step, whose places in ``state`` others may take."""

    def __init__(
        self,
        params: Params,
        settings: Mapping[str, Any],
        *,
        backend: str | None = None,
        implementation: Mapping[str, Any] | None = None,
    ) -> None:
        cls = type(self)
        rest = dict(implementation or {})
        self.nonfinite = rest.pop("nonfinite", None)
        drop_fixed(cls.__name__, cls.fixed, rest)
        options, implementation, schedules = taken_apart(rest)
        check_implementation(cls.__name__, implementation, cls.implementation, list(settings))
        self.backend = check_backend(backend)
        self._layouts: list[GroupLayout | None] = []
        self._mode = Mode()
        defaults = {name: check_of(cls, name, value, self._domains) for name, value in settings.items()}
        self._compose(defaults)
        self._scheduler = None if schedules is None else Scheduler(schedules, defaults)
        defaults |= options
        groups = listed(params)
        if not groups:
            raise ModelError("params is empty: the model has nothing to train; pass model.parameters()")
        super().__init__(groups, defaults)  # which calls add_param_group
        check_patterns(self.param_groups, self._compose)

    @property
    def _domains(self) -> Domains:
        return type(self).domains

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Chain | Routes:
        """The chain for one group's `settings`, idle links included, or routes to several.

        Raises:
            RecipeError: settings that do not go together.
        """
        raise NotImplementedError(f"{cls.__name__}.compose")

    def _compose(self, settings: Mapping[str, Any]) -> Chain | Routes:
        return composed(type(self), settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; what it does not set is taken from the constructor's arguments.

        Raises:
            RecipeError: a hyper-parameter outside its domain or misspelt.
            ModelError: no parameters, one given twice, or one that the rules cannot step.
        """
        check_has_params(param_group)
        if isinstance(param_group["params"], Tensor):
            param_group["params"] = [param_group["params"]]
        if not isinstance(param_group["params"], set):
            param_group["params"] = list(param_group["params"])
            self._check_params(param_group["params"])
        for name in self.defaults:
            if name in param_group:
                param_group[name] = check(name, param_group[name], self._domains)
        check_options(param_group, self.defaults)
        check_group_names(type(self).__name__, param_group, self.defaults, self.fixed)
        drop_fixed(type(self).__name__, self.fixed, param_group)
        made = self._compose({**self.defaults, **param_group})
        check_forced(self.backend, made)
        check_parameters(param_group.get("params"), made)
        ops.lean(torch.optim.Optimizer.add_param_group)(self, param_group)
        self._layouts.append(None)

    def _check_params(self, params: list[Any]) -> None:
        if not params:
            raise ModelError("a parameter group is empty: give it parameters, or leave the group out")
        seen = {id(p) for group in getattr(self, "param_groups", []) for p in group["params"]}
        for i, entry in enumerate(params):
            p = check_entry(i, entry)
            if id(p) in seen:
                raise ModelError(
                    f"parameter {i} of shape {tuple(p.shape)} is given twice: each parameter belongs "
                    "into one group once"
                )
            seen.add(id(p))
            check_leaf(i, p)

    @ops.serves_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient; those without are left as they are.

        Args:
            closure: evaluates the model anew and returns the loss.

        Returns:
            What the closure returned, or None.

        Raises:
            RecipeError: a hyper-parameter has left its domain, a sparse gradient, or a backend that does not
                fit.
        """
        if (
            ops.GLOBAL_PRE_HOOKS
            or ops.GLOBAL_POST_HOOKS
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or ops.is_profiling()
        ):
            observed = ops.with_hooks(type(self)._step)
            return observed(self) if closure is None else observed(self, closure)
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._mode.check()
        loss = called(closure)
        if self._scheduler is not None:
            check_alone(self, self._scheduler.schedules)
            self._scheduler.begin(self.param_groups, self.state)
        before = torch.is_grad_enabled()
        ops.set_grad_enabled(False)
        try:
            work = self._sound_work()
            if work is None:
                return loss
            run(work, self._take_back)
        finally:
            ops.set_grad_enabled(before)
            self._former = None
        if self._scheduler is not None:
            self._scheduler.end(self.param_groups)
        return loss

    def _sound_work(self) -> Work | None:
        """All buckets with their gradients; None where the step is left out. Of a step that is left out or
        refused no state remains: to some rules its birth is the first step.
        """
        try:
            work = self._work()
            if not self._nonfinite or self._sound([grads for _, grads in work], self.param_groups):
                return work
        except BaseException:
            self._take_back()
            raise
        self._take_back()
        return None

    def _take_back(self) -> None:
        """Makes the states what they were before this step laid them out, if it did."""
        if self._former is None:
            return
        for p in [p for p in self.state if p not in self._former]:
            del self.state[p]
        for p, entries in self._former.items():
            self.state[p].clear()
            self.state[p].update(entries)
        self._layouts = [None] * len(self.param_groups)

    def _work(self) -> Work:
        """All buckets with their gradients, laid out anew where they have to be."""
        all_work: Work = []
        held = self._held
        kept = len(held) == len(self.state) and all(map(operator.is_, self.state.values(), held))
        for index, layout in enumerate(self._layouts):
            work = layout.ready(self.state) if kept and layout is not None else None
            all_work += self._lay_out(index).work() if work is None else work
        if len(self._held) != len(self.state) or not kept:
            self._held = list(self.state.values())
        if not all_work:
            check_trainable(self.param_groups)
        return all_work

    def _lay_out(self, index: int) -> GroupLayout:
        if self._former is None:
            self._former = {p: dict(entries) for p, entries in self.state.items()}
        group, names = self.param_groups[index], list(self.defaults)
        layout = GroupLayout(group, self.state, self._compose, names, self.backend, self._domains, index)
        before = self._layouts[index]
        self._told = self._told or (before is not None and layout.tells(before))
        self._layouts[index] = layout
        return layout

    @property
    def shows(self) -> bool:
        """Whether it has other weights to evaluate than those that it trains."""
        return any(does_show(group, self._compose) for group in self.param_groups)

    def evaluated(self, p: Tensor) -> Tensor:
        """The weights to evaluate in the place of parameter `p`: `p` itself for most rules."""
        return self._mode.evaluated(self.param_groups, self.state, self._compose, p)

    def shown(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, parameters hold the weights to evaluate, and are then put back bit for bit.

        Schedule-Free and averages of weights train others than they show; for all other rules nothing
        happens. Memory: one copy of the parameters for which it makes a difference.
        """
        return self._mode.shown(self.param_groups, self.state, self._compose)

    def eval(self) -> None:
        """Parameters hold the weights to evaluate from here on, until `train`; see `shown`.

        A state_dict that is saved meanwhile holds the weights that are trained too.
        """
        self._mode.eval(self.param_groups, self.state, self._compose)

    def train(self) -> None:
        """Parameters hold the weights that are trained, as they do unless `eval` was called."""
        self._mode.train()

    @property
    def scheduled(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that change from step to step."""
        return () if self._scheduler is None else tuple(self._scheduler.schedules)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients (or sets them to zero), as torch does, without its profiler record."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def plan(self) -> Plan:
        """What the next step runs, for each kind of tensor, and why. Prints as a table."""
        rows = [
            row
            for index, group in enumerate(self.param_groups)
            for row in rows_of(index, group, self._compose(group), self.backend)
        ]
        return Plan(type(self).__name__, tuple(rows), unheard(self.param_groups))

    def state_dict(self) -> dict[str, Any]:
        """Settings of the groups, and each parameter's state under torch's names; tensors are not copied."""
        saved: dict[str, Any] = ops.lean(torch.optim.Optimizer.state_dict)(self)
        saved["param_groups"] = [{**type(self).fixed, **group} for group in saved["param_groups"]]
        saved = self._with_skipped(self._mode.trained.saved(self.param_groups, saved))
        return {**saved, **({STAMP: kin(type(self), Optimizer)} if self._has_name else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state_dict of this class, or torch's own of the optimizer of the same name. Tensors are
        copied. What is refused leaves the optimizer as it was.

        Raises:
            RecipeError: settings outside their domain, or of an optimizer with another state.
        """
        check_saved(state_dict)
        before = {"state": self.state, "param_groups": self.param_groups}
        rest, trained = self._mode.trained.taken(state_dict)
        try:
            if self._has_name:
                check_stamp(type(self), Optimizer, state_dict)
            with watched(self) as seen:
                ops.lean(torch.optim.Optimizer.load_state_dict)(self, rest)
            for group in self.param_groups:
                check_there(group, self.defaults)
                for name in self.defaults:
                    group[name] = check(name, group[name], self._domains)
                check_options(group)
                drop_fixed(type(self).__name__, self.fixed, group)
                known = state_keys(self._compose, group, [n for n in self.defaults if self._is_switch(n)])
                check_state_keys(type(self).__name__, group, self.state, known)
            if self._has_name:
                for group in seen[0]["param_groups"]:
                    check_foreign(type(self), group, self.defaults, self.fixed)
        except RecipeError:
            self.__dict__.update(before)
            self._layouts = [None] * len(self.param_groups)
            raise
        restore(self, seen[0], self._hosted)
        self._mode.load(self.param_groups, trained)
        self._take_skipped(self.param_groups)

    @property
    def _has_name(self) -> bool:
        """Whether the class tells what it does; a custom chain takes over any state that fits."""
        return type(self)._compose is Optimizer._compose

    def _is_switch(self, name: str) -> bool:
        return isinstance(self._domains.get(name, DOMAINS.get(name)), Switch)

    def _hosted(self, group: dict[str, Any]) -> set[str]:
        return {*self._compose(group).tally, "step", "draws"}

    def __getstate__(self) -> dict[str, Any]:
        kept = {"backend": self.backend, "_scheduler": self._scheduler, "_mode": self._mode}
        return {**super().__getstate__(), **kept, **self._guard()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.defaults.pop("differentiable", None)  # torch's base class adds it here; no rule has it
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        self._layouts = [None] * len(self.param_groups)
