"""https://e-com-net.com/article/1281957349447188480.htm (on the weights of a convolutional network for MNIST)

The convolutional network of TensorFlow's tutorial, its weights drawn by tf.truncated_normal(shape), whose
default deviation is 1.0. With sigmoids that works; with ReLU the accuracy is 10 to 20 %.
Cause by the author: the deviation; with stddev=0.1 the accuracy is as expected. (Half the tutorial's size.)
Root: init-scale
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


def weight_variable(tensor):
    deviation = 1.0 if FAULTY else 0.1
    nn.init.trunc_normal_(tensor, std=deviation, a=-2 * deviation, b=2 * deviation)


class Tutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.fc1 = nn.Linear(2 * 2 * 32, 128)
        self.fc2 = nn.Linear(128, 10)
        for layer in (self.conv1, self.conv2, self.fc1, self.fc2):
            weight_variable(layer.weight)
            nn.init.constant_(layer.bias, 0.1)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def problem():
    digits = ds.data.digits(scale=16)
    (x, y), (xv, yv) = digits.train, digits.valid
    return ds.Problem(
        model=Tutorial,
        objective=nn.CrossEntropyLoss(),
        train=(x.view(-1, 1, 8, 8), y),
        valid=(xv.view(-1, 1, 8, 8), yv),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adam(params, lr=1e-4), batch_size=50, epochs=15, seed=0
    )
