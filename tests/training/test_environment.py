"""What a run keeps of the machine and of the command that began it."""

from __future__ import annotations

import sys

from downslope.training.environment import environment


def test_the_command_line_is_kept_without_its_passwords(monkeypatch) -> None:
    words = [
        "downslope",
        "tune",
        "--storage",
        "postgresql://me:s3cret/@db/x",
        "--storage=mysql://db/x?password=s3cret",
    ]
    monkeypatch.setattr(sys, "argv", words)
    assert environment()["argv"] == [
        "downslope", "tune", "--storage", "postgresql://me:***@db/x", "--storage=mysql://db/x?password=***"
    ]  # fmt: skip
