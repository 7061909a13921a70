from __future__ import annotations

import pytest

from downslope.terrain.surveys.kind import Judged, View, classify, mirrored

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


def test_flat_ground_is_critical_where_the_slope_is_nearly_nothing_beside_the_curvature() -> None:
    """Curvature changes 5e-6 over the reach, both next to nothing of the scale of 1."""
    flat = View(slope=1e-6, high=1e-3, low=1e-4, reach=0.1, scale=1.0)
    assert classify(flat).kind == "plateau"
    assert classify(flat._replace(slope=1e-7)).kind == "minimum"


def test_a_sign_may_be_asked_to_be_a_share_of_the_largest() -> None:
    view = AT_REST._replace(low=-1e-3)
    assert classify(view).kind == "saddle"
    assert classify(view, negative=0.01).kind == "minimum"


def test_samples_along_flat_directions_count_beyond_rounding_and_slope() -> None:
    valley = AT_REST._replace(low=0.0, falls=1e-3, rounding=1e-4)
    assert (classify(valley).kind, classify(valley).degenerate) == ("saddle", True)
    assert classify(valley._replace(rounding=1e-2)).kind == "minimum"
    assert classify(valley._replace(slope=1e-2)).kind == "minimum"


def test_in_the_mirror_low_is_high_and_a_fall_a_rise() -> None:
    view = View(0.1, 2.0, -1.0, 0.1, 1.0, high_error=0.2, low_error=0.3, falls=4.0, rises=5.0)
    judged, turned = mirrored(Judged("minimum", True, False, 0.0), view)
    assert judged.kind == "maximum"
    assert mirrored(judged, view)[0].kind == "minimum"
    assert mirrored(judged._replace(kind="saddle"), view)[0].kind == "saddle"
    assert turned == View(0.1, 1.0, -2.0, 0.1, 1.0, high_error=0.3, low_error=0.2, falls=5.0, rises=4.0)
