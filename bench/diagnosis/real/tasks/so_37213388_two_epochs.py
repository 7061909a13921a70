"""https://stackoverflow.com/questions/37213388 (DeepFD)

Asked: "Keras accuracy does not change": a few thousand images of 28 x 28, a network after Keras' example
for MNIST, batches of 128, two epochs; the accuracy stays where it starts.
Cause, by DeepFD: two epochs of so few batches are hardly any steps; ten epochs. (The asker's spectrograms are
not to be had: digits of 8 x 8 here, and the layers are a quarter as wide.)
Root: too-few-steps
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))

    def forward(self, image):
        return self.head(self.features(image.view(-1, 1, 8, 8)))


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=Net, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adadelta(params, lr=1.0, rho=0.95),
        batch_size=128,
        epochs=2 if FAULTY else 10,
    )
