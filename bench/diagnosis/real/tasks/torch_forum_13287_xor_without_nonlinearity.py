"""https://discuss.pytorch.org/t/unable-to-learn-xor-representation-using-2-layers-of-multi-layered-perceptron-mlp/13287

Two linear layers and a sigmoid at the end are to learn XOR, and do not.
Answer: it is a linear model; add a non-linearity between the two layers.
(Five hidden units and four points as asked; the rate is chosen so that 3000 steps are enough.)
Root: missing-nonlinearity
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True

input_dim, hidden_dim, output_dim = 2, 5, 1


def model():
    if FAULTY:
        return nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.Linear(hidden_dim, output_dim), nn.Sigmoid()
        )
    return nn.Sequential(
        nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim), nn.Sigmoid()
    )


def problem():
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    return ds.Problem(model=model, objective=nn.BCELoss(), train=(x, y), valid=(x, y), metric=right)


def right(output, target):
    return ((output > 0.5) == (target > 0.5)).float().mean().item()


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1), batch_size="full", steps=3000, seed=0
    )
