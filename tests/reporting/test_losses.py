"""Losses in words and pictures: one formatter, and none beside another that lies on another scale."""

from __future__ import annotations

import contextlib
import io
import textwrap
from pathlib import Path

import pytest
import torch

import downslope as ds
from downslope.core.numerals import loss
from downslope.diagnosis.script import watch_script
from downslope.reporting import console
from downslope.reporting.rows import render

VAE = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
x = (torch.rand(96, 12) < torch.rand(96, 1)).float()
encode, decode = nn.Linear(12, 6), nn.Linear(3, 12)
model = nn.ModuleDict({"encode": encode, "decode": decode})
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

def loss_of(x):
    mean, log = encode(x).chunk(2, 1)
    made = torch.sigmoid(decode(mean + torch.randn_like(mean) * (0.5 * log).exp()))
    return F.binary_cross_entropy(made, x, reduction="sum") TERMS

for epoch in range(8):
    model.train()
    for i in range(0, 64, 16):
        optimizer.zero_grad()
        loss_of(x[i : i + 16]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(loss_of(x[64:]).item() / 32)
"""


@pytest.mark.parametrize("terms", ["- 0.5 * (1 + log - mean**2 - log.exp()).sum()", ""])
def test_a_summed_training_loss_does_not_stand_beside_a_mean_of_held_out_data(
    terms: str, tmp_path: Path
) -> None:
    path = tmp_path / "vae.py"
    path.write_text(textwrap.dedent(VAE).replace("TERMS", terms))
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng():
        found, _ = watch_script(path, ())
    assert found is not None
    summary = found.run.summary
    assert summary["train_loss"] > 16 * 12 * 0.3  # a sum over a batch
    assert summary["valid_loss"] < 1.0  # a mean over its elements
    told = " ".join(render(console.of_run(found.run)).split())
    assert "valid loss" not in told
    assert "valid binary_cross_entropy" in told
    assert "(on a scale of its own)" in told
    page = ds.report(found.run, found).html
    assert "on a scale of its own, not drawn: binary_cross_entropy" in page


def test_a_loss_reads_the_same_in_the_verdict_and_in_the_line_of_the_run() -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    made = ds.Problem(
        model=lambda: torch.nn.Linear(3, 1), objective="squared_error", train=(x, x.sum(1, keepdim=True))
    )
    run = ds.fit(made, ds.Recipe(lr=1e-3, epochs=8, batch_size=16), folder=False, progress=False)
    run.summary["train_loss"] = run.facts.setdefault("ending", {})["train_loss"] = 0.54591
    assert "0.5459" in ds.diagnose(run).verdict
    assert f"train loss {loss(0.54591)}" in render(console.of_run(run))
    assert loss(0.54591) == "0.5459"
