"""What mattered, against objectives that say so."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from downslope.core.errors import InputError
from downslope.core.space import choice, log, uniform, when
from downslope.tuning.importance import chance, importances
from downslope.tuning.trial import Trial

SPACE = {"lr": log(1e-5, 1e-1), "decay": log(1e-7, 1e-1), "momentum": uniform(0, 1)}


def trials(value, count=80, seed=0, space=SPACE) -> list[Trial]:
    draws = random.Random(seed)
    made = [{key: each.draw(draws.random()) for key, each in space.items()} for _ in range(count)]
    return [Trial(i, each, state="done", value=value(each)) for i, each in enumerate(made)]


@pytest.mark.parametrize("by", ["ped-anova", "fanova"])
def test_the_key_that_decides_comes_first_and_its_shares_are_a_whole(by):
    found = importances(
        trials(lambda v: abs(math.log10(v["lr"]) + 3) + 0.02 * v["momentum"]), SPACE, "min", by=by
    )
    assert found[0].key == "lr"
    assert found[0].share > 0.6
    assert sum(each.share for each in found) == pytest.approx(1)
    assert found[0].mattered


def test_keys_that_do_nothing_matter_in_one_search_of_twenty():
    draws = random.Random(5)
    wrong = sum(
        chance(rows, [each.value or 0.0 for each in rows], key, SPACE[key], seed) <= 0.05
        for seed in range(60)
        for rows in [trials(lambda _: draws.random(), 40, seed)]
        for key in SPACE
    )
    assert 2 <= wrong <= 18  # of 180; outside of this with a probability of 0.4 %


def test_the_statistic_is_kruskals():
    rows = trials(lambda v: v["momentum"] + 0.6 * v["decay"] * 1e1, 50, 2)
    losses = [each.value or 0.0 for each in rows]
    at = sorted(range(50), key=lambda i: rows[i].values["momentum"])
    assert chance(rows, losses, "momentum", SPACE["momentum"]) == pytest.approx(1 / 500)
    order = random.Random(3).sample(losses, 50)
    place = {i: order[k] for k, i in enumerate(at)}
    groups = [[place[i] for i in at[k : k + 10]] for k in range(0, 50, 10)]
    by_table = stats.kruskal(*groups).pvalue
    assert chance(rows, [place[i] for i in range(50)], "momentum", SPACE["momentum"]) == pytest.approx(
        by_table, abs=0.08
    )


def test_a_key_that_is_bad_on_one_side_alone_matters():
    def cliff(v):
        return 1.0 + random.Random(str(v)).random() if v["lr"] > 1e-2 else random.Random(str(v)).random()

    found = {each.key: each for each in importances(trials(cliff, 48), SPACE, "min")}
    assert found["lr"].mattered


def test_a_key_that_matters_among_the_good_alone_is_seen():
    def hidden(v):
        return 100 * random.Random(str(v)).random() if v["lr"] > 1e-3 else v["momentum"]

    made = trials(hidden, 60)
    found = {each.key: each for each in importances(made, SPACE, "min")}
    assert found["momentum"].mattered
    assert found["lr"].mattered
    assert not found["decay"].mattered


def test_what_diverged_counts_as_bad():
    made = trials(lambda v: 0.5 if v["lr"] < 1e-3 else 0.501)
    made = [
        Trial(each.number, each.values, state="pruned", attrs={"diverged": True})
        if each.values["lr"] > 1e-2
        else each
        for each in made
    ]
    assert importances(made, SPACE, "min")[0].key == "lr"


def test_conditional_keys_are_among_them():
    space = {"optimizer": choice("sgd", "adam"), "momentum": when(uniform(0, 1), optimizer="sgd")}
    made = []
    for each in trials(lambda v: v["momentum"], space=space):
        values = dict(each.values)
        if values["optimizer"] == "adam":
            del values["momentum"]
        made.append(Trial(each.number, values, state="done", value=values.get("momentum", 0.5)))
    assert {each.key for each in importances(made, space, "min")} == {"optimizer", "momentum"}
    assert importances(made, space, "min")[0].key == "momentum"


def test_being_good_is_being_large_where_that_is_better():
    edge = trials(lambda v: 1.0 if v["lr"] > 1e-2 else 0.1 * v["momentum"])
    shares = {way: importances(edge, SPACE, way)[0].key for way in ("max", "min")}
    assert shares == {"max": "lr", "min": "momentum"}


def test_too_few_trials_say_nothing():
    assert importances(trials(lambda v: v["lr"], count=9), SPACE, "min") == ()
    assert importances(trials(lambda _: 1.0), SPACE, "min") == ()


def test_another_measure_is_refused():
    with pytest.raises(InputError, match="ped-anova"):
        importances(trials(lambda v: v["lr"]), SPACE, "min", by="anova")  # pyright: ignore[reportArgumentType]
