"""What the file of a search holds of its storage."""

from __future__ import annotations

import pytest

from downslope.tuning.kept import lasting


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("postgresql://me:s3cret@db.example:5432/x", "postgresql://me@db.example:5432/x"),
        ("mysql+pymysql://me:p%40ss@db/x?ssl=1", "mysql+pymysql://me@db/x?ssl=1"),
        ("postgresql://me:a/b:c@db/x", "postgresql://me@db/x"),
        (
            "postgresql://db/x?user=me&password=s3cret&sslmode=require",
            "postgresql://db/x?sslmode=require&user=me",
        ),
        ("postgresql://db/x", "postgresql://db/x"),
        ("journals/x.log", "HERE/journals/x.log"),
        ("sqlite:///x.db", "sqlite:///HERE/x.db"),
    ],
)
def test_a_storage_is_kept_without_its_password_and_from_the_root(given, kept, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lasting(given) == kept.replace("HERE", str(tmp_path))
