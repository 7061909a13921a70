"""https://github.com/VinhLoiIT/signet-pytorch/issues/2

Verification of signatures by a siamese net with the contrastive loss. The loss has (1 - y) with the squared
distance and y with the margin, while the script that makes the pairs calls (genuine, genuine) 1 and
(genuine, forged) 0: the loss falls, yet forged pairs are drawn together and genuine ones pushed apart.
Remedy of the asker, agreed to by the author: y * distance**2 + (1 - y) * max(0, margin - distance)**2.
(Digits here: the same digit is "genuine"; the score is the share of held-out pairs judged rightly.)
Root: objective-mismatch
"""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

FAULTY = True


class ContrastiveLoss(nn.Module):
    def __init__(self, alpha, beta, margin):
        super().__init__()
        self.alpha, self.beta, self.margin = alpha, beta, margin

    def forward(self, x1, x2, y):
        distance = torch.pairwise_distance(x1, x2, p=2)
        if FAULTY:
            y = 1 - y
        near = self.alpha * y * distance**2
        far = self.beta * (1 - y) * torch.clamp(self.margin - distance, min=0) ** 2
        return torch.mean(near + far)


class PairDataset(Dataset):
    """As many genuine as forged pairs; the label is 1 for genuine."""

    def __init__(self, images, digits, n, rng):
        first = rng.integers(0, len(images), n)
        self.y = np.arange(n) % 2
        second = np.empty(n, dtype=int)
        for i in range(n):
            same = digits == digits[first[i]]
            second[i] = rng.choice(np.flatnonzero(same if self.y[i] else ~same))
        self.first, self.second, self.images = first, second, images

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.images[self.first[i]], self.images[self.second[i]], np.float32(self.y[i])


class SigNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 16),
        )

    def forward(self, x1, x2):
        return self.features(x1), self.features(x2)


def accuracy(model, loader, criterion):
    model.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for x1, x2, y in loader:
            a, b = model(x1, x2)
            found = (torch.pairwise_distance(a, b) < criterion.margin / 2).float()
            right += (found == y).sum().item()
            loss += criterion(a, b, y).item() / len(loader)
    return right / len(loader.dataset), loss


if __name__ == "__main__":
    torch.manual_seed(2)
    rng = np.random.default_rng(2)
    images, digits = load_digits(return_X_y=True)
    images = ((images - images.mean()) / images.std()).astype(np.float32).reshape(-1, 1, 8, 8)
    order = rng.permutation(len(images))
    images, digits = images[order], digits[order]
    train_loader = DataLoader(
        PairDataset(images[:1300], digits[:1300], 2000, rng), batch_size=32, shuffle=True
    )
    test_loader = DataLoader(PairDataset(images[1300:], digits[1300:], 600, rng), batch_size=200)
    print(f"constant={0.5:.4f}")

    model = SigNet()
    criterion = ContrastiveLoss(alpha=1, beta=1, margin=1)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4, eps=1e-8, momentum=0.9)
    for epoch in range(6):
        model.train()
        for x1, x2, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(*model(x1, x2), y)
            loss.backward()
            optimizer.step()
        acc, val = accuracy(model, test_loader, criterion)
        print(f"Epoch {epoch}: loss {loss.item():.4f} val loss {val:.4f} accuracy {acc:.4f}")
    print(f"score={acc:.4f}")
