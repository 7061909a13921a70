"""https://stats.stackexchange.com/questions/316898

Asked: the softmax regression of TensorFlow's tutorial starts from zeros. With a hidden layer of 100 sigmoid
units put in, and its weights and those of the last layer at zero too, digits are told with 25 %, with
random ones with 92 %.
Answered: units that start alike get the same gradient and stay alike; layers after the first need random
weights.
Root: symmetric-init
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(64, 100))
        self.b = nn.Parameter(torch.zeros(100))
        self.W2 = nn.Parameter(torch.zeros(100, 10) if FAULTY else torch.randn(100, 10))
        self.b2 = nn.Parameter(torch.zeros(10))

    def forward(self, x):
        h1 = torch.sigmoid(x @ self.W + self.b)
        return h1 @ self.W2 + self.b2


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=Net, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(optimizer="sgd", lr=0.5, batch_size=100, steps=1000)
