"""Rare classes in a script: what is recognised of them is told, and nothing is claimed that was not tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.symptom import Clear, Unknown
from downslope.diagnosis.symptoms.class_imbalance import class_imbalance
from downslope.diagnosis.tally import MOST, Tally
from tests.diagnosis.runs import run
from tests.diagnosis.symptoms.test_frozen_in_a_loop import watched

NAME = "class-imbalance"

SCRIPT = """
rare = (torch.rand(2000) < RATE).long()
P = torch.randn(2000, 6) + AWAY * rare[:, None] / 6 ** 0.5
model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2))
rule = torch.optim.Adam(model.parameters(), 5e-3)
objective = nn.CrossEntropyLoss(WEIGHT)
for epoch in range(6):
    model.train()
    for at in torch.randperm(1200).split(32):
        loss = objective(model(P[at]), rare[at])
        rule.zero_grad(); loss.backward(); rule.step()
    model.eval()
    with torch.no_grad():
        SCORE
everything = model.parameters()
"""
LOSS = "held = [objective(model(a), b) for a, b in zip(P[1200:].split(200), rare[1200:].split(200))]"
COUNT = "held = (model(P[1200:]).argmax(1) == rare[1200:]).float().mean()"


def script(away: float, rate: float = 0.04, weight: str = "", score: str = LOSS) -> str:
    text = SCRIPT.replace("AWAY", str(away)).replace("RATE", str(rate)).replace("WEIGHT", weight)
    return text.replace("SCORE", score)


def told(found: Diagnosis) -> str:
    assert found.healthy, str(found)
    return dict(found.cleared).get(NAME) or "not judged: " + dict(found.not_checked)[NAME]


def test_a_rare_class_that_is_learnt_is_clear(tmp_path: Path) -> None:
    said = told(watched(tmp_path, script(6.0)))
    assert said.startswith("the rarest class is")
    assert "held-out examples" in said


def test_a_rare_class_with_weights_is_clear(tmp_path: Path) -> None:
    assert told(watched(tmp_path, script(4.0, weight="1 / torch.bincount(rare).float()"))).startswith("the")


def test_a_class_that_overlaps_with_the_rest_is_not_given_up(tmp_path: Path) -> None:
    assert "overlaps with the rest" in told(watched(tmp_path, script(0.9, rate=0.1)))


def test_of_a_script_that_only_counts_the_examples_that_were_kept_are_asked(tmp_path: Path) -> None:
    said = told(watched(tmp_path, script(6.0, rate=0.08, score=COUNT)))
    assert "examples that were kept" in said


def seen(rare: list[dict[str, Any]], held_out: bool = True) -> Any:
    made = run(recognised={"rows": 1000, "rare": rare, "held_out": held_out})
    made.facts["data"]["target"] = {"kind": "classes", "labels": [0.0, 1.0], "counts": [970, 30]}
    return class_imbalance(made)


def one(recall: float, n: int = 30, way: float = 0.3, area: float = 0.95) -> dict[str, Any]:
    return {"label": 1, "share": 0.03, "n": n, "recall": recall, "way": way, "area": area}


def test_what_was_not_tried_is_not_claimed_and_the_number_is_said() -> None:
    assert isinstance(seen([]), Clear)
    assert isinstance(seen([one(0.6)]), Clear)
    given_up = seen([one(0.0)])
    assert isinstance(given_up, Unknown)
    assert "recall of a class is 0% (30 held-out examples)" in str(given_up)
    assert isinstance(seen([one(0.0, area=0.7)]), Clear)
    assert isinstance(seen([one(0.0, area=0.7, way=-0.1)]), Unknown)  # it has not learnt its share either
    assert isinstance(seen([one(0.0, area=0.7), one(0.1)]), Unknown)


@pytest.mark.parametrize("rows", [[one(0.0, n=4)], [one(0.9), one(1.0, n=4)]])
def test_a_few_examples_tell_no_recall(rows: list[dict[str, Any]]) -> None:
    found = seen(rows, held_out=False)
    assert isinstance(found, Unknown)
    assert "of 1000 examples that were kept 4 are of a rare class" in " ".join(str(found).split())


def test_a_trial_counts_for_more_than_what_was_seen() -> None:
    made = run(recognised={"rows": 1000, "rare": [one(0.0)], "held_out": True})
    made.facts["data"]["target"] = {"kind": "classes", "labels": [0.0, 1.0], "counts": [970, 30]}
    made.facts["imbalance"] = {"recalls": [1.0, 0.9], "balanced": 0.95, "weighted": None, "classes": 2,
                               "rarest": 0.03}  # fmt: skip
    assert isinstance(class_imbalance(made), Clear)


def test_of_every_place_the_latest_scoring_is_kept_whole() -> None:
    tally = Tally()
    for step in (10, 20):
        for part in range(3):
            tally.add("valid", step, torch.full((4, 2), float(step + part)), torch.zeros(4).long())
    tally.add("other", 20, torch.zeros(2, 3), torch.zeros(2).long())
    kept = tally.of("valid")
    assert kept is not None
    assert kept[0][:, 0].tolist() == [20.0] * 4 + [21.0] * 4 + [22.0] * 4
    assert tally.of("nowhere") is None
    tally.add("other", 20, torch.zeros(2, 5), torch.zeros(2).long())
    assert tally.of("other") is None  # of two forms
    tally.add("large", 20, torch.zeros(MOST + 1, 1), torch.zeros(MOST + 1).long())
    assert tally.of("large") is None
