"""What is imported before the first step, which is what a user waits for: torch, and little else.

The verbs run one after another in a fresh process, each told by what it loaded beyond the one before.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

STAGES = """
import json, sys, tempfile, torch
from pathlib import Path

def tell(stage):
    print(json.dumps([stage, sorted(sys.modules)]))

tell("torch")
import downslope as ds

def model():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))

data = (torch.randn(32, 4), torch.arange(32) % 2)
problem = ds.Problem(model=model, objective="cross_entropy", train=data, valid=data, metric="accuracy")
recipe = ds.Recipe(optimizer="adamw", lr=0.01, batch_size=16, epochs=1, device="cpu")
tell("nouns")
runs = ds.fit_population(problem, [recipe, recipe.edit(lr=0.02)], progress=False, way="together")
assert runs[0].history["train_loss"].size
tell("population")
with tempfile.TemporaryDirectory() as room:
    ds.fit(problem, recipe, folder=Path(room) / "run", progress=False)
    tell("fit")
    ds.tune(problem, recipe, {"lr": ds.log(1e-3, 0.1)}, trials=2, confirm=0, folder=Path(room) / "search",
            progress=False)
    tell("tune")
"""

NEVER = ("torch._dynamo", "torch._inductor", "sympy", "scipy", "matplotlib", "plotly", "sklearn", "pandas",
         "rich", "sqlalchemy", "ray", "joblib", "typer", "IPython", "numba", "llvmlite")  # fmt: skip
"""No verb that trains needs one of these to begin; torch may load some by itself."""

LATER = {
    "nouns": ("optuna", "downslope.training", "downslope.terrain", "downslope.tuning", "downslope.diagnosis"),
    "population": ("optuna", "numpy.ma", "downslope.terrain", "downslope.tuning", "downslope.diagnosis"),
    "fit": ("optuna", "numpy.ma", "downslope.tuning", "downslope.diagnosis", "downslope.terrain.surveys",
            "downslope.terrain.spectrum", "downslope.terrain.ground", "downslope.terrain.methods.newton"),
    "tune": ("downslope.diagnosis", "downslope.reporting", "downslope.racing", "downslope.terrain.ground"),
}  # fmt: skip
"""What a stage has no need of, with all that is below it."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Modules in memory after each stage."""
    said = subprocess.run(
        [sys.executable, "-c", STAGES], check=True, capture_output=True, text=True,
        cwd=tmp_path_factory.mktemp("cold"),
    )  # fmt: skip
    return {stage: set(names) for stage, names in map(json.loads, said.stdout.splitlines())}


@pytest.mark.parametrize("stage", LATER)
def test_a_verb_loads_nothing_heavy_that_it_has_no_need_of(loaded: dict[str, set[str]], stage: str) -> None:
    needless = (*NEVER, *LATER[stage])
    beyond = loaded[stage] - loaded["torch"]
    assert not [
        name for name in sorted(beyond) if any(f"{name}.".startswith(f"{each}.") for each in needless)
    ]
