"""https://github.com/deepset-ai/FARM/issues/229

Regression on texts with labels from 0 to 16. torch warns: a target of size (32, 1) is used with an input
of size (32), and the loss is some two hundred.
Answer: the logits were squeezed and did not match the labels any more (so each is compared with every
label).
Remedy: the same shape for both.
Root: objective-mismatch
"""

import warnings

import torch
from sklearn.datasets import make_friedman1
from torch import nn

import downslope as ds

FAULTY = True

warnings.filterwarnings("ignore", message="Using a target size")


class RegressionModel(nn.Module):
    """A body, and the regression head's one linear layer."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
        self.feed_forward = nn.Linear(64, 1)

    def forward(self, x):
        logits = self.feed_forward(self.body(x))
        return logits.squeeze() if FAULTY else logits


def logits_to_loss(logits, label_ids):
    return nn.functional.mse_loss(logits, label_ids.float())


def problem():
    x, y = make_friedman1(1600, noise=0.5, random_state=0)
    y = (y - y.min()) / (y.max() - y.min()) * 16
    x = torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
    return ds.Problem(
        model=RegressionModel,
        objective=logits_to_loss,
        train=(x[:1280], y[:1280]),
        valid=(x[1280:], y[1280:]),
        metric=r2,
    )


def r2(output, target):
    output, target = output.reshape(-1), target.reshape(-1)
    return (1 - (output - target).pow(2).mean() / target.var(unbiased=False)).item()


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.AdamW(params, lr=1e-3), batch_size=32, epochs=15, seed=42
    )
