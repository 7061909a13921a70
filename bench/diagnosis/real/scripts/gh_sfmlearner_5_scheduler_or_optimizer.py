"""https://github.com/ClementPinard/SfmLearner-Pytorch/issues/5

Depth from pictures. The asker adds an option --scheduler step (StepLR) to the training script; with it
the loss does not come down at all, without it it does.
Answer: the code says "if scheduler: scheduler.step() else: optimizer.step()"; the scheduler only changes the
rate, one must also call optimizer.step(). "It's working now."
(Scenes made up: brightness falls with the depth of a pixel; the score is R2 over the pixels.)
Root: frozen-parameters, too-few-steps
"""

import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", default=8, type=int)
parser.add_argument("-b", "--batch-size", default=16, type=int)
parser.add_argument("--lr", default=2e-3, type=float)
parser.add_argument("--scheduler", default="step")


def scenes(n, rng):
    """Pictures of 16 x 16 whose pixels lie on two tilted planes; what is far is dark."""
    y, x = np.mgrid[:16, :16] / 15.0
    depths = np.zeros((n, 16, 16))
    for i in range(n):
        a, b = rng.normal(size=3), rng.normal(size=3)
        edge = rng.uniform(0.25, 0.75)
        plane = np.where(x < edge, a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2])
        depths[i] = 1.5 * np.tanh(plane)
    images = 2 * np.exp(-0.7 * (depths + 1.5)) + rng.normal(0, 0.1, depths.shape)
    images = (images - images.mean()) / images.std()
    return torch.tensor(images[:, None], dtype=torch.float32), torch.tensor(
        depths[:, None], dtype=torch.float32
    )


class DispNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.predict_disp = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x):
        return self.predict_disp(F.relu(self.conv2(F.relu(self.conv1(x)))))


def train(args, train_loader, disp_net, optimizer, scheduler):
    disp_net.train()
    total = 0.0
    for tgt_img, depth in train_loader:
        loss = F.mse_loss(disp_net(tgt_img), depth)
        optimizer.zero_grad()
        loss.backward()
        if FAULTY and scheduler is not None:
            scheduler.step()
        else:
            optimizer.step()
        total += loss.item() / len(train_loader)
    return total


@torch.no_grad()
def validate(val_img, val_depth, disp_net):
    disp_net.eval()
    return F.mse_loss(disp_net(val_img), val_depth).item()


def main():
    args = parser.parse_args([])
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    train_set = TensorDataset(*scenes(400, rng))
    val_img, val_depth = scenes(150, rng)
    print(f"constant={0.0:.4f}")
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    disp_net = DispNet()
    optimizer = torch.optim.Adam(disp_net.parameters(), lr=args.lr)
    scheduler = None
    if args.scheduler == "step":
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    for epoch in range(args.epochs):
        train_loss = train(args, train_loader, disp_net, optimizer, scheduler)
        error = validate(val_img, val_depth, disp_net)
        if scheduler is not None and not FAULTY:
            scheduler.step()
        print(f" * Epoch {epoch} train loss {train_loss:.4f} val error {error:.4f}")
    print(f"score={1 - error / val_depth.var(unbiased=False).item():.4f}")


if __name__ == "__main__":
    main()
