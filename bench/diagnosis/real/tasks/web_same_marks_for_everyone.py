""" "Tensorflow Regression Model Giving Same Prediction Every Time" (Stack Overflow;
kept in https://huggingface.co/datasets/nvidia/Nemotron-CC-Math-v1)

A student's marks out of 50 from the hours slept, studied, spent on screens and played the day before: two
sigmoid units, a sigmoid at the end, times 50, squared error, gradient descent at 0.05, weights drawn from
N(0, 1). Every prediction is 50.0.
Cause: the error is in marks, so the gradient is thousands of times what this rate suits; the first steps push
the sigmoid at the end to where it is flat. Twin: marks divided by 50 and a larger number of steps of the same
rate's order.
Root: learning-rate-too-high, saturated-units, unscaled-targets
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
SCALE = 50.0 if FAULTY else 1.0


def students(count, seed):
    g = torch.Generator().manual_seed(seed)
    hours = torch.rand(count, 4, generator=g) * torch.tensor([9.0, 8.0, 5.0, 4.0])
    better = 0.25 * hours[:, 0] + 0.5 * hours[:, 1] - 0.4 * hours[:, 2] - 0.1 * hours[:, 3] - 1.0
    marks = torch.sigmoid(better + 0.2 * torch.randn(count, generator=g)).unsqueeze(1)
    return hours, SCALE * marks


class Marks(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.zeros(2))
        self.w2, self.b2 = nn.Parameter(torch.randn(2, 1)), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out1 = torch.sigmoid(x @ self.w1 + self.b1)
        return SCALE * torch.sigmoid(out1 @ self.w2 + self.b2)


def problem():
    return ds.Problem(
        model=Marks, objective="mse", train=students(300, 0), valid=students(150, 1), metric="r2"
    )


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.05 if FAULTY else 0.5, batch_size=10, epochs=60, seed=0)
