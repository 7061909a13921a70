"""https://github.com/manzilzaheer/DeepSets/pull/1

Reported: the network that shall give a statistic of each set of samples gives nearly the same for all of
them.
Cause, by the reporter: the prediction has shape (128, 1), the target (128,). Their difference is broadcast
to (128, 128), and what is learnt is the mean over all sets.
Root: objective-mismatch
"""

import torch
from torch import nn

FAULTY = True


class DeepSet(nn.Module):
    def __init__(self, features=64):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(2, features), nn.ELU(), nn.Linear(features, features), nn.ELU())
        self.rho = nn.Sequential(nn.Linear(features, features), nn.ELU(), nn.Linear(features, 1))

    def forward(self, sets):
        return self.rho(self.phi(sets).mean(dim=1))


def draw(count, generator, size=100):
    """Sets of points of the plane, stretched along one axis that is turned; the target is how far."""
    angle = torch.rand(count, generator=generator) * 3.14159 / 2
    points = torch.randn(count, size, 2, generator=generator) * torch.tensor([1.0, 0.2])
    turn = torch.stack([torch.cos(angle), torch.sin(angle), -torch.sin(angle), torch.cos(angle)], dim=1)
    return torch.bmm(points, turn.view(-1, 2, 2)), angle


def l2(y_pred, y):
    if not FAULTY:
        y = y.unsqueeze(1)
    return ((y_pred - y) ** 2).mean()


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
x_train, y_train = draw(1024, g)
x_val, y_val = draw(256, g)

model = DeepSet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
print("constant=0.0000")
for epoch in range(40):
    for batch in torch.randperm(len(x_train)).split(128):
        optimizer.zero_grad()
        loss = l2(model(x_train[batch]), y_train[batch])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        val = l2(model(x_val), y_val)
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: train {loss.item():.4f} val {val.item():.4f}")

with torch.no_grad():
    error = (model(x_val).squeeze(1) - y_val).pow(2).mean()
print(f"score={1 - (error / y_val.var(unbiased=False)).item():.4f}")
