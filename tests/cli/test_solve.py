"""``downslope solve``: the exact answer on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import downslope as ds
from downslope.cli import guard
from downslope.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_data_alone_gets_its_linear_model_and_the_answer_of_the_verb(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["solve", "diabetes", "--json"]) == guard.DONE
    out, err = capsys.readouterr()
    found = json.loads(out)
    table = ds.data.diabetes()
    peer = ds.solve(ds.Problem(model="linear", objective="squared_error", train=table.train))
    assert found["objective"] == pytest.approx(peer.objective, rel=1e-9)
    assert found["kind"] == "strictly-convex"
    assert found["certificate"]["gradient_norm"] < 1e-10
    assert 0.3 < found["valid_metric"] < 0.7
    assert err.endswith("diabetes: model linear, squared error, inputs standardised\n")
    assert not Path("runs").exists()


def test_a_penalty_makes_the_minimum_of_separable_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "wine"]) == guard.DONE
    assert "no minimum is attained" in " ".join(capsys.readouterr().out.split())
    assert main(["solve", "wine", "--l2", "1e-3"]) == guard.DONE
    out = " ".join(capsys.readouterr().out.split())
    assert "exact objective 0.0" in out
    assert "proof gradient norm" in out
    assert "valid accuracy" in out


def test_a_task_in_a_file_is_solved_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(
        "import downslope as ds\n"
        "def problem():\n"
        "    data = ds.data.wine(standardise=True)\n"
        "    return ds.Problem(model='mlp', objective='cross_entropy', train=data.train)\n",
        encoding="utf-8",
    )
    assert main(["solve", "net.py"]) == guard.UNUSABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "not convex in its weights" in err
    assert "use fit" in err


def test_a_negative_penalty_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "diabetes", "--l2", "-1"]) == guard.UNUSABLE
    assert "l2=-1.0: must lie in [0, inf)" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["", "def recipe():\n    return ds.Recipe(lr=0.1)\n"])
def test_what_is_set_beside_a_file_is_told_with_and_without_a_recipe_in_it(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.py").write_text(
        "import downslope as ds\n"
        "def problem():\n"
        "    train = ds.data.diabetes(standardise=True).train\n"
        "    return ds.Problem(model='mlp', arguments={'width': 8}, objective='squared_error', train=train)\n"
        + recipe,
        encoding="utf-8",
    )
    assert main(["solve", "net.py", "--set", "model=linear", "--set", "lr=3"]) == guard.DONE
    assert capsys.readouterr().err.splitlines() == [
        "model linear instead, which takes no width=8",
        "of no use here, where nothing is trained: lr=3",
    ]


def test_settings_that_data_alone_has_no_use_for_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["solve", "diabetes", "--set", "model=mlp", "--set", "objective=huber"]) == guard.DONE
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "of no use here, where data alone gets the linear model: model=mlp",
        "diabetes: model linear, huber, inputs standardised",
    ]
