from __future__ import annotations

import json

import numpy as np
import pytest

from downslope.core.run import Run
from downslope.diagnosis.judge import judge
from downslope.diagnosis.symptom import GROUPS, registry
from downslope.reporting.console import of_diagnosis
from tests.diagnosis.runs import layer, learnt, run


def probe_dead(made: Run, *values: float) -> Run:
    for step, value in enumerate(values, start=1):
        made.probes.log(step, "dead_fraction", {"1": value, "3": 0.1})
    return made


FADING = [layer("0", grad_rms=1e-9), layer("2", grad_rms=1e-6), layer("4", grad_rms=1e-3)]
TINY = [layer("0", gain=0.001), layer("2", gain=0.001), layer("4", gain=0.001)]
SICK = {
    "unscaled-inputs": {"features": {"max_rms": 150.0, "rms": 130.0, "offset_ratio": 1.0, "std_ratio": 1.0}},
    "init-scale": {"start": {"loss": 2.303, "layers": TINY, "norms": 0}},
    "vanishing-gradient": {"start": {"loss": 2.35, "layers": FADING, "norms": 0}},
}


@pytest.mark.parametrize("name", SICK)
def test_a_run_that_stands_still_is_put_down_to_what_is_far_out_of_range(name: str) -> None:
    found = judge(run(**SICK[name]))
    assert found.root is not None
    assert found.root.symptom == name
    assert found.root.severity == "critical"
    assert found.root.remedies[0].provable


@pytest.mark.parametrize("name", SICK)
def test_the_same_numbers_are_cleared_where_the_run_learns(name: str) -> None:
    found = judge(learnt(**SICK[name]))
    assert found.healthy
    assert not found.findings
    assert name in dict(found.cleared)


def test_a_standing_run_without_evidence_raises_no_alarm_and_is_not_called_healthy() -> None:
    found = judge(run())
    assert not found.findings
    assert found.lost
    assert not found.healthy
    assert judge(learnt()).healthy


def test_a_consequence_stands_under_its_root_and_carries_no_remedy() -> None:
    layers = [layer("0", gain=0.001, grad_rms=1e-9), layer("2", gain=0.001), layer("4", gain=0.001)]
    found = judge(run(start={"loss": 2.3, "layers": layers, "norms": 0}))
    assert [each.symptom for each in found.findings] == ["init-scale"]
    assert [each.symptom for each in found.findings[0].consequences] == ["vanishing-gradient"]
    assert found.findings[0].consequences[0].remedies == ()


def test_units_that_die_on_the_way_follow_from_the_step() -> None:
    made = probe_dead(
        run(np.r_[2.3, np.full(199, 50.0)], sharpness={"ratio": 38.0, "lambda_max": 154.0}), 0.0, 1.0, 1.0
    )
    found = judge(made)
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"
    assert [each.symptom for each in found.root.consequences] == ["dead-units"]
    assert "38 x the stable limit" in found.root.message


def test_units_dead_from_the_start_are_a_cause_of_their_own() -> None:
    found = judge(probe_dead(run(), 1.0, 1.0, 1.0))
    assert found.root is not None
    assert found.root.symptom == "dead-units"


def test_units_that_come_back_are_not_dead() -> None:
    assert not judge(probe_dead(run(), *[1.0] * 8, 0.2, 1.0)).findings


def test_a_trial_that_wins_little_clears_the_suspicion() -> None:
    trial = {"edit": "standardise the inputs", "share": 0.05, "valid_share": 0.0, "steps": 200}
    found = judge(run(**SICK["unscaled-inputs"], trials={"unscaled-inputs": trial}))
    assert not found.findings
    assert "recovers nothing" in dict(found.cleared)["unscaled-inputs"]


def test_a_trial_that_only_memorises_faster_clears_the_suspicion() -> None:
    trial = {"edit": "standardise the inputs", "share": 0.9, "valid_share": 0.01, "steps": 200}
    assert not judge(run(**SICK["unscaled-inputs"], trials={"unscaled-inputs": trial})).findings


def test_the_cause_whose_remedy_helps_stands_before_the_earlier_one_that_hardly_does() -> None:
    trials = {
        "unscaled-inputs": {"edit": "a", "share": 0.25, "valid_share": None, "steps": 200},
        "learning-rate-too-high": {"edit": "b", "share": 0.95, "valid_share": None, "steps": 200},
    }
    rates = {"lr": 0.1, "control": 2.3, "start": 2.3, "tried": [(0.001, 0.1)], "steps": 40}
    found = judge(run(**SICK["unscaled-inputs"], trials=trials, rates=rates))
    assert found.root is not None
    assert found.root.symptom == "learning-rate-too-high"


@pytest.mark.parametrize(
    "losses", [[], [2.3], [float("nan")] * 3, [2.3, float("inf")], np.full(5, 1e300)], ids=str
)
def test_short_and_non_finite_runs_are_judged_without_an_exception(losses: list[float]) -> None:
    found = judge(run(losses))
    assert not [why for _, why in found.not_checked if "failed" in why]
    json.loads(found.to_json())


def test_a_run_that_recorded_nothing_names_everything_it_could_not_check() -> None:
    found = judge(Run())
    assert not found.healthy  # which would be a claim
    assert found.reserve == "nothing of the training could be judged"
    assert {name for name, _ in found.not_checked} == set(registry())


def test_findings_cleared_and_not_checked_name_every_symptom_once() -> None:
    found = judge(run(**SICK["init-scale"]))
    named = [*found.symptoms, *(n for n, _ in found.cleared), *(n for n, _ in found.not_checked)]
    assert sorted(named) == sorted(registry())


def test_the_registry_is_in_causal_order() -> None:
    groups = [GROUPS.index(entry.order[0]) for entry in registry().values()]
    assert groups == sorted(groups)


def test_a_diagnosis_reads_as_a_short_paragraph() -> None:
    text = str(judge(run(**SICK["unscaled-inputs"])))
    assert "NOT LEARNING" in text
    assert "unscaled-inputs [critical]" in text
    assert "Do: standardise the inputs." in text
    assert len(text.splitlines()) < 10


def test_a_run_that_ended_far_without_a_cause_is_not_told_as_having_nothing_to_fix() -> None:
    rows = [{"what": "the same model under Adam", "loss": 0.02}]
    found = judge(run(np.geomspace(2.3, 1.2, 200), references=rows))
    assert found.verdict.startswith("ENDED FAR")
    assert found.healthy
    told = " ".join(row.text for row in of_diagnosis(found))
    for said in (told, str(found)):
        assert "something that was compared came further" in said
        assert "nothing to fix" not in said
