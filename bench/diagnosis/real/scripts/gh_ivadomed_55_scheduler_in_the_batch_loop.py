"""https://github.com/ivadomed/ivadomed/pull/55

Segmentation of medical images: the scheduler of the learning rate, meant for epochs, is stepped in the
loop over the batches.
Cause by the author of the change: the rate decays after every batch instead of after every epoch, and is
soon nothing. Remedy: scheduler.step() once an epoch. (Decay of .95 taken as usual.)
Root: learning-rate-too-low, too-few-steps
"""

import numpy as np
import torch
from torch import nn, optim

FAULTY = True


class SmallUnet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.down1 = self.block(1, width)
        self.down2 = self.block(width, 2 * width)
        self.up = nn.Upsample(scale_factor=2)
        self.last = self.block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    @staticmethod
    def block(before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x):
        high = self.down1(x)
        low = self.down2(nn.functional.max_pool2d(high, 2))
        return torch.sigmoid(self.head(self.last(torch.cat([high, self.up(low)], dim=1))))


def dice_loss(prediction, target):
    smooth = 1.0
    both = (prediction.reshape(-1) * target.reshape(-1)).sum()
    return -(2.0 * both + smooth) / (prediction.sum() + target.sum() + smooth)


def slices(n, rng):
    """A bright disc in noise, and its mask."""
    grid = np.arange(16)
    cx, cy, r = rng.uniform(4, 12, n), rng.uniform(4, 12, n), rng.uniform(2, 4, n)
    far = (grid[None, :, None] - cx[:, None, None]) ** 2 + (grid[None, None, :] - cy[:, None, None]) ** 2
    mask = (far < r[:, None, None] ** 2).astype(np.float32)
    image = mask + rng.normal(0, 0.6, mask.shape)
    return torch.tensor(image[:, None]).float(), torch.tensor(mask[:, None])


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        found = (model(x) > 0.5).float()
    return (2 * (found * y).sum() / (found.sum() + y.sum())).item()


def cmd_train():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    train_x, train_y = slices(320, rng)
    valid_x, valid_y = slices(100, rng)
    print(f"constant={evaluate(EveryPixel(), valid_x, valid_y):.4f}")
    model = SmallUnet()
    optimizer = optim.Adam(model.parameters(), lr=0.001)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.95)
    for epoch in range(1, 31):
        model.train()
        train_loss = 0.0
        order = torch.randperm(len(train_x))
        for i in range(0, len(order), 16):
            rows = order[i : i + 16]
            preds = model(train_x[rows])
            loss = dice_loss(preds, train_y[rows])
            train_loss += loss.item() / (len(order) / 16)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if FAULTY:
                scheduler.step()
        if not FAULTY:
            scheduler.step()
        score = evaluate(model, valid_x, valid_y)
        print(f"Epoch {epoch} training loss: {train_loss:.4f}, validation: {score:.4f}")
    print(f"score={evaluate(model, valid_x, valid_y):.4f}")


class EveryPixel(nn.Module):
    """Calls every pixel a part of the disc: the best constant guess for this score."""

    def forward(self, x):
        return torch.ones_like(x)


if __name__ == "__main__":
    cmd_train()
