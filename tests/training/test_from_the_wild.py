"""A checkpoint as scripts of the wild write it: saved by plain torch elsewhere, used with another head."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import downslope as ds
from tests.training.problems import same_state

NETWORK = '''
import torch
from torch import nn


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1:
            shrink = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(after))

    def forward(self, x):
        way = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + way)


class ResNet(nn.Module):
    """Laid out and named as torchvision's."""

    def __init__(self, num_classes=1000):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(BasicBlock(4, 4), BasicBlock(4, 4))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2), BasicBlock(8, 8))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(self.avgpool(x).flatten(1))
'''
SCRIPT = """
from argparse import Namespace

import numpy as np

torch.manual_seed(0)
model = nn.DataParallel(ResNet(20))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 30)
for _ in range(3):
    x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 20, (8,))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
schedule.step()
checkpoint = {
    "epoch": 90, "arch": "resnet", "state_dict": model.state_dict(), "best_acc1": np.float64(76.1),
    "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict(), "args": Namespace(lr=0.1),
}
torch.save(checkpoint, "checkpoint.pth.tar")
torch.save(model.module.state_dict(), "weights.pth")
"""
TASK = """
import downslope as ds


def problem():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(48, 3, 16, 16, generator=generator)
    y = (x[:, 0].mean((1, 2)) > 0).long()
    return ds.Problem(model=ResNet, arguments={"num_classes": 3}, objective="cross_entropy", train=(x, y))
"""


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the script wrote, and a task beside it."""
    folder = tmp_path_factory.mktemp("wild")
    (folder / "train.py").write_text(NETWORK + SCRIPT, encoding="utf-8")
    (folder / "task.py").write_text(NETWORK + TASK, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, textwrap.shorten(done.stderr.decode(), 2000)
    return folder


def problem(folder: Path) -> ds.Problem:
    from downslope.training.tasks import load_task

    return load_task(str(folder / "task.py")).problem


@pytest.mark.parametrize("name", ["checkpoint.pth.tar", "weights.pth"])
def test_everything_but_the_head_is_taken_and_the_head_has_the_new_classes(name: str, wild: Path) -> None:
    model = problem(wild).edit(weights=wild / name).build(3)
    there = torch.load(wild / "weights.pth", weights_only=True)
    own = model.state_dict()
    assert all(torch.equal(own[key], there[key]) for key in own if not key.startswith("fc."))
    assert own["fc.weight"].shape == (3, 8)
    assert torch.equal(own["fc.weight"], problem(wild).build(3).state_dict()["fc.weight"])


def test_it_is_fine_tuned_by_depth_block_by_block(wild: Path, tmp_path: Path) -> None:
    recipe = ds.Recipe(lr=1e-3, batch_size=16, epochs=3, layer_decay=0.5, unfreeze=1)
    start = problem(wild).edit(weights=wild / "checkpoint.pth.tar")
    run = ds.fit(start, recipe, folder=tmp_path / "run", progress=False)
    names = [row["name"] for row in run.facts["depth"]]
    assert names == ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]
    there = torch.load(wild / "weights.pth", weights_only=True)
    last = run.state("last")
    still = [name for name in names if all(
        torch.equal(last[key], there[key]) for key in there if key.startswith(f"{name}.")
    )]  # fmt: skip
    assert still == ["conv1", "layer1.0", "layer1.1"]
    assert same_state(ds.load_run(tmp_path / "run").model("last").state_dict(), last)


def test_its_features_are_extracted_and_joined(wild: Path) -> None:
    features = ds.extract(problem(wild).edit(weights=wild / "weights.pth"), progress=False)
    assert features.train.batch[0].shape == (48, 8)
    whole = features.join(features.build())
    assert list(whole.state_dict()) == list(problem(wild).build().state_dict())
