"""Performance profiles: the share of problems that a contestant solves within a factor of the fastest one.

    rho_s(tau) = |{p : t_ps / min_s' t_ps' <= tau}| / |P|                  (Dolan and More 2002, equation 2.1)
    score_s    = 1/(r - 1) * integral of rho_s over [1, r],  r = 4     (AlgoPerf: Dahl et al. 2023, section 4)

A profile is a staircase, so its integral needs no quadrature: a problem solved at ratio q <= r adds
``r - q``, and ``score_s`` is the mean over the problems of ``max(0, r - q) / (r - 1)``. AlgoPerf itself
sums 100 trapezoids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from downslope.core.errors import InputError

Floats = npt.NDArray[np.float64]

LIMIT = 4.0
"""r of AlgoPerf: what takes four times as long as the fastest scores nothing."""


@dataclass(frozen=True, eq=False)
class Profile:
    """How long each contestant takes, as multiples of the fastest.

    Attributes:
        names: Of the contestants.
        instances: Of the problems, or of the seeds of one.
        ratios: Time over the fastest one's, in [1, inf], shape (instances, contestants); infinite where the
            target was not reached.
    """

    names: tuple[str, ...]
    instances: tuple[str, ...]
    ratios: Floats

    def at(self, tau: float) -> dict[str, float]:
        """Name to the share of instances solved within `tau` times the fastest."""
        return dict(zip(self.names, (self.ratios <= tau).mean(0).tolist(), strict=True))

    def steps(self, name: str) -> tuple[Floats, Floats]:
        """Where the staircase of `name` rises, and to what: two arrays of one length; empty without any."""
        own = np.sort(self.ratios[:, self.names.index(name)])
        own = own[np.isfinite(own)]
        taus, last = np.unique(own[::-1], return_index=True)
        return taus, (len(own) - last) / len(self.instances)

    def score(self, r: float = LIMIT) -> dict[str, float]:
        """Name to score, in [0, 1]: the integral of its profile over [1, r], over r - 1.

        Args:
            r: In (1, inf).

        Raises:
            InputError: r is not.
        """
        if not 1 < r < np.inf:
            raise InputError(
                f"r={r!r}: must lie in (1, inf), the profile is integrated from 1 to it; 4 is usual"
            )
        each = np.clip(r - self.ratios, 0.0, None) / (r - 1)
        return dict(zip(self.names, each.mean(0).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a ratio that is infinite becomes None in a file."""
        return {"names": self.names, "instances": self.instances, "ratios": self.ratios.tolist()}


def profile(names: Sequence[str], times: npt.ArrayLike, instances: Sequence[str] | None = None) -> Profile:
    """The profile of times to target.

    Args:
        names: Of the contestants, length s.
        times: In steps or seconds, in [0, inf], shape (instances, s); infinite or NaN where the target was
            not reached. Of an instance that nobody solves all ratios are infinite: it stays in the count.
        instances: Names of the rows.

    Raises:
        InputError: no instance, a shape that does not fit, or a negative time.
    """
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 2 or t.shape[1] != len(names) or not t.size:
        raise InputError(
            f"times of shape {t.shape} for {len(names)} contestants: must be (instances, contestants)"
        )
    t = np.where(np.isnan(t), np.inf, t)
    if (t < 0).any():
        raise InputError("times holds a negative one: they are steps or seconds to a target")
    least = t.min(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.isinf(t), np.inf, np.where(t == least, 1.0, t / least))
    rows = tuple(instances) if instances is not None else tuple(str(i) for i in range(len(t)))
    return Profile(tuple(names), rows, ratios)
