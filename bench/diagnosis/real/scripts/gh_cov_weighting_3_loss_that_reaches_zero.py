"""https://github.com/rickgroen/cov-weighting/issues/3

Several losses are weighted by how much each varies over time (its deviation through its mean). In somebody's own
training all of them become nan after the first epoch.
Cause, by the author and confirmed: a loss that comes to zero divides by zero in the statistics; add a small
constant. (Made up: a place and a side condition, met from the start, of a hinge.)
Root: unstable-objective
"""

import torch
import torch.nn as nn

FAULTY = True
EPS = 0.0 if FAULTY else 1e-8


class CoVWeightingLoss:
    """Weights from running means and deviations of the losses' ratios to their means."""

    def __init__(self, num_losses):
        self.iteration = -1
        self.mean_l = torch.zeros(num_losses)
        self.mean_ratio = torch.zeros(num_losses)
        self.s = torch.zeros(num_losses)
        self.alphas = torch.full((num_losses,), 1 / num_losses)

    def __call__(self, losses):
        now = torch.stack([loss.detach() for loss in losses])
        self.iteration += 1
        before = now.clone() if self.iteration == 0 else self.mean_l
        ratio = (now + EPS) / (before + EPS)
        if self.iteration > 1:
            deviation = (self.s / self.iteration).sqrt() / self.mean_ratio
            self.alphas = deviation / (deviation.sum() + EPS)
        keep = 0.0 if self.iteration == 0 else 1 - 1 / (self.iteration + 1)
        new_mean = keep * self.mean_ratio + (1 - keep) * ratio
        self.s = self.s + (ratio - self.mean_ratio) * (ratio - new_mean) * (self.iteration > 0)
        self.mean_ratio = new_mean
        self.mean_l = keep * self.mean_l + (1 - keep) * now
        return sum(alpha * loss for alpha, loss in zip(self.alphas, losses, strict=True))


def depths(n, g):
    x = torch.rand(n, 6, generator=g) * 2 - 1
    depth = 1.5 + torch.sin(2 * x[:, 0]) * x[:, 1] + 0.5 * x[:, 2] ** 2
    return x, torch.stack([depth, (3 * x[:, 3] * x[:, 4]).tanh()], 1)


def terms(out, y):
    l1 = (out - y).abs().mean()
    square = ((out - y) ** 2).mean()
    too_far = torch.relu(out.abs() - 20).mean()
    return [l1, square, too_far]


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
x, y = depths(1600, g)
x_val, y_val = depths(400, g)
print("constant=0.0")

net = nn.Sequential(nn.Linear(6, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 2))
weighted = CoVWeightingLoss(3)
adam = torch.optim.Adam(net.parameters(), 2e-3)


def one_epoch():
    for rows in torch.randperm(len(x)).split(40):
        loss = weighted(terms(net(x[rows]), y[rows]))
        adam.zero_grad()
        loss.backward()
        adam.step()
    return loss.item()


for epoch in range(25):
    last = one_epoch()
    if epoch % 4 == 0:
        print("epoch", epoch, "loss", last, "weights", weighted.alphas.tolist())
with torch.no_grad():
    r2 = 1 - ((net(x_val) - y_val) ** 2).mean().item() / y_val.var(0).mean().item()
print(f"score={r2 if r2 == r2 else -1.0:.4f}")
