"""Profiles and scores, against integrals by hand and against AlgoPerf's published table."""

from __future__ import annotations

import math

import numpy as np
import pytest

from downslope.core.errors import InputError
from downslope.racing.profile import profile

INF = math.inf


def test_the_score_is_the_integral_by_hand() -> None:
    """a: ratios 1, 1, 2; its profile is 2/3 on [1, 2), 1 on [2, 4]: (2/3 + 2) / 3 = 8/9. b: 1.5, 3, 1:
    1/3 on [1, 1.5), 2/3 on [1.5, 3), 1 on [3, 4]: (1/6 + 1 + 1) / 3 = 13/18. c: never, 5, 3: 1/3 on [3, 4].
    """
    found = profile(["a", "b", "c"], [[10, 15, INF], [2, 6, 10], [4, 2, 6]])
    assert found.score() == pytest.approx({"a": 8 / 9, "b": 13 / 18, "c": 1 / 9})
    assert found.at(1.0) == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 0})
    assert found.at(1.5) == pytest.approx({"a": 2 / 3, "b": 2 / 3, "c": 0})
    taus, shares = found.steps("b")
    assert taus == pytest.approx([1, 1.5, 3])
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_the_exact_score_is_the_limit_of_sums() -> None:
    random = np.random.default_rng(0)
    times = np.where(random.random((9, 5)) < 0.2, INF, random.exponential(size=(9, 5)) + 0.3)
    found = profile(list("abcde"), times)
    grid = np.linspace(1, 4, 300_001)
    for name, score in found.score().items():
        values = (found.ratios[:, "abcde".index(name)][:, None] <= grid).mean(0)
        assert score == pytest.approx(np.trapezoid(values, grid) / 3, abs=1e-5)


ALGOPERF = {
    "ademamix": (7839.193, 1517.732, 18025.897, INF, INF, 48894.854, INF, 6329.966, 17399.640),
    "cautious_nadamw": (INF, 1608.189, 25738.982, INF, INF, INF, INF, 4992.687, 14232.459),
    "lion": (INF, 1394.175, 23172.039, INF, INF, INF, INF, 7223.987, 15475.553),
    "muon": (INF, 1869.765, 20594.038, INF, 77162.917, INF, INF, INF, INF),
    "muon_torch": (7141.605, INF, 15471.923, INF, INF, INF, INF, 1833.474, 14214.780),
    "muon_torch_jax_hps": (INF,) * 9,
    "muon_torch_jax_hps_achandr": (INF, 1357.469, 10338.734, INF, INF, INF, INF, INF, INF),
    "muon_torch_jax_hps_lr_fix": (INF, 1482.862, 15474.614, INF, INF, INF, INF, 1848.256, INF),
    "nadamw": (7492.695, 1800.773, 25733.848, INF, 72015.579, INF, INF, INF, INF),
    "nadamw_baselinev05": (8206.103, 1620.515, 20589.913, INF, INF, INF, INF, 4089.776, 14865.789),
    "nadamw_resnet": (INF, 1920.545, 23163.022, INF, INF, INF, INF, 6349.506, INF),
    "schedule_free_adamw": (10337.672, 1188.913, INF, INF, INF, INF, 40463.388, 3640.149, 19957.718),
    "schedule_free_adamw_jax": (INF, 2397.402, 12875.283, INF, 87468.861, INF, INF, 5446.974, 16161.202),
    "schedule_free_adamw_jax_v2": (
        8204.541, 1850.625, 15451.991, INF, 84891.755, INF, INF, 5444.019, INF,
    ),
    "schedule_free_adamw_v2": (
        7480.571, 1128.838, INF, INF, INF, 55846.441, 41911.176, 6325.431, 10325.457,
    ),
    "single_worker_diloco": (INF, 2379.343, 28314.819, INF, INF, INF, INF, INF, INF),
}  # fmt: skip
"""Seconds to target on nine workloads (criteo1tb, fastmri, finewebedu_lm, imagenet_resnet, imagenet_vit,
librispeech_conformer, librispeech_deepspeech, ogbg, wmt): MLCommons AlgoPerf, submissions_algorithms at
0007993, analysis/data/time_to_targets.csv."""

PUBLISHED = {
    "schedule_free_adamw_v2": 0.5679012345679016,
    "ademamix": 0.5067340067340069,
    "schedule_free_adamw": 0.466891133557801,
    "nadamw_baselinev05": 0.4360269360269367,
    "schedule_free_adamw_jax_v2": 0.42929292929292967,
    "muon_torch": 0.41189674523007774,
    "schedule_free_adamw_jax": 0.40123456790123496,
    "nadamw": 0.36531986531986466,
    "muon_torch_jax_hps_lr_fix": 0.30246913580246876,
    "cautious_nadamw": 0.2951739618406281,
    "muon": 0.269921436588103,
    "lion": 0.2626262626262625,
    "muon_torch_jax_hps_achandr": 0.21492704826038114,
    "nadamw_resnet": 0.17003367003367006,
    "single_worker_diloco": 0.11672278338944997,
    "muon_torch_jax_hps": 0.0,
}
"""Their scores there (analysis/data/leaderboard.csv, score_by_wallclock), best first."""


def test_algoperfs_published_leaderboard_comes_out() -> None:
    """Each published score is a sum of 100 trapezoids, 3/99 wide: exact to 1/9 * half of a width for each
    of at most seven ratios; summed as they do it is theirs to the last digits.
    """
    names = list(ALGOPERF)
    found = profile(names, np.asarray([ALGOPERF[name] for name in names]).T)
    scores = found.score()
    assert sorted(scores, key=lambda name: -scores[name]) == list(PUBLISHED)
    taus = np.linspace(1, 4, 100)
    for i, name in enumerate(names):
        assert scores[name] == pytest.approx(PUBLISHED[name], abs=7 / 9 * 0.5 / 99)
        theirs = np.trapezoid((found.ratios[:, i][:, None] <= taus).sum(0) / 9, taus) / 3
        assert theirs == pytest.approx(PUBLISHED[name], rel=1e-12, abs=1e-15)


def test_what_nobody_solves_stays_in_the_count_and_a_start_at_the_target_is_no_division() -> None:
    found = profile(["a", "b"], [[INF, math.nan], [0, 3], [0, 0]])
    assert found.score() == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert found.at(1e9) == pytest.approx({"a": 2 / 3, "b": 1 / 3})


@pytest.mark.parametrize(
    ("times", "said"), [([], "shape"), ([[1.0]], "shape"), ([[1.0, -1.0]], "negative"), ([1.0, 2.0], "shape")]
)
def test_times_that_are_none_are_refused(times: list[object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        profile(["a", "b"], times)  # type: ignore[arg-type]


@pytest.mark.parametrize("r", [1.0, 0.5, INF, math.nan])
def test_a_limit_that_is_none_is_refused(r: float) -> None:
    with pytest.raises(InputError, match="r="):
        profile(["a", "b"], [[1.0, 2.0]]).score(r)
