"""Gradient centralisation: each unit's gradient with its mean taken off (Yong et al. 2020, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from downslope.optim.domains import Domains, Switch
from downslope.optim.rule import Rule, Scalars, Scope, Stateless

__all__ = ["Centralise"]


@dataclass(frozen=True, kw_only=True)
class Centralise(Rule[Stateless]):
    """Takes the mean off each unit's gradient: ``g_i - mean(g_i)``; the step keeps the mean of its weights.

    A unit i is what one output has: row i of a matrix, filter i of a convolution (all dimensions but the
    first); vectors and numbers pass unchanged. With `conv_only` only tensors of four dimensions and more are
    centralised. No state. It belongs before the scale: ``chain(Centralise(), ScaleByAdam(), ...)``.

    Differs from: the authors' code in nothing; optax takes the mean over all dimensions but the *last*, as
    its layers store them.
    Source: Yong, Huang, Hua and Zhang 2020, "Gradient centralization", equation 1; `conv_only` is the
    authors' ``gc_conv_only``.
    """

    scope: ClassVar[Scope] = "matrix"
    domains: ClassVar[Domains] = {"conv_only": Switch("leave matrices as they are")}

    conv_only: bool = False

    def init(self, p: Tensor) -> Stateless:
        return ()

    def at(self, t: int) -> Scalars:
        return Scalars()

    def update(self, g: Tensor, state: Stateless, p: Tensor, k: Scalars) -> tuple[Tensor, Stateless]:
        if g.ndim <= (3 if self.conv_only else 1):
            return g, ()
        return g - g.mean(dim=tuple(range(1, g.ndim)), keepdim=True), ()
