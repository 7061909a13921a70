"""https://stackoverflow.com/questions/50306988

Asked: two square clouds of points that do not touch (0.2 to 0.4 and 0.5 to 0.7), a Keras network of two
sigmoid units and a softmax, Adam with its own rate, five epochs of batches of 32. The accuracy is 0.5.
Answered: the network is right but hardly trained: far more epochs (50 and more), or a larger rate.
Root: too-few-steps, learning-rate-too-low
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def model():
    return nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 2))


def clouds(count, seed):
    g = torch.Generator().manual_seed(seed)
    first = 0.2 + 0.2 * torch.rand(count, 2, generator=g)
    second = 0.5 + 0.2 * torch.rand(count, 2, generator=g)
    return torch.cat([first, second]), torch.arange(2).repeat_interleave(count)


def problem():
    return ds.Problem(
        model=model, objective="cross_entropy", train=clouds(100, 0), valid=clouds(100, 1), metric="accuracy"
    )


def recipe():
    if FAULTY:
        return ds.Recipe(optimizer="adam", lr=0.001, batch_size=32, epochs=5)
    return ds.Recipe(optimizer="adam", lr=0.01, batch_size=32, epochs=150)
