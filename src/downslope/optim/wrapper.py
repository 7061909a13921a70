"""An optimizer around another one, of ours or of torch: it shares groups and state, and has steps of its own.

By name: ``"sam(sgd)"``, ``"lookahead(adam)"``, ``"lookahead(torch.optim:NAdam)"``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from downslope.core import names
from downslope.core.errors import RecipeError
from downslope.optim import ops
from downslope.optim.bases import Base, looks, made, taken
from downslope.optim.composed import check_single
from downslope.optim.domains import DOMAINS, Domains, check
from downslope.optim.driver import Params
from downslope.optim.hooked import labelled, loading, saving
from downslope.optim.inside import note
from downslope.optim.rule import Chain
from downslope.optim.scheduled import Scheduler, check_alone

__all__ = ["Wrapper", "around", "from_text"]


class Wrapper(torch.optim.Optimizer):
    """What wrappers have in common: groups, state and settings are those of `base_optimizer`.

    A subclass has settings of its own, which become entries of the base's groups beside the base's own.
    Schedulers on the wrapper and on the base are the same; hooks of all steps see one step, the base's.

    Args:
        given: parameters, or groups of them, for a base that is to be made; or the base itself.
        base: its class, a factory or a name, unless it is given.
        own: the settings of the wrapper.
        settings: those of the base, where it is to be made.

    Raises:
        RecipeError: a setting outside its domain, or a base that is none.
    """

    source: ClassVar[str] = ""
    title: ClassVar[str] = ""
    """The wrapper's name in front of a setting that the base has too."""
    base: ClassVar[str] = "sgd"
    """The base unless one is told."""
    usual: ClassVar[Mapping[str, Any]] = {}
    """The settings of its own, with their defaults."""
    spelt: ClassVar[Mapping[str, str]] = {}
    """Arguments of its own that are called otherwise in the groups, by what they are called there."""
    domains: ClassVar[Domains] = {}
    needs_closure: ClassVar[bool] = False
    """Whether a step evaluates the loss by itself."""

    def __init__(
        self,
        given: Params | torch.optim.Optimizer,
        base: Base | None,
        own: Mapping[str, Any],
        settings: Mapping[str, Any],
    ) -> None:
        schedules, settings = _apart(settings, own)
        named = {*own, *(f"{self.title}_{name}" for name in own)}
        self.base_optimizer, entries = made(given, self.base if base is None else base, settings, named)
        own = {name: check(name, value, self.domains) for name, value in own.items()}
        self.named = _named(own, self.base_optimizer.defaults, self.title)
        settled = {self.named[name]: value for name, value in own.items()}
        mine = {self.named[name]: schedule for name, schedule in schedules.items()}
        self.scheduler = Scheduler(mine, settled, f"{self.title}_scheduled") if mine else None
        # Not torch's own constructor, which would take the groups a second time.
        super().__setstate__({"defaults": {**self.base_optimizer.defaults, **settled}})
        for group, each in zip(self.param_groups, entries or repeat({}), strict=False):
            group |= self._own(group | each)
        note(self)

    @classmethod
    def described(cls, base: Chain, settings: Mapping[str, Any]) -> Chain:
        """The base's chain with the wrapper's own links where they come, for a catalogue."""
        raise NotImplementedError(f"{cls.__name__}.described")

    def _own(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """The wrapper's entries of a group; those that it does not set, by default."""
        own = {
            key: check(key, group.get(key, self.defaults[key]), {key: self._domain(name)})
            for name, key in self.named.items()
        }
        check_single(type(self).__name__, own)
        return own

    def _begin(self) -> None:
        """Sets what is scheduled of the wrapper's own, for the step that follows."""
        check_alone(self, self.scheduled)
        for group in self.param_groups:
            if not all(key in group for key in self.named.values()):  # it was added to the base
                group |= self._own(group)
        if self.scheduler is not None:
            self.scheduler.begin(self.param_groups, self.state)

    def _end(self) -> None:
        """Counts the step that was made."""
        if self.scheduler is not None:
            self.scheduler.end(self.param_groups)

    @property
    def scheduled(self) -> tuple[str, ...]:
        """Names of the hyper-parameters that change from step to step, its own and the base's."""
        own = () if self.scheduler is None else tuple(self.scheduler.schedules)
        return (*own, *getattr(self.base_optimizer, "scheduled", ()))

    def _domain(self, name: str) -> Any:
        return self.domains.get(name, DOMAINS.get(name))

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's groups."""
        return self.base_optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.base_optimizer.param_groups = groups

    @property
    def state(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's state."""
        return self.base_optimizer.state

    @state.setter
    def state(self, state: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.base_optimizer.state = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group to the base; what it does not set is taken from the constructors' arguments.

        Raises:
            RecipeError: a setting outside its domain, or one that neither has.
        """
        own = self._own(param_group)
        given = {key: param_group.pop(key) for key in own if key in param_group}  # the base has none of them
        try:
            self.base_optimizer.add_param_group(param_group)
        except BaseException:
            param_group |= given
            raise
        self.param_groups[-1] |= own

    @ops.uncompiled
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients, or sets them to zero."""
        self.base_optimizer.zero_grad(set_to_none)

    @ops.serves_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; see the class.

        Args:
            closure: evaluates the model anew and returns the loss.
        """
        given = self._open(() if closure is None else (closure,))
        with labelled(self):
            found = self._step(*given)
        self._close(given)
        return found

    def _open(self, given: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Before a step, to which hooks may give other arguments."""
        hooks: Any = self
        for hook in list(hooks._optimizer_step_pre_hooks.values()):
            changed: Any = hook(self, given, {})
            given = given if changed is None else cast("tuple[Any, ...]", changed[0])
        note(self)
        return given

    def _close(self, given: tuple[Any, ...] = ()) -> None:
        """After a step."""
        hooks: Any = self
        for hook in list(hooks._optimizer_step_post_hooks.values()):
            hook(self, given, {})

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__}._step")

    @property
    def named_class(self) -> type[Any]:
        """The class by which a recipe makes one like it: see `around`."""
        base: Any = getattr(self.base_optimizer, "named_class", type(self.base_optimizer))
        return around(type(self), base)

    # -- gradients that are not finite: see `downslope.optim.nonfinite` ------------------------------------

    @property
    def nonfinite(self) -> str | None:
        """What the base does with a gradient that is not finite."""
        return getattr(self.base_optimizer, "nonfinite", None)

    @property
    def skipped(self) -> int:
        """Steps that the base has left out."""
        return getattr(self.base_optimizer, "skipped", 0)

    @property
    def stopped(self) -> bool:
        """Whether the base has ended its steps."""
        return getattr(self.base_optimizer, "stopped", False)

    # -- the weights to evaluate --------------------------------------------------------------------------

    @property
    def shows(self) -> bool:
        """Whether it has other weights to evaluate than those that it trains."""
        return bool(getattr(self.base_optimizer, "shows", False))

    def evaluated(self, p: Tensor) -> Tensor:
        """The weights to evaluate in the place of parameter `p`."""
        found: Any = getattr(self.base_optimizer, "evaluated", None)
        return p if found is None else found(p)

    def shown(self) -> contextlib.AbstractContextManager[None]:
        """While it lasts, parameters hold the weights to evaluate, and are then put back bit for bit."""
        found: Any = getattr(self.base_optimizer, "shown", contextlib.nullcontext)
        return found()

    def eval(self) -> None:
        """Parameters hold the weights to evaluate from here on, until `train`."""
        cast("Any", getattr(self.base_optimizer, "eval", _nothing))()

    def train(self) -> None:
        """Parameters hold the weights that are trained again."""
        cast("Any", getattr(self.base_optimizer, "train", _nothing))()

    # -- what is saved ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The base's, with what the wrapper keeps."""
        return saving(self, self._saved)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what `state_dict` gave; tensors are copied.

        Raises:
            RecipeError: a setting outside its domain, or the state of another optimizer.
        """
        loading(self, state_dict, self._load)

    def _saved(self) -> dict[str, Any]:
        return self.base_optimizer.state_dict()

    def _load(self, state_dict: dict[str, Any]) -> None:
        self.base_optimizer.load_state_dict(state_dict)
        for group in self.param_groups:
            group |= self._own(group)

    def plan(self) -> Any:
        """What the base's next step runs, where it tells."""
        found: Any = getattr(self.base_optimizer, "plan", None)
        return f"{type(self.base_optimizer).__name__}: torch's own" if found is None else found()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if not name.startswith("_")}
        kept.pop("step", None)  # a scheduler counts by wrapping it
        return kept

    def __repr__(self) -> str:
        return f"{type(self).__name__} around {self.base_optimizer!r}"


def _nothing() -> None:
    """What the modes are to an optimizer that has none."""


def _apart(settings: Mapping[str, Any], own: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schedules of the wrapper's `own` settings, and the base's settings with the others."""
    given: Any = settings.get("schedules")
    mine = {name: given[name] for name in own if isinstance(given, Mapping) and name in given}
    if not mine:
        return {}, dict(settings)
    rest = {name: f for name, f in cast("Mapping[str, Any]", given).items() if name not in mine}
    others = {name: value for name, value in settings.items() if name != "schedules"}
    return mine, others | ({"schedules": rest} if rest else {})


def _named(own: Iterable[str], taken: Mapping[str, Any], title: str) -> dict[str, str]:
    """Names of the wrapper's settings in the groups, apart from those of the base."""
    return {name: f"{title}_{name}" if name in taken else name for name in own}


@functools.cache
def around(wrapper: type[Wrapper], base: Any) -> type[Any]:
    """A class that makes a `wrapper` around `base`, with the settings of both as its arguments."""
    own = taken(base)
    named = _named(wrapper.usual, own, wrapper.title)
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        *(inspect.Parameter(named[name], kind, default=value) for name, value in wrapper.usual.items()),
        *(inspect.Parameter(name, kind, default=value) for name, value in own.items()),
    ]

    def make(cls: type[Any], params: Params, **settings: Any) -> Wrapper:
        del cls
        mine = {name: settings.pop(key) for name, key in named.items() if key in settings}
        made: Any = wrapper
        return made(params, base_optimizer=base, **mine, **settings)

    def compose(cls: type[Any], settings: Mapping[str, Any]) -> Chain:
        del cls
        return wrapper.described(base.compose(settings), settings)

    entries = {
        "__new__": make,
        "__doc__": wrapper.__doc__,
        "__module__": wrapper.__module__,
        "__signature__": inspect.Signature(parameters),
        "around": base,
        "called": {
            **{f"{wrapper.title}_{name}": key for name, key in named.items()},
            **{name: named[own] for name, own in wrapper.spelt.items()},
        },
        "compose": classmethod(compose),
        "batch": getattr(base, "batch", None),
        "options": getattr(base, "options", {}),
        "unnamed": getattr(base, "unnamed", {}),
        "domains": {**getattr(base, "domains", {}), **{named[k]: v for k, v in wrapper.domains.items()}},
    }
    return type(f"{wrapper.__name__}Of{base.__name__}", (wrapper,), entries)


@functools.cache
def from_text(text: str) -> type[Any]:
    """The class for a name such as ``"sam(sgd)"``.

    Raises:
        UnknownNameError: no such wrapper, or no such base.
        RecipeError: a base that cannot be one.
    """
    head, _, rest = names.canonical("optimizer", text).partition("(")
    base = names.resolve("optimizer", rest.removesuffix(")"))
    if not (isinstance(base, type) and issubclass(base, torch.optim.Optimizer)) or looks(base):
        raise RecipeError(
            f"optimizer {text!r}: the one inside must step by one gradient and be a class; 'sgd' is usual"
        )
    return around(names.load(names.TABLE["optimizer"][head]), base)
