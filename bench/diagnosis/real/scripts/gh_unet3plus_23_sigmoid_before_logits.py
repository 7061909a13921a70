"""https://github.com/avBuffer/UNet3plus_pth/issues/23

A U-Net for masks: unet3plus.py ends in F.sigmoid(d1), and train.py's loss is nn.BCEWithLogitsLoss; the loss does
not decrease.
Cause, by the one who reports it: the sigmoid is applied twice; return d1. (A small U-Net, small bright spots on
pictures made up.)
Root: output-activation
"""

import numpy as np
import torch
from torch import nn, optim

FAULTY = True


def double_conv(i, o):
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(o, o, 3, padding=1), nn.ReLU()
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.bottom = double_conv(1, 8), double_conv(8, 16), double_conv(16, 16)
        self.pool, self.up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)
        self.up2, self.up1 = double_conv(32, 8), double_conv(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        e1 = self.down1(x)
        e2 = self.down2(self.pool(e1))
        d3 = self.bottom(self.pool(e2))
        d2 = self.up2(torch.cat([self.up(d3), e2], 1))
        d1 = self.out(self.up1(torch.cat([self.up(d2), e1], 1)))
        if FAULTY:
            return torch.sigmoid(d1)
        return d1


def load_data(n, seed):
    """Round spots of three sizes are the mask; squares of the same brightness are not."""
    rng = np.random.RandomState(seed)
    ys, xs = np.mgrid[:16, :16]
    images, masks = rng.normal(0, 0.3, (n, 1, 16, 16)), np.zeros((n, 1, 16, 16))
    for image, mask in zip(images, masks, strict=True):
        y, x, r = rng.randint(3, 13), rng.randint(3, 13), rng.choice([1.5, 2.0, 2.5])
        spot = (ys - y) ** 2 + (xs - x) ** 2 <= r**2
        mask[0][spot] = 1
        image[0][spot] += 1
        y, x = rng.randint(2, 14), rng.randint(2, 14)
        line = (abs(ys - y) <= 0) & (abs(xs - x) <= 4) & ~spot
        image[0][line] += 1
    return images.astype(np.float32), masks.astype(np.float32)


def iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        out = net(torch.from_numpy(images))
    probs = out if FAULTY else torch.sigmoid(out)
    pred, true = probs.numpy() > 0.5, masks > 0.5
    net.train()
    return float((pred & true).sum() / (pred | true).sum())


def train_net(net, images, masks, val_images, val_masks, epochs=8, batch_size=16, lr=0.1):
    optimizer = optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-8)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(epochs):
        order = np.random.permutation(len(images))  # noqa: NPY002
        epoch_loss = 0
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            masks_pred = net(torch.from_numpy(images[rows]))
            loss = criterion(masks_pred, torch.from_numpy(masks[rows]))
            epoch_loss += loss.item() * len(rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(
            f"epoch {epoch + 1} loss {epoch_loss / len(order):.4f} iou {iou(net, val_images, val_masks):.3f}"
        )


if __name__ == "__main__":
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    train, val = load_data(800, 0), load_data(200, 1)
    print(f"constant={val[1].mean():.4f}")
    net = UNet()
    train_net(net, *train, *val)
    print(f"score={iou(net, *val):.4f}")
