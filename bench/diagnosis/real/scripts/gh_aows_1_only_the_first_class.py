"""https://github.com/bermanmaxim/AOWS/issues/1

A supernet trained on a folder of pictures by class, a limited number of iterations at a time: the losses drop
to 0.0 within two epochs, and what comes out is useless.
Found by the asker: the target was all zero, hence training failed; shuffle=True in the DataLoader fixes the
problem. (A folder is read class by class, so the first iterations hold the first class only.)
(Digits here, in the order of a folder.)
Root: constant-target, unshuffled-data
"""

import itertools

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

FAULTY = True

ITERS_PER_EPOCH, BATCH_SIZE, EPOCHS = 8, 16, 50


class ImageFolder(Dataset):
    """The files of class 0, those of class 1 and so on."""

    def __init__(self, images, targets):
        order = torch.argsort(targets, stable=True)
        self.images, self.targets = images[order], targets[order]

    def __getitem__(self, index):
        return self.images[index], self.targets[index]

    def __len__(self):
        return len(self.targets)


class SuperNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.cell = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * 16, 10))

    def forward(self, x):
        return {"x": self.head(self.cell(self.stem(x)))}


def validate(net, loader, criterion):
    net.eval()
    hits, loss = 0, 0.0
    with torch.no_grad():
        for data, target in loader:
            out = net(data)["x"]
            hits += (out.argmax(1) == target).sum().item()
            loss += criterion(out, target).item() * len(target)
    return hits / len(loader.dataset), loss / len(loader.dataset)


torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(y)
mixed = torch.randperm(len(y))
x, y = x[mixed], y[mixed]
train_loader = DataLoader(ImageFolder(x[:1400], y[:1400]), batch_size=BATCH_SIZE, shuffle=not FAULTY)
val_loader = DataLoader(ImageFolder(x[1400:], y[1400:]), batch_size=100)
print(f"constant={y[1400:].bincount().max().item() / len(y[1400:]):.4f}")

net = SuperNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
for epoch in range(EPOCHS):
    net.train()
    for data, target in itertools.islice(train_loader, ITERS_PER_EPOCH):
        loss = criterion(net(data)["x"], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        acc, val = validate(net, val_loader, criterion)
        print(f"epoch {epoch + 1}: loss {loss.item():.4f} val loss {val:.4f} val acc {acc:.4f}")
print(f"score={acc:.4f}")
