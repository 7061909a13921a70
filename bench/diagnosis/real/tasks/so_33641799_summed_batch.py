"""https://stackoverflow.com/questions/33641799

Asked: softmax regression on handwritten digits, as in TensorFlow's tutorial, with rate 0.01. Batches of 100
work; beyond 204 the accuracy is below 10 %.
Answered: the loss is the sum over the batch, so the gradient grows with the batch until the steps throw the
weights out and the logarithm gives NaN. Take the mean (or a smaller rate).
Root: summed-objective, learning-rate-too-high, unstable-objective
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import downslope as ds

FAULTY = True


class Softmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(576, 10))
        self.b = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        return torch.softmax(x @ self.W + self.b, dim=1)


def cross_entropy(y, labels):
    loss = -(labels * torch.log(y)).sum(dim=1)
    return loss.sum() if FAULTY else loss.mean()


def accuracy(y, labels):
    return (y.argmax(1) == labels.argmax(1)).float().mean().item()


accuracy.goal = "max"


def problem():
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8) / 16, np.ones((1, 3, 3))).reshape(
        len(images), -1
    )  # 24 x 24 pixels
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order].astype("float32"), np.eye(10, dtype="float32")[labels[order]]
    train, test = (images[300:], labels[300:]), (images[:300], labels[:300])
    return ds.Problem(model=Softmax, objective=cross_entropy, train=train, valid=test, metric=accuracy)


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.01 if FAULTY else 0.5, batch_size=256, steps=600)
