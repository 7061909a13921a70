from __future__ import annotations

import pytest

from downslope.terrain.surveys.kind import View, classify

AT_REST = View(slope=0.0, high=2.0, low=1.0, reach=0.1, scale=0.0, exact=True)


@pytest.mark.parametrize(
    ("high", "low", "kind", "strict"),
    [
        (2.0, 1.0, "minimum", True),
        (2.0, 0.0, "minimum", False),
        (2.0, -1e-6, "saddle", False),
        (-1.0, -2.0, "maximum", True),
        (0.0, -2.0, "maximum", False),
    ],
)
def test_at_a_critical_point_the_signs_decide(high: float, low: float, kind: str, strict: bool) -> None:
    found = classify(AT_REST._replace(high=high, low=low, high_error=1e-9, low_error=1e-9))
    assert (found.kind, found.strict, found.degenerate) == (kind, strict, False)


def test_a_sign_within_its_error_counts_for_nothing() -> None:
    assert classify(AT_REST._replace(low=-1e-6, low_error=1e-5)).kind == "minimum"
    assert not classify(AT_REST._replace(low=1e-6, low_error=1e-5)).strict


@pytest.mark.parametrize(
    ("falls", "rises", "kind"),
    [(1e-3, 1e-3, "saddle"), (0.0, 1e-3, "minimum"), (1e-3, 0.0, "maximum"), (0.0, 0.0, "plateau")],
)
def test_where_every_eigenvalue_is_zero_the_values_around_decide(
    falls: float, rises: float, kind: str
) -> None:
    found = classify(AT_REST._replace(high=0.0, low=0.0, falls=falls, rises=rises, rounding=1e-12))
    assert (found.kind, found.degenerate) == (kind, True)


def test_the_answer_does_not_hang_on_the_unit_of_the_loss_or_of_the_weights() -> None:
    view = View(slope=2e-3, high=40.0, low=-3.0, reach=0.2, scale=1.0)
    for loss in (1e-6, 1.0, 1e6):
        for weights in (1e-3, 1.0, 1e3):
            other = view._replace(
                slope=view.slope * loss, scale=view.scale * loss, reach=view.reach * weights,
                high=view.high * loss / weights**2, low=view.low * loss / weights**2,
            )  # fmt: skip
            assert classify(other).kind == "slope"


def test_a_slope_within_its_sampling_noise_does_not_lead_on() -> None:
    view = View(slope=0.02, high=40.0, low=-3.0, reach=0.2, scale=1.0)
    assert classify(view).kind == "slope"
    assert classify(view._replace(noise=True, low=-0.5)).kind == "minimum"
    assert classify(view._replace(noise=True, slope=0.01)).kind == "saddle"


def test_next_to_a_minimum_curvature_that_wins_less_than_the_slope_counts_for_nothing() -> None:
    near = View(slope=5e-4, high=10.0, low=-1e-3, reach=0.5, scale=1.0)
    assert classify(near).kind == "minimum"
    assert classify(near._replace(low=-0.1)).kind == "saddle"
    assert classify(near._replace(low=-0.1, drop=1e-6)).kind == "minimum"


def test_where_the_gradient_is_zero_to_its_rounding_the_lesser_sign_counts_whatever_it_wins() -> None:
    view = AT_REST._replace(slope=1e-3, low=-1e-6)
    assert classify(view).kind == "saddle"
    assert classify(view._replace(exact=False, noise=True)).kind == "minimum"
