"""A clip inside a chain of `ds.optim` is known to the diagnosis, and nobody is told to add one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import downslope as ds
from downslope import optim
from downslope.core.edits import SetRecipe
from downslope.core.errors import RecipeError
from downslope.core.run import Run
from downslope.diagnosis.clipped import clipped
from downslope.diagnosis.diagnosis import Diagnosis
from downslope.diagnosis.moves import moves
from downslope.diagnosis.replay import recipe_of
from downslope.diagnosis.script import watch_script
from downslope.diagnosis.symptoms.cliff import cliff
from downslope.diagnosis.symptoms.exploding_gradient import exploding_gradient
from downslope.reporting import facts
from tests.diagnosis.symptoms.problems import diagnosed
from tests.diagnosis.symptoms.test_cliff import fallen
from tests.diagnosis.symptoms.trying import finding
from tests.diagnosis.watched import HEAD

SCRIPT = """
from downslope import optim
torch.manual_seed(SEED)
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))
rule = optim.Custom(model.parameters(), optim.chain(LINKS))
for at in batches(300):
    loss = F.cross_entropy(model(X[at]), C[at])
    rule.zero_grad(); loss.backward(); rule.step()
"""


def watched(tmp_path: Path, links: str, seed: int = 0) -> Diagnosis:
    (path := tmp_path / "train.py").write_text(
        HEAD + SCRIPT.replace("LINKS", links).replace("SEED", str(seed))
    )
    found, _ = watch_script(path, (), trials=0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("after", ["optim.ScaleByLr(lr=0.1)", "optim.HeavyBall(), optim.ScaleByLr(lr=0.1)"])
def test_a_link_that_clips_to_nothing_is_told_and_not_the_rate(after: str, seed: int, tmp_path: Path) -> None:
    found = watched(tmp_path, f"optim.ClipNorm(max_norm=1e-4), {after}", seed)
    assert found.root is not None
    assert "clipped to a norm of 0.0001 inside the optimizer" in found.root.message
    assert "ClipNorm(max_norm=1)" in str(found.root.remedies[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "links",
    [
        "optim.ClipNorm(max_norm=1.0), optim.HeavyBall(), optim.ScaleByLr(lr=0.1)",
        "optim.ClipNorm(max_norm=1e-4), optim.ScaleByAdam(), optim.ScaleByLr(lr=0.01)",
    ],
)
def test_its_twin_and_one_that_the_method_undoes_are_healthy(links: str, seed: int, tmp_path: Path) -> None:
    found = watched(tmp_path, links, seed)
    assert found.healthy
    assert clipped(found.run) is None
    assert facts.recipe(found.run).endswith(", clip norm 1" if "1.0" in links else ", clip norm 0.0001")


def test_a_rate_that_is_too_low_is_so_though_gradients_never_come_to_the_clip(tmp_path: Path) -> None:
    found = watched(tmp_path, "optim.ClipNorm(max_norm=50.0), optim.ScaleByLr(lr=1e-6)")
    assert found.root is not None
    assert "clipped" not in found.root.message


INSIDE = {"told": "clip norm 1", "norm": 1.0, "plain": True}


@pytest.mark.parametrize("clips", [None, INSIDE])
def test_of_a_cliff_nobody_is_told_to_add_a_clip_that_is_there(clips: Any) -> None:
    made = fallen(share=0.9)
    made.facts["clips"] = clips
    assert (SetRecipe({"clip_norm": 1.0}) in finding(cliff(made)).remedies) == (clips is None)


@pytest.mark.parametrize("clips", [None, INSIDE])
def test_of_an_exploding_gradient_neither(clips: Any) -> None:
    made = Run(status="done", summary={"steps": 60, "train_loss": 50.0})
    sizes = {"0": 1e5, "1": 1e4, "2": 1.0}
    layers = [{"name": name, "trainable": True, "grad_rms": size} for name, size in sizes.items()]
    made.facts |= {"clips": clips, "start": {"layers": layers, "loss": 1.0}, "constant": {"loss": 1.5}}
    made.history.extend("train_loss", list(range(1, 61)), [1.0] * 30 + [50.0] * 30)
    assert (SetRecipe({"clip_norm": 1.0}) in finding(exploding_gradient(made)).remedies) == (clips is None)


def clipping(params: Any) -> optim.Custom:
    return optim.Custom(params, optim.chain(optim.ClipNorm(max_norm=1.0), optim.ScaleByLr(lr=1e-6)))


def plain(params: Any) -> optim.Custom:
    return optim.Custom(params, optim.chain(optim.ScaleByLr(lr=1e-6)))


@pytest.mark.parametrize("factory", [clipping, plain])
def test_diagnose_knows_what_a_factory_clips(factory: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    problem = ds.Problem(
        model=lambda: torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)),
        objective="mse",
        train=(x, x.sum(1, keepdim=True).sin()),
    )
    recipe = ds.Recipe(optimizer=factory, batch_size=32, steps=60)
    found = diagnosed(problem, recipe)
    there = factory is clipping
    assert (found.run.facts.get("clips") is not None) == there
    tried = moves(found.run, problem, recipe, far=True)
    assert (SetRecipe({"clip_norm": 1.0}) in tried) == (not there)


def test_that_no_copy_can_be_stepped_by_a_chain_is_said_in_words(tmp_path: Path) -> None:
    found = watched(tmp_path, "optim.ClipNorm(max_norm=50.0), optim.ScaleByLr(lr=0.1)")
    with pytest.raises(RecipeError, match="a chain of the script's own, which no name makes"):
        recipe_of(found.run, 640)
