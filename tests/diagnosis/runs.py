"""Runs made by hand: what a symptom reads, without any training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

import downslope as ds
from downslope.core.run import Run


def problem(**changes: Any) -> ds.Problem:
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    fields: dict[str, Any] = {
        "model": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        "objective": "cross_entropy", "train": (x, y), "valid": (x, y), "metric": "accuracy",
    }  # fmt: skip
    return ds.Problem(**(fields | changes))


def layer(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "type": "Linear", "fan_in": 64, "fan_out": 64, "weight_rms": 0.07, "gain": 0.58,
        "in_rms": 1.0, "out_rms": 0.6, "out_spread": 0.5, "grad_rms": 1e-3, "equal_rows": False,
        "trainable": True,
    } | changes  # fmt: skip


def run(losses: Any = None, *, constant: float = 2.3, **facts: Any) -> Run:
    """A run that stands at a constant guess unless losses are given; `facts` replace what was measured."""
    losses = np.full(200, constant) if losses is None else np.asarray(losses, dtype=float)
    made = Run(problem=problem(), recipe=ds.Recipe(optimizer="sgd", lr=0.1), status="done")
    made.history.extend("train_loss", list(range(1, len(losses) + 1)), losses.tolist())
    made.summary = {"steps": len(losses)}
    made.facts = {
        "data": {"non_finite": {"count": 0}, "target": {"kind": "classes", "std": 3.0, "mean": 4.5}},
        "features": {"max_rms": 1.0, "rms": 1.0, "offset_ratio": 0.1, "std_ratio": 1.0},
        "output": {"tensors": 1, "expects": "logits", "objective": "cross_entropy", "activation": None,
                   "module": None, "min": -1.0, "max": 1.0, "dead": False, "units": 10},
        "start": {"loss": 2.35, "layers": [layer("0"), layer("2"), layer("4")], "norms": 0},
        "constant": {"loss": constant, "metric": 0.1, "valid_loss": constant, "valid_metric": 0.1},
    } | facts  # fmt: skip
    return made


def learnt(**facts: Any) -> Run:
    """A run that went all the way down."""
    return run(np.geomspace(2.3, 0.02, 200), **facts)
