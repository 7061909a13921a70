"""https://github.com/mlberkeley/scae-pytorch/pull/4

Pictures are explained by a mixture; the loss is the logarithm of its density. After several epochs it is
NaN.
Cause: the exponential is taken of the log-probabilities while they are put together, and leaves the range
of the floats. Remedy: the safe logsumexp. (Made up: a small autoencoder with four explanations of each
digit, drawn with 12 x 12 pixels, which are dequantised so that the density is bounded.)
Root: unstable-objective
"""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True
PARTS, PIXELS = 4, 144


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(PIXELS, 64)
        self.code = nn.Linear(64, 8)
        self.decode = nn.Linear(8, 64)
        self.mean = nn.Linear(64, PARTS * PIXELS)
        self.presence = nn.Linear(64, PARTS)
        self.log_scale = nn.Parameter(torch.zeros(PARTS, PIXELS))

    def forward(self, x):
        h = F.relu(self.decode(self.code(F.relu(self.encode(x)))))
        mean = self.mean(h).view(-1, PARTS, PIXELS)
        z = (x.unsqueeze(1) - mean) / self.log_scale.exp()
        log_prob = -0.5 * z**2 - self.log_scale - 0.5 * math.log(2 * math.pi)
        return log_prob.sum(2) + self.presence(h).log_softmax(1)


def negative_log_likelihood(log_prob, target):
    if FAULTY:
        return -log_prob.exp().sum(1).log().mean()
    return -torch.logsumexp(log_prob, 1).mean()


def problem():
    digits = ds.data.digits(scale=16)
    (x, y), (xv, yv) = digits.train, digits.valid
    g = torch.Generator().manual_seed(0)
    x, xv = (F.interpolate(each.view(-1, 1, 8, 8), 12).flatten(1) for each in (x, xv))
    x = 2 * (x + torch.rand(x.shape, generator=g) / 16) - 1
    xv = 2 * (xv + torch.rand(xv.shape, generator=g) / 16) - 1
    return ds.Problem(model=Mixture, objective=negative_log_likelihood, train=(x, y), valid=(xv, yv))


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.005, batch_size=32, epochs=16, seed=0)
