"""What went wrong, by cause."""

from __future__ import annotations

from downslope.tuning.failures import failures, hopeless, where_diverged
from downslope.tuning.trial import Trial


def failed(i: int, cause: str) -> Trial:
    return Trial(i, {}, state="failed", cause=cause)


def test_numbers_do_not_make_two_causes_of_one():
    made = [failed(0, "out of memory: 12.5 GB"), failed(1, "bad width"), failed(2, "out of memory: 13 GB")]
    first, second = failures(made)
    assert (first.cause, first.trials) == ("out of memory: 12.5 GB", (0, 2))
    assert (second.cause, second.trials) == ("bad width", (1,))


def test_a_search_is_hopeless_once_eight_have_failed_and_nothing_else_has_ended():
    made = [failed(i, f"no module {i}") for i in range(8)]
    assert hopeless(made[:7]) is None
    assert hopeless(made) == "all 8 trials failed, all of them: no module 0"
    assert hopeless([*made, Trial(9, {}, state="running")]) is not None
    assert hopeless([*made, Trial(9, {}, state="done", value=1.0)]) is None
    assert hopeless([*made, Trial(9, {}, state="pruned")]) is None


def test_the_key_that_tells_the_diverged_from_the_others_is_named():
    made = [
        Trial(i, {"lr": lr, "decay": i % 3, "optimizer": "sgd"}, state="pruned" if lr > 1 else "done",
              value=None if lr > 1 else 0.5, attrs={"diverged": True} if lr > 1 else {})
        for i, lr in enumerate([0.01, 2.0, 0.1, 5.0, 0.5, 3.0, 0.3])
    ]  # fmt: skip
    assert where_diverged(made) == "lr from 2 up"
    low = [Trial(t.number, {"eps": -t.values["lr"]}, t.state, t.value, attrs=t.attrs) for t in made]
    assert where_diverged(low) == "eps from -2 down"
    mixed = [Trial(t.number, {"decay": t.number % 3}, t.state, t.value, attrs=t.attrs) for t in made]
    assert where_diverged(mixed) is None
