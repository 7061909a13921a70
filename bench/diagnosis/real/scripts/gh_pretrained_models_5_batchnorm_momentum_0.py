"""https://github.com/Cadene/pretrained-models.pytorch/issues/5

The BasicConv2d of the Inception models has BatchNorm2d(..., eps=0.001, momentum=0). The asker trains them
on other data, and sees a large discrepancy between training and evaluation mode.
Cause: with momentum 0 the running mean and variance are never updated. Remedy: the default, 0.1.
Root: mode-gap
"""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class BasicConv2d(nn.Module):
    def __init__(self, in_planes, out_planes, kernel_size, stride, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_planes, eps=0.001, momentum=0 if FAULTY else 0.1, affine=True)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    def __init__(self, planes):
        super().__init__()
        self.branch0 = BasicConv2d(planes, 8, 1, 1)
        self.branch1 = nn.Sequential(BasicConv2d(planes, 8, 1, 1), BasicConv2d(8, 12, 3, 1, 1))

    def forward(self, x):
        return torch.cat([self.branch0(x), self.branch1(x)], 1)


class Inception(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            BasicConv2d(3, 16, 3, 1, 1), nn.MaxPool2d(2), Mixed(16), Mixed(20), nn.MaxPool2d(2), Mixed(20)
        )
        self.last_linear = nn.Linear(20, num_classes)

    def forward(self, x):
        return self.last_linear(self.features(x).mean(dim=(2, 3)))


def pictures(n, rng):
    """Stripes of four directions in a random colour, on [0, 1]."""
    label = rng.integers(0, 4, n)
    u, v = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    waves = np.stack([u, v, u + v, u - v])[label] * rng.uniform(0.8, 1.4, (n, 1, 1))
    stripe = 0.5 + 0.25 * np.sin(waves + rng.uniform(0, 6, (n, 1, 1)))
    image = stripe[:, None] * rng.uniform(0.5, 1, (n, 3, 1, 1)) + rng.normal(0, 0.1, (n, 3, 16, 16))
    return TensorDataset(torch.tensor(image).float().clamp(0, 1), torch.tensor(label))


def epoch_of(model, loader, criterion, optimizer=None):
    total, correct = 0.0, 0
    for x, y in loader:
        output = model(x)
        loss = criterion(output, y)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        total += loss.item() * len(y)
        correct += (output.argmax(1) == y).sum().item()
    return total / len(loader.dataset), correct / len(loader.dataset)


rng = np.random.default_rng(0)
torch.manual_seed(0)
train, valid = pictures(800, rng), pictures(300, rng)
print(f"constant={valid.tensors[1].bincount().max().item() / len(valid):.4f}")
train_loader = DataLoader(train, batch_size=32, shuffle=True)
valid_loader = DataLoader(valid, batch_size=100)
model = Inception(4)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.001)
for epoch in range(12):
    model.train()
    train_loss, train_accuracy = epoch_of(model, train_loader, criterion, optimizer)
    model.eval()
    with torch.no_grad():
        valid_loss, valid_accuracy = epoch_of(model, valid_loader, criterion)
    print(
        f"{epoch}: train {train_loss:.3f} {train_accuracy:.3f}  valid {valid_loss:.3f} {valid_accuracy:.3f}"
    )
print(f"score={valid_accuracy:.4f}")
