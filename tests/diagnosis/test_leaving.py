from __future__ import annotations

import os

import pytest

from downslope.diagnosis.leaving import leaving


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses with which the process would have ended."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    return found


def test_the_status_is_the_one_that_telling_gives_and_it_is_told_once(ended: list[int]) -> None:
    told: list[int] = []

    def tell(status: int) -> int:
        told.append(status)
        return status + 1

    before = os._exit
    with leaving(tell):
        os._exit(0)
        os._exit(4)
    assert (told, ended) == ([0], [1, 4])
    assert os._exit is before


def test_a_fault_of_ours_keeps_no_script_from_leaving(ended: list[int]) -> None:
    def broken(status: int) -> int:
        raise RuntimeError(status)

    with leaving(broken):
        os._exit(3)
    assert ended == [3]


def test_a_forked_worker_just_ends(ended: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(status: int) -> int:
        raise AssertionError(status)

    own = os.getpid()
    with leaving(never):
        monkeypatch.setattr(os, "getpid", lambda: own + 1)
        os._exit(0)
    assert ended == [0]


def test_what_the_script_has_put_in_its_place_stays(ended: list[int]) -> None:
    def another(status: int) -> None:
        ended.append(-status)

    with leaving(lambda status: status):
        os._exit = another  # type: ignore[assignment]
    assert os._exit is another
