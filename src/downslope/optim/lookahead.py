"""Lookahead: k steps forward, one step back (Zhang et al. 2019), around any optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.core import randomness
from downslope.core.errors import ModelError, RecipeError
from downslope.optim.aside import Aside, params_of
from downslope.optim.bases import Base
from downslope.optim.domains import Domains, check
from downslope.optim.driver import Params
from downslope.optim.kinds import manner_of
from downslope.optim.looks import check_memory
from downslope.optim.pull import Pulled, pull
from downslope.optim.rounding import Draws
from downslope.optim.rule import Chain, chain
from downslope.optim.seats import Master
from downslope.optim.slow_weights import SlowWeights
from downslope.optim.wrapper import Wrapper

__all__ = ["Lookahead"]

COUNT = "la_count"
"""Entry of a saved state: the base's steps so far."""


class Lookahead(Wrapper):
    """Lookahead: after every k-th step of the base, ``phi = phi + alpha (theta - phi)``, ``theta = phi``.

    theta are the fast weights, which the base steps; phi are the slow ones, and the weights to evaluate. The
    formula is that of the link `SlowWeights`, which does the same inside a chain of rules; here it costs
    nothing but at every k-th step, and the base keeps its own kernels. One tensor of state per parameter
    beside the base's, of its dtype; of float32 where the base rounds half precision by chance or has a copy.

    Args:
        params: an optimizer, of ours or of torch; or parameters, and the base in `base_optimizer`.
        k: steps from one pull to the next, one of 1, 2, ...; in the groups ``la_steps``.
        alpha: share of the way that the slow weights go, in [0, 1]; 1 is the base itself; in the groups
            ``la_alpha``.
        base_optimizer: a class, a factory or a name; Adam if left out.
        **settings: of the base, where it is to be made; `schedules` may name la_alpha too.

    Raises:
        RecipeError: a setting outside its domain.

    Differs from: see `SlowWeights`; the count of steps is one for a group, as the authors' class has it. A
        parameter without a gradient stays where it is, and a step without any is not counted.
    Source: Zhang, Lucas, Hinton and Ba 2019, "Lookahead optimizer: k steps forward, 1 step back",
    algorithm 1.
    """

    source: ClassVar[str] = "Zhang et al. 2019, algorithm 1"
    title: ClassVar[str] = "la"
    base: ClassVar[str] = "adam"
    usual: ClassVar[Mapping[str, Any]] = {"la_steps": SlowWeights.la_steps, "la_alpha": SlowWeights.la_alpha}
    spelt: ClassVar[Mapping[str, str]] = {"k": "la_steps", "alpha": "la_alpha"}
    domains: ClassVar[Domains] = SlowWeights.domains

    def __init__(
        self,
        params: Params | torch.optim.Optimizer,
        k: int = 5,
        alpha: float = 0.5,
        *,
        base_optimizer: Base | None = None,
        **settings: Any,
    ) -> None:
        domains = {name: self.domains[own] for name, own in self.spelt.items()}
        k, alpha = check("k", k, domains), check("alpha", alpha, domains)
        own = {"la_steps": settings.pop("la_steps", k), "la_alpha": settings.pop("la_alpha", alpha)}
        self.count = 0
        self.slow, self.trained = Aside(SlowWeights.keys[0]), Aside("trained")
        super().__init__(params, base_optimizer, own, settings)
        if getattr(self.base_optimizer, "shows", False):
            raise RecipeError(
                f"{type(self.base_optimizer).__name__} inside Lookahead: it has other weights to evaluate "
                "than those that it trains, and so has Lookahead; take one of them"
            )

    @classmethod
    def described(cls, base: Chain, settings: Mapping[str, Any]) -> Chain:
        return chain(base, SlowWeights(**{name: settings[name] for name in cls.usual}))

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        if self.trained:
            raise ModelError("a step while the slow weights are shown: call optimizer.train() before it")
        self._begin()
        params = params_of(self.param_groups)
        if len(self.slow.held) < len(params):
            self._keep()
        if any((self.count + 1) % group["la_steps"] == 0 for group in self.param_groups):
            check_memory(self.slow.held.values())
        skipped = self.skipped
        found: Any = self.base_optimizer.step() if closure is None else self.base_optimizer.step(closure)
        if self.skipped != skipped or all(p.grad is None for p in params):
            return found
        self.count += 1
        self._end()
        kernels = getattr(self.base_optimizer, "backend", None) not in ("eager", "reference")
        for i, group in enumerate(self.param_groups):
            if self.count % group["la_steps"] == 0:
                self._pull(i, group, kernels)
        return found

    def _keep(self) -> None:
        """Slow weights of the parameters that have none: in float32, where a parameter of half precision is
        not just rounded to the nearest, since most of a pull would be lost.
        """
        for group in self.param_groups:
            fresh = [p for p in group["params"] if p not in self.slow.held]
            self.slow.keep(fresh)
            for p in fresh:
                manner = manner_of(p, group)
                if manner.counts or manner.wide_state:
                    copy = self.state[p].get("master") if p in self.state else None
                    self.slow.held[p] = (p.detach() if copy is None else copy).float().clone()

    @torch.no_grad()
    def _pull(self, number: int, group: Mapping[str, Any], kernels: bool) -> None:
        link = SlowWeights(la_steps=group["la_steps"], la_alpha=group["la_alpha"])
        given: list[Pulled] = []
        copies: list[Master] = []
        for place, p in enumerate(group["params"]):
            if p.grad is None:  # as for every optimizer: what has no gradient stays
                continue
            rounding, draws, theta = manner_of(p, group).rounding, None, p
            if rounding == "master" and "master" in self.state.get(p, ()):
                copies.append(Master(p, self.state))
                copies[-1].begin()
                theta = copies[-1].p
            elif rounding == "stochastic":
                seed = group.get("rounding_seed", 0)
                draws = Draws(randomness.address(seed, "pull", number, place, self.count))
            given.append(Pulled(theta, self.slow.held[p], draws))
        pull(given, link, self.count, kernels=kernels)
        for copy in copies:
            copy.done()

    @property
    def shows(self) -> bool:
        """Always: the slow weights."""
        return True

    def evaluated(self, p: Tensor) -> Tensor:
        """The slow weights of parameter `p`."""
        return p if self.trained else self.slow.held.get(p, p).to(p.dtype)

    @contextlib.contextmanager
    def shown(self) -> Generator[None]:
        """While it lasts, parameters hold the slow weights, and are then put back bit for bit."""
        outermost = not self.trained
        self.eval()
        try:
            yield
        finally:
            if outermost:
                self.train()

    @torch.no_grad()
    def eval(self) -> None:
        """Parameters hold the slow weights from here on, until `train`."""
        if not self.trained:
            check_memory(self.slow.held.values())
            self.trained.keep(self.slow.held)
            for p, held in self.slow.held.items():
                p.copy_(held)

    def train(self) -> None:
        """Parameters hold the fast weights again, bit for bit."""
        self.trained.put_back()

    def _saved(self) -> dict[str, Any]:
        """The base's, with the slow weights; and with the fast ones where these are not in their place."""
        found = super()._saved()
        found = self.trained.saved(self.param_groups, self.slow.saved(self.param_groups, found))
        for entries in found["state"].values():
            if self.slow.key in entries:
                entries[COUNT] = torch.tensor(float(self.count))
        return found

    def _load(self, state_dict: dict[str, Any]) -> None:
        rest, slow = self.slow.taken(state_dict)
        rest, trained = self.trained.taken(rest)
        rest, counts = Aside(COUNT).taken(rest)
        super()._load(rest)
        self.count = max((int(each) for each in counts.values()), default=0)
        self.slow.load(self.param_groups, slow)
        self.trained.load(self.param_groups, trained)
