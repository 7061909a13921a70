"""https://github.com/adambielski/siamese-triplet/issues/18

A siamese network with the contrastive loss trains for some iterations, then its derivatives are suddenly
NaN.
Cause by the asker, taken over by the author: the square root of a squared distance that is 0 (two exactly
equal samples in a pair) has an infinite derivative, and 0 times infinity is NaN. Remedy: a small constant
under the root.
Root: unstable-objective
"""

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset

FAULTY = True


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.convnet = nn.Sequential(nn.Conv2d(1, 16, 3), nn.PReLU(), nn.MaxPool2d(2, stride=2))
        self.fc = nn.Sequential(nn.Linear(16 * 9, 64), nn.PReLU(), nn.Linear(64, 2))

    def forward(self, x):
        output = self.convnet(x)
        return self.fc(output.view(output.size(0), -1))


class SiameseNet(nn.Module):
    def __init__(self, embedding_net):
        super().__init__()
        self.embedding_net = embedding_net

    def forward(self, x1, x2):
        return self.embedding_net(x1), self.embedding_net(x2)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin):
        super().__init__()
        self.margin = margin
        self.eps = 0.0 if FAULTY else 1e-9

    def forward(self, output1, output2, target):
        distances = (output2 - output1).pow(2).sum(1)
        apart = nn.functional.relu(self.margin - (distances + self.eps).sqrt()).pow(2)
        losses = 0.5 * (target.float() * distances + (1 - target).float() * apart)
        return losses.mean()


class SiameseDigits(Dataset):
    """Pairs; of the same class now and then a picture with itself."""

    def __init__(self, x, y, length, seed):
        random = np.random.default_rng(seed)
        self.x = x
        self.pairs = []
        for _ in range(length):
            target, first = random.integers(2), random.integers(len(x))
            same = np.flatnonzero((y == y[first]) if target else (y != y[first]))
            self.pairs.append((first, int(random.choice(same)), int(target)))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        first, second, target = self.pairs[index]
        return self.x[first], self.x[second], target


torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16
train_loader = DataLoader(SiameseDigits(x[:1200], y[:1200], 3000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(SiameseDigits(x[1200:], y[1200:], 600, 1), batch_size=100)
targets = [target for _, _, target in test_loader.dataset.pairs]
print(f"constant={max(np.mean(targets), 1 - np.mean(targets)):.4f}")

model = SiameseNet(EmbeddingNet())
loss_fn = ContrastiveLoss(margin=1.0)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = lr_scheduler.StepLR(optimizer, 8, gamma=0.1)
for epoch in range(12):
    losses = []
    for first, second, target in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(*model(first, second), target)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    scheduler.step()
    print(f"Epoch: {epoch + 1}/12. Train set: Average loss: {np.mean(losses):.4f}")

model.eval()
right = 0
with torch.no_grad():
    for first, second, target in test_loader:
        one, other = model(first, second)
        near = (one - other).pow(2).sum(1).sqrt() < 0.5
        right += (near == target.bool()).sum().item()
print(f"score={right / len(test_loader.dataset):.4f}")
