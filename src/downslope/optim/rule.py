"""A rule: from a gradient to a step, in operators only. Rules chain into optimizers.

    chain(CoupledDecay(weight_decay=wd), HeavyBall(momentum=b), ScaleByLr(lr=lr))     SGD with momentum
    chain(CoupledDecay(weight_decay=wd), ScaleByAdam(betas=(b1, b2)), ScaleByLr(...))  Adam
    chain(ScaleByAdam(...), DecoupledDecay(weight_decay=wd), ScaleByLr(lr=lr))         AdamW

The parameters move to ``p - g'``, where ``g'`` is what the last link returns. A rule knows nothing of
devices, lists or speed: the driver lays it out, and every fast backend is tested against `update` as written
here.

What a rule can say, beside `init`, `at` and `update`:

    tally, advance        numbers that it remembers from step to step, as NAdam the product of its momenta
    measures, settle      sums over its tensor or over everything, as LAMB the norm of the step
    wants_raw             the gradient as it entered the chain, as Cautious
    shown                 other weights to evaluate than those that it trains, as Schedule-Free
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast, overload

from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.counting import reads_step
from downslope.optim.domains import Domains, check_name, check_of
from downslope.optim.flow import Flow, Lists
from downslope.optim.joining import check_links, no_rule
from downslope.optim.scalars import Scalar, Scalars, Scope, check_scope, widest

if TYPE_CHECKING:
    from downslope.optim.kernel.own import Own
    from downslope.optim.native import Anatomy, Native
    from downslope.optim.routes import Routes

__all__ = ["Chain", "Rule", "Scalar", "Scalars", "Scope", "Stateless", "chain", "widest"]

Stateless = tuple[()]
"""The state of a rule that remembers nothing."""

State = TypeVar("State", bound="tuple[Tensor, ...]")


@functools.cache
def field_names(rule: type[Any]) -> tuple[str, ...]:
    """Names of a rule's hyper-parameters."""
    return tuple(field.name for field in dataclasses.fields(rule))


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[State]):
    """One link from gradient to step. Fields are hyper-parameters, checked against the table of domains.

    A subclass defines `init`, `at` (or `advance`) and `update`; it may define `native`, torch's own kernel
    for a chain around it, and `eager`, a second expression of the same rule in place over lists of tensors.
    Unless its scope is "matrix", `update` and `measure` use operators, ``sqrt``, ``abs``, ``sign``,
    ``square``, ``torch.maximum``, ``torch.minimum`` and ``torch.where`` only, so that kernels can be made of
    them: no branch, no power, nothing in place, no sum.
    """

    scope: ClassVar[Scope] = "element"
    memory: ClassVar[type[tuple[Tensor, ...]]] = tuple
    """The NamedTuple of the state."""
    keys: ClassVar[tuple[str, ...]] = ()
    """Names of the state's fields in ``optimizer.state``: torch's own, so that its state can be loaded."""
    counts: ClassVar[bool] = False
    """Whether each parameter keeps ``step``. If not, `at` sees 1 at the state's birth and 2 ever after. Where
    a class says nothing, it counts if its `at`, `advance` or `settle` reads the step."""
    tally: ClassVar[Mapping[str, float]] = {}
    """Numbers that each parameter keeps beside ``step``, by their name in ``optimizer.state``, and where they
    start. They are float64 and advance on the host: see `advance`. Those of a rule of scope "global" are one
    for all parameters, also for such as come later or wait."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Names of the totals that `settle` needs: sums of what `measure` returns, over the rule's scope."""
    peaks: ClassVar[tuple[str, ...]] = ()
    """Which of `measures` are the largest element, of those from 0 on, in place of the sum."""
    wants_raw: ClassVar[bool] = False
    """Whether ``k.raw`` shall be the gradient as it entered the chain, after the sign of ``maximize``."""
    shares: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that another link of the chain owns and this one reads."""
    ends: ClassVar[int] = 0
    """1 where what it returns is the move itself, as it holds other weights than those that it trains: only
    averages of the weights, which are 2 and change nothing, may follow it in a chain."""
    lazy: ClassVar[bool] = False
    """Whether rows that a sparse gradient does not name may stay as they are, and their states too."""
    domains: ClassVar[Domains] = {}
    """Where hyper-parameters may lie, None for anywhere; it comes before the table that all rules share,
    which has `lr`, `betas`, `eps`, `momentum` and others that torch has."""

    kernel: ClassVar[Own | None] = None
    """Kernels of its own, for a chain that is this rule alone; other rules have a loop made of `update`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_scope(cls.__name__, cls.scope)
        if "counts" not in vars(cls) and reads_step(cls, Rule):
            cls.counts = True

    def __post_init__(self) -> None:
        cls = type(self)
        for name in field_names(cls):
            object.__setattr__(self, name, check_of(cls, name, getattr(self, name), cls.domains))
            if type(self).tally and _holds_members(getattr(self, name)):
                raise RecipeError(
                    f"{name} of {type(self).__name__} holds a number for each member: what it remembers, "
                    f"{', '.join(type(self).tally)}, is one number a parameter; train the members one by one"
                )

    @property
    def peak(self) -> tuple[bool, ...]:
        """Which of the totals are largest elements, in the order of `measures`."""
        return tuple(name in self.peaks for name in self.measures)

    @property
    def idle(self) -> bool:
        """Whether the link changes nothing as it is set, so that a driver leaves it out."""
        return False

    def init(self, p: Tensor) -> State:
        """The state before the first step of a parameter `p`."""
        raise NotImplementedError(f"{type(self).__name__}.init")

    def keys_of(self, p: Tensor) -> tuple[str, ...]:
        """The names of the state of parameter `p`: `keys`, unless their number hangs on its shape."""
        return type(self).keys

    def remember(self, tensors: Iterable[Tensor]) -> State:
        """The state made of its tensors, in the order of `keys_of`."""
        return cast("State", self.memory(*tensors))

    def at(self, t: int) -> Scalars:
        """Every derived scalar of step `t` (from 1), in float64."""
        raise NotImplementedError(f"{type(self).__name__}.at")

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[Scalars, Tally]:
        """The derived scalars of step `t`, and the tally after it; a rule without a tally defines `at`."""
        return self.at(t), dict(tally)

    def measure(self, g: Tensor, state: State, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        """What is added up, element by element, one tensor for each of `measures`."""
        raise NotImplementedError(f"{type(self).__name__}.measure")

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, Tally]:
        """The scalars that `update` gets, and the tally after the step, once the totals are known.

        Args:
            t: the step, from 1.
            k: what `advance` gave.
            totals: by the names of `measures`, float64 tensors: of no dimension, or of one with an entry for
                each parameter that is settled; torch's operators serve both, branches and `item` do not.
            tally: what `advance` gave.
        """
        raise NotImplementedError(f"{type(self).__name__}.settle")

    def update(self, g: Tensor, state: State, p: Tensor, k: Scalars) -> tuple[Tensor, State]:
        """What becomes of `g` and of the state; nothing is changed in place, and no scalars are combined."""
        raise NotImplementedError(f"{type(self).__name__}.update")

    def in_place(self, p: Tensor, g: Tensor, state: State, k: Scalars, sign: float) -> bool:
        """A step of a chain that is this rule alone, made in pieces: p and its state change in place.

        Returns:
            Whether it was made; if not, nothing has changed, and `update` makes it.
        """
        return False

    def shown(self, state: State, p: Tensor, tally: Mapping[str, float]) -> Tensor:
        """The weights to evaluate, where they are not those that are trained: never `p` changed in place.

        `tally` is as the last step left it: hyper-parameters may have changed since `p` was made.
        """
        return p

    def eager(self, flow: Flow, state: Lists, p: list[Tensor], k: Scalars) -> Flow:
        """The same over lists, changing `state` in place; unless a rule says better, `update` one by one."""
        moved: list[Tensor] = []
        for i, (g, x) in enumerate(zip(flow.value(p), p, strict=True)):
            step, new = self.update(g, self.remember(column[i] for column in state), x, k)
            for column, tensor in zip(state, new, strict=True):
                column[i].copy_(tensor)
            moved.append(step)
        return Flow(moved, owned=True)

    def native(self, parts: Anatomy) -> Native | None:
        """Torch's fused kernel for a chain whose core is this rule, or None where torch has none."""
        return None

    def fields(self) -> dict[str, Any]:
        """Hyper-parameters by name."""
        return {name: getattr(self, name) for name in field_names(type(self))}

    def replace(self, **changes: Any) -> Self:
        """The same rule with other hyper-parameters; they are checked again."""
        return type(self)(**{**self.fields(), **changes})


def _holds_members(value: Any) -> bool:
    parts = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return any(isinstance(part, Tensor) for part in parts)


AnyRule = Rule[Any]

Tally = dict[str, Any]
"""Numbers of a tally by name; `Rule.settle` may give tensors of no dimension."""


@dataclass(frozen=True, init=False)
class Chain:
    """Rules in the order in which a gradient passes them. Make one with `chain`."""

    links: tuple[AnyRule, ...]

    def __init__(self, links: Iterable[AnyRule]) -> None:
        object.__setattr__(self, "links", tuple(links))

    def __iter__(self) -> Iterator[AnyRule]:
        return iter(self.links)

    @functools.cached_property
    def scope(self) -> Scope:
        """The widest scope of the links."""
        return widest(link.scope for link in self.links)

    @functools.cached_property
    def counts(self) -> bool:
        """Whether any link needs the number of steps."""
        return any(link.counts for link in self.links)

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of all state tensors, link after link, but for those that hang on a shape: see `keys_of`."""
        return tuple(key for link in self.links for key in link.keys)

    def keys_of(self, p: Tensor) -> tuple[str, ...]:
        """Names of all state tensors of parameter `p`, link after link."""
        if self._shapeless:
            return self.keys
        return tuple(key for link in self.links for key in link.keys_of(p))

    @functools.cached_property
    def _shapeless(self) -> bool:
        return all(type(link).keys_of is Rule.keys_of for link in self.links)

    @functools.cached_property
    def has_members(self) -> bool:
        """Whether a hyper-parameter holds a number for each member of a population."""
        return any(map(_holds_members, self.fields().values()))

    @functools.cached_property
    def tally(self) -> dict[str, float]:
        """The numbers that all links keep, and where they start."""
        return {name: start for link in self.links for name, start in link.tally.items()}

    @functools.cached_property
    def common(self) -> frozenset[str]:
        """Those of the tally that all parameters have in common."""
        return frozenset(name for link in self.links if link.scope == "global" for name in link.tally)

    @functools.cached_property
    def measuring(self) -> tuple[int, ...]:
        """Which links need sums, in their order."""
        return tuple(i for i, link in enumerate(self.links) if link.measures)

    @functools.cached_property
    def shows(self) -> bool:
        """Whether a link has other weights to evaluate than those that are trained."""
        return any(type(link).shown is not Rule.shown for link in self.links)

    def fields(self) -> dict[str, Any]:
        """Hyper-parameters of all links by name."""
        return {name: value for link in self.links for name, value in link.fields().items()}

    def replace(self, **changes: Any) -> Chain:
        """The same chain with other hyper-parameters, each given to the link that has it.

        Raises:
            RecipeError: no link has such a hyper-parameter, or its value lies outside its domain.
        """
        known = [name for link in self.links for name in field_names(type(link))]
        for name in changes:
            check_name(name, known, "the chain")
        return Chain(_replaced(link, changes) for link in self.links)

    def active(self) -> Chain:
        """The chain without its idle links."""
        return Chain(link for link in self.links if not link.idle)

    def init(self, p: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """The state of every link before the first step of `p`."""
        return tuple(link.init(p) for link in self.links)

    def at(self, t: int) -> tuple[Scalars, ...]:
        """The scalars of every link at step `t`, where no link has a tally."""
        return tuple([link.at(t) for link in self.links])

    def advance(self, t: int, tally: Mapping[str, float]) -> tuple[tuple[Scalars, ...], Tally]:
        """The scalars of every link at step `t`, and the tally after it.

        Those of links that need sums are still to be settled: see `Rule.settle`.
        """
        if not self.tally:
            return self.at(t), {}
        after: Tally = {}
        ks: list[Scalars] = []
        for link in self.links:
            k, new = link.advance(t, {name: tally[name] for name in link.tally})
            ks.append(k)
            after |= new
        return tuple(ks), after

    def update(
        self, g: Tensor, states: Sequence[tuple[Tensor, ...]], p: Tensor, ks: Sequence[Scalars]
    ) -> tuple[Tensor, tuple[tuple[Tensor, ...], ...]]:
        """The step that the whole chain makes of `g` (p moves to p - step), and the new states.

        Scalars that are tensors, one number per member, are fitted to `p`, whose leading dimension is the
        members'.
        """
        after: list[tuple[Tensor, ...]] = []
        raw = g
        for link, state, k in zip(self.links, states, ks, strict=True):
            g, new = link.update(g, state, p, _given(link, k, raw, p))
            after.append(new)
        return g, tuple(after)

    def measure(
        self, i: int, g: Tensor, states: Sequence[tuple[Tensor, ...]], p: Tensor, ks: Sequence[Scalars]
    ) -> tuple[Tensor, ...]:
        """What link `i` wants added up, when the links before it are settled; no state changes."""
        raw = g
        for link, state, k in zip(self.links[:i], states[:i], ks[:i], strict=True):
            g, _ = link.update(g, state, p, _given(link, k, raw, p))
        return self.links[i].measure(g, states[i], p, _given(self.links[i], ks[i], raw, p))

    def shown(self, states: Sequence[tuple[Tensor, ...]], p: Tensor, tally: Mapping[str, float]) -> Tensor:
        """The weights to evaluate: of the last link that has others than `p`."""
        for link, state in reversed(list(zip(self.links, states, strict=True))):
            if type(link).shown is not Rule.shown:
                return link.shown(state, p, {name: tally[name] for name in link.tally})
        return p


def _given(link: AnyRule, k: Scalars, raw: Tensor, p: Tensor) -> Scalars:
    fitted = k.fit(p)
    if link.wants_raw:
        fitted.raw = raw
    return fitted


def _replaced(link: AnyRule, changes: Mapping[str, Any]) -> AnyRule:
    own = {name: changes[name] for name in field_names(type(link)) if name in changes}
    return link.replace(**own) if own else link


@overload
def chain(*rules: AnyRule | Chain) -> Chain: ...


@overload
def chain(*rules: AnyRule | Chain | Routes) -> Chain | Routes: ...


def chain(*rules: AnyRule | Chain | Routes) -> Chain | Routes:
    """Rules joined into one: the gradient passes them from left to right.

    Args:
        rules: links, or chains, which are taken apart. Routes to several chains may be among them: each of
            their chains gets the links that stand before and after.

    Raises:
        RecipeError: two links have a hyper-parameter or a state of one name, unless one of them only shares
            it, or share one with another value; a link behind one that must be the last; something that is
            no rule.
    """
    given: list[Any] = list(rules)
    for i, rule in enumerate(given):
        if hasattr(rule, "surrounded"):  # routes, whose module stands on this one
            return rule.surrounded(given[:i], given[i + 1 :])
        if not isinstance(rule, Rule | Chain):
            raise no_rule(rule)
    links = [link for rule in given for link in (rule.links if isinstance(rule, Chain) else [rule])]
    check_links(links)
    return Chain(links)
