"""What tests of rules, symptoms and problems inherit: contracts, and problems with known answers.

from downslope.testing import Case, RuleContract

class TestMine(RuleContract):
cases = (Case("lr .1", lambda params, backend: Custom(params, mine, backend=backend), recurrence),)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from downslope.core.faces import lazily

if TYPE_CHECKING:
    from downslope.testing.rules import Case, Descent, Hand, RuleContract, gradients, parameters, run

__all__ = ["Case", "Descent", "Hand", "RuleContract", "gradients", "parameters", "run"]

lazily(__name__, {"rules": "Case Descent Hand RuleContract gradients parameters run"})
