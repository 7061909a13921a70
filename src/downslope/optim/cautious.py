"""Cautious steps: where step and gradient disagree in sign, none (Liang et al. 2024, algorithm 1).

    chain(ScaleByAdam(), Cautious(), DecoupledDecay(weight_decay=0.1), ScaleByLr(lr=1e-3))

is cautious AdamW; `cautious` puts the link into any chain, `Caution` into any class:
``class CautiousSGD(Caution, SGD)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from downslope.core.errors import RecipeError
from downslope.optim.adamw import AdamW
from downslope.optim.decay import DecoupledDecay
from downslope.optim.domains import Domains, Interval
from downslope.optim.driver import Optimizer
from downslope.optim.lamb import ScaleByTrustRatio
from downslope.optim.lion import Lion
from downslope.optim.routes import Routes
from downslope.optim.rule import Chain, Rule, Scalar, Scalars, Scope, Stateless, Tally, chain
from downslope.optim.scale import InverseTimeLr, ScaleByLr

__all__ = ["Caution", "Cautious", "CautiousAdamW", "CautiousLion", "cautious"]


@dataclass(frozen=True, kw_only=True)
class Cautious(Rule[Stateless]):
    """Leaves out what goes against the gradient, and lengthens the rest: ``u phi / max(mean(phi), c)``.

    ``phi = 1[u g > 0]`` element by element, u is the step so far and g the gradient as it entered the chain;
    the mean is that of the tensor, with `xi` in [0, inf) beside the count: ``(sum(phi) + xi) / n``. c is
    `least_share` in (0, 1]. On a steady gradient the step is that of the chain without the link. No state.

    The defaults are the authors' for AdamW (``xi=0, least_share=1e-3``); their Lion, and the paper, have
    ``Cautious(xi=1.0, least_share=0.0)``.

    Differs from: the authors' ``u g > 0``, a product that underflows to 0 for small gradients; here the signs
    are compared.
    Source: Liang, Chen, Liu and Liu 2024, "Cautious optimizers: improving training with one line of code",
    algorithm 1; c_adamw.py and c_lion.py of the authors.
    """

    scope: ClassVar[Scope] = "tensor"
    measures: ClassVar[tuple[str, ...]] = ("agree", "others")
    wants_raw: ClassVar[bool] = True
    domains: ClassVar[Domains] = {
        "least_share": Interval(
            0.0,
            1.0,
            "the least share of elements that the rest is lengthened for",
            "0.001 is usual",
            closed=True,
        ),
        "xi": Interval(0.0, math.inf, "what is added to the count of elements that agree", "0 or 1 is usual"),
    }

    least_share: Scalar = 1e-3
    xi: Scalar = 0.0

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars(least=self.least_share, xi=self.xi)

    def measure(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, ...]:
        agree = _where_alike(g, k.raw, 0.0 * g + 1.0)
        return agree, 1.0 - agree

    def settle(
        self, t: int, k: Scalars, totals: Scalars, tally: Mapping[str, float]
    ) -> tuple[Scalars, Tally]:
        share = (totals.agree + k.xi) / (totals.agree + totals.others)
        share = torch.clamp(share, min=k.least)
        return Scalars(longer=torch.where(share > 0.0, 1.0 / share, share)), {}

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        return k.longer * _where_alike(g, k.raw, g), ()


def _where_alike(u: Tensor, g: Tensor, value: Tensor) -> Tensor:
    """`value` where u and g have one sign, else 0; NaN in `value` stays. No product that underflows."""
    none = 0.0 * value
    up = torch.where(g > 0.0, value, none)
    down = torch.where(g < 0.0, value, none)
    return torch.where(u > 0.0, up, torch.where(u < 0.0, down, none))


_AFTER = (DecoupledDecay, ScaleByTrustRatio, ScaleByLr, InverseTimeLr)
"""What follows the step that is masked: the authors mask neither the decay nor the rate."""


def cautious(rule: Chain, *, least_share: float = 1e-3, xi: float = 0.0) -> Chain:
    """`rule` with a `Cautious` link before its decoupled decay, trust ratio and learning rate.

    Args:
        rule: any chain, such as ``AdamW.compose(settings)``.
        least_share: see `Cautious`.
        xi: see `Cautious`.

    Raises:
        RecipeError: the chain is cautious already, or a number lies outside its domain.
    """
    if any(isinstance(link, Cautious) for link in rule.links):
        raise RecipeError("the chain has a Cautious link already: one is enough, leave the second out")
    place = len(rule.links)
    while place and (isinstance(rule.links[place - 1], _AFTER) or _shows(rule.links[place - 1])):
        place -= 1
    return chain(*rule.links[:place], Cautious(least_share=least_share, xi=xi), *rule.links[place:])


def _shows(link: Rule[Any]) -> bool:
    return type(link).shown is not Rule.shown


class Caution(Optimizer):
    """Makes any optimizer of ours cautious, placed before it: ``class CautiousSGD(Caution, SGD)``.

    Raises:
        RecipeError: a subclass with Caution after the optimizer, where it would do nothing.

    Source: see `Cautious`.
    """

    least_share: ClassVar[float] = 1e-3
    xi: ClassVar[float] = 0.0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        before = itertools.takewhile(lambda each: each is not Caution, cls.__mro__[1:])
        hidden = [
            each.__name__ for each in before if "compose" in vars(each) and not issubclass(each, Caution)
        ]
        if hidden:
            raise RecipeError(
                f"class {cls.__name__}: {hidden[0]} stands before Caution, which would do nothing there; "
                f"write class {cls.__name__}(Caution, {hidden[0]})"
            )

    @classmethod
    def compose(cls, settings: Mapping[str, Any]) -> Any:  # a chain, or routes, as the class beside it
        made = super().compose(settings)
        if isinstance(made, Chain):
            return cls._careful(made)
        return Routes(
            tuple((where, cls._careful(each)) for where, each in made.routes), cls._careful(made.otherwise)
        )

    @classmethod
    def _careful(cls, rule: Chain) -> Chain:
        return cautious(rule, least_share=cls.least_share, xi=cls.xi)


class CautiousAdamW(Caution, AdamW):
    """AdamW that steps where step and gradient agree: ``p = p - lr (phi u / max(mean(phi), c) + lambda p)``.

    ``c = 0.001``, ``u = mhat / (sqrt(vhat) + eps)``, ``phi = 1[u g > 0]``, see `Cautious`. Arguments,
    defaults and state are those of `AdamW`; the authors advise its lr.

    Source: Liang, Chen, Liu and Liu 2024, algorithm 1; c_adamw.py of the authors.
    """

    source = "Liang et al. 2024, algorithm 1"


class CautiousLion(Caution, Lion):
    """Lion that steps where step and gradient agree: ``p = p - lr (phi u n / (sum(phi) + 1) + lambda p)``.

    ``u = sign(b1 m + (1 - b1) g)``, ``phi = 1[u g > 0]``, n elements, see `Cautious`. Arguments, defaults and
    state are those of `Lion`.

    Differs from: c_lion.py of the authors in the default betas alone, there (0.95, 0.98).
    Source: Liang, Chen, Liu and Liu 2024, algorithm 1, with its xi of 1; c_lion.py of the authors.
    """

    source = "Liang et al. 2024, algorithm 1"
    least_share: ClassVar[float] = 0.0
    xi: ClassVar[float] = 1.0
