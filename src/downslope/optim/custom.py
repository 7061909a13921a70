"""Any chain of rules as an optimizer, with nothing written but the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from downslope.optim.domains import Domains
from downslope.optim.driver import Optimizer, Params
from downslope.optim.joining import check_linked, check_written
from downslope.optim.options import Options
from downslope.optim.routes import Routes, routed
from downslope.optim.rule import AnyRule, Chain, chain

__all__ = ["Custom"]


class Custom(Optimizer):
    """Any chain of rules as an optimizer: ``Custom(params, chain(HeavyBall(momentum=.9),
    ScaleByLr(lr=.1)))``.

    The fields of the rules become entries of the parameter groups.

    Args:
        params: parameters, named parameters, or groups of them.
        rule: what `chain` returns, whose last link usually scales by lr, one rule, or `Routes` to several
            chains.
        maximize: climb in place of descend.
        backend: see `Optimizer`.
        **options: see `downslope.optim.options.Options`.

    Raises:
        RecipeError: a hyper-parameter outside its domain, or no rule.
    """

    def __init__(
        self,
        params: Params,
        rule: AnyRule | Chain | Routes,
        *,
        maximize: bool = False,
        backend: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.rule = chain(rule)
        check_linked([each.links for each in routed(self.rule).chains])
        settings = {**self.rule.fields(), "maximize": maximize}
        super().__init__(params, settings, backend=backend, implementation=options)

    @property
    def _domains(self) -> Domains:
        return routed(self.rule).domains

    def _check_params(self, params: list[Any]) -> None:
        super()._check_params(params)
        p = params[0][1] if isinstance(params[0], tuple) else params[0]
        if isinstance(p, Tensor):
            for rule in routed(self.rule).chains:
                check_written(rule.links, p)

    def _compose(self, settings: Mapping[str, Any]) -> Chain | Routes:
        return self.rule.replace(**{name: settings[name] for name in self.rule.fields()})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rule": self.rule}
