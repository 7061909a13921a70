"""https://github.com/bonlime/keras-deeplab-v3-plus/issues/4

A port of DeepLab from TensorFlow to Keras, for segmentation. The original keeps values with probability .9
before the classifying convolution (keep_prob=0.9); the port writes Dropout(0.9).
Cause: Keras's argument (and torch's) is the share that is dropped, so nine values in ten are thrown away.
Remedy, confirmed by the author: Dropout(0.1).
Root: over-regularised
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True


def shapes(n, seed):
    """Pictures of 16 x 16 in noise: a disc (class 1) and a square (class 2) of the same brightness."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    labels = np.zeros((n, 16, 16), dtype=np.int64)
    for i in range(n):
        r, (cy, cx) = rng.uniform(2, 3.5), rng.uniform(3, 13, 2)
        labels[i][(y - cy) ** 2 + (x - cx) ** 2 < r**2] = 1
        top, left, size = rng.integers(0, 11), rng.integers(0, 11), rng.integers(4, 7)
        labels[i][top : top + size, left : left + size] = 2
    images = (labels > 0) + rng.normal(0, 0.5, labels.shape)
    return torch.tensor(images[:, None], dtype=torch.float32), torch.tensor(labels)


def conv_bn(cin, cout, rate=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False), nn.BatchNorm2d(cout), nn.ReLU()
    )


class Deeplabv3(nn.Module):
    def __init__(self, classes=3, width=16):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, width), conv_bn(width, width))
        self.aspp = nn.ModuleList([conv_bn(width, width, rate) for rate in (1, 2, 4)])
        self.concat_projection = nn.Sequential(
            nn.Conv2d(4 * width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.dropout = nn.Dropout(0.9 if FAULTY else 0.1)
        self.logits = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x):
        x = self.stem(x)
        pooled = F.adaptive_avg_pool2d(x, 1).expand_as(x)
        x = torch.cat([pooled] + [branch(x) for branch in self.aspp], dim=1)
        return self.logits(self.dropout(self.concat_projection(x)))


def mean_iou(found, labels):
    """Intersection over union, its mean over the three classes."""
    ious = []
    for c in range(3):
        a, b = found == c, labels == c
        ious.append(((a & b).sum() / (a | b).sum().clamp(min=1)).item())
    return sum(ious) / 3


torch.manual_seed(0)
train_x, train_y = shapes(240, 0)
test_x, test_y = shapes(100, 1)
print(f"constant={mean_iou(torch.zeros_like(test_y), test_y):.4f}")

model = Deeplabv3()
opt = torch.optim.Adam(model.parameters(), lr=7e-4)
for epoch in range(8):
    model.train()
    running = 0.0
    for rows in torch.randperm(len(train_x)).split(12):
        loss = F.cross_entropy(model(train_x[rows]), train_y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        running += loss.item() * len(rows) / len(train_x)
    model.eval()
    with torch.no_grad():
        out = model(test_x)
    print(f"epoch {epoch}: loss {running:.4f}, validation {F.cross_entropy(out, test_y).item():.4f}")
print(f"score={mean_iou(out.argmax(1), test_y):.4f}")
