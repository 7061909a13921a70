"""Who is known to be dead: on this machine at once, of another one when its sign stood still for a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from downslope.tuning import life
from downslope.tuning.life import Counters, Signs, machine, new_worker, said

ELSEWHERE = "lynx~1234abcd~99.4242.1000.00ff00ff"


@pytest.fixture
def signs(tmp_path: Path) -> Iterator[Signs]:
    made = Signs(tmp_path / "life")
    yield made
    made.close()


def test_a_worker_lives_while_its_sign_is_up_and_is_dead_after_it(tmp_path: Path, signs: Signs) -> None:
    other = Signs(tmp_path / "life")
    assert not signs.dead(other.worker)
    assert not signs.dead(signs.worker)
    other.close()
    assert signs.dead(other.worker)


def test_a_process_that_was_killed_is_dead_at_once(tmp_path: Path, signs: Signs) -> None:
    script = (
        "import sys, time; from pathlib import Path; from downslope.tuning.life import Signs\n"
        "print(Signs(Path(sys.argv[1])).worker, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "life")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().strip()
        assert not signs.dead(worker)
        process.kill()
        process.wait()
        assert signs.dead(worker)
        assert said(worker) == f"process {process.pid} on {machine().split('~')[0]}"
    Signs(tmp_path / "life").close()
    assert not (tmp_path / "life" / worker).exists(), "what it left is swept away"


def test_a_worker_of_another_machine_is_dead_when_its_file_has_not_been_touched_for_a_minute(
    tmp_path: Path, signs: Signs
) -> None:
    sign = tmp_path / "life" / ELSEWHERE
    sign.touch()
    assert not signs.dead(ELSEWHERE)
    now = sign.stat().st_mtime
    os.utime(sign, (now, now - 50))
    assert not signs.dead(ELSEWHERE)
    os.utime(sign, (now, now - 70))
    assert signs.dead(ELSEWHERE)
    sign.unlink()
    assert signs.dead(ELSEWHERE), "it has taken its sign down"


def test_of_a_database_the_reader_s_own_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, int] = {}
    now = [1000.0]
    monkeypatch.setattr(life.time, "monotonic", lambda: now[0])
    counters = Counters(kept.get, kept.__setitem__)
    kept[f"life/{ELSEWHERE}"] = 7
    assert not counters.dead(ELSEWHERE)
    now[0] += 59
    assert not counters.dead(ELSEWHERE)
    kept[f"life/{ELSEWHERE}"] = 8
    now[0] += 59
    assert not counters.dead(ELSEWHERE)
    now[0] += 61
    assert counters.dead(ELSEWHERE)
    kept[f"life/{ELSEWHERE}"] = -1
    assert counters.dead(ELSEWHERE)
    counters.close()
    assert kept[f"life/{counters.worker}"] == -1


@pytest.mark.skipif(sys.platform != "linux", reason="when a process started is read from /proc")
def test_a_number_that_another_process_has_got_since_is_not_the_worker() -> None:
    place, number, started, random = new_worker().rsplit(".", 3)
    kept: dict[str, int] = {}
    counters = Counters(kept.get, kept.__setitem__)
    assert not counters.dead(f"{place}.{number}.{started}.{random}")
    assert counters.dead(f"{place}.{number}.{int(started) - 1}.{random}")
    counters.close()


def test_a_sign_is_renewed_while_the_worker_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "BEAT", 0.01)
    made = Signs(tmp_path / "life")
    os.utime(made.sign, (0, 0))
    for _ in range(500):
        if made.sign.stat().st_mtime > 0:
            break
        life.time.sleep(0.01)
    assert made.sign.stat().st_mtime > 0
    made.close()
    assert not (tmp_path / "life").exists(), "the last one takes the folder down"
