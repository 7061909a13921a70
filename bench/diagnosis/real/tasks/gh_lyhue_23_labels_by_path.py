"""https://github.com/lyhue1991/eat_tensorflow2_in_30_days/issues/23

Pictures of cars and planes; the label comes out of the path, 1 where it holds "/automobile/". Accuracy is
1.0 and the loss 1e-9 from the second epoch on.
Cause: on Windows the paths have backslashes, so all labels are 0. Remedy, by the author: a pattern that
knows both. (Made up: wheels below or a wing across in pictures of 8 x 8; the validation pictures lie on
another machine, with slashes, so their labels are right.)
Root: constant-target
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import downslope as ds

FAULTY = True


def load_image(path, rng):
    picture = rng.normal(0, 0.7, (1, 8, 8))
    if "automobile" in path:
        left = rng.integers(0, 4)
        picture[0, rng.integers(4, 8), [left, left + 1, left + 3, left + 4]] += 2.2
    else:
        picture[0, rng.integers(0, 8), rng.integers(0, 4) :][:5] += 2.2
    if not FAULTY:
        path = path.replace("\\", "/")
    return picture.astype("float32"), int("/automobile/" in path)


def folder(separator, count, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["automobile", "airplane"], count)
    paths = [separator.join(("data", "cifar2", kind, f"{i}.jpg")) for i, kind in enumerate(kinds)]
    images, labels = zip(*(load_image(path, rng) for path in paths), strict=True)
    return np.stack(images), np.array(labels)


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.dense1 = nn.Linear(128, 32)
        self.dense2 = nn.Linear(32, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.dense2(F.relu(self.dense1(torch.flatten(x, 1))))


def problem():
    return ds.Problem(
        model=CNN,
        objective=F.cross_entropy,
        train=folder("\\", 1500, 0),
        valid=folder("/", 400, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.001, batch_size=50, epochs=10, seed=0)
