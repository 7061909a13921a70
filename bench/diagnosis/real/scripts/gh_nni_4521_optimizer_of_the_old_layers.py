"""https://github.com/microsoft/nni/issues/4521

A trained model is pruned: its layers are replaced by smaller ones that take over part of the weights. It
is then finetuned with the optimizer from before, and its parameters do not change.
Cause by the answer: the parameters registered in the optimizer are those of the replaced layers; make a
new optimizer after the replacement.
Root: frozen-parameters
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def trainer(model, loader, optimizer, criterion, epochs):
    model.train()
    for epoch in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print("epoch", epoch, "loss", round(loss.item(), 4))


def evaluator(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return right / len(loader.dataset)


def smaller(layer, rows, columns):
    new = nn.Linear(len(columns), len(rows))
    with torch.no_grad():
        new.weight.copy_(layer.weight[rows][:, columns])
        new.bias.copy_(layer.bias[rows])
    return new


def speedup(model, keep):
    """Keeps the units with the largest norm of their weights."""
    first = model.fc1.weight.norm(dim=1).topk(int(256 * keep)).indices
    second = model.fc2.weight.norm(dim=1).topk(int(128 * keep)).indices
    model.fc1 = smaller(model.fc1, first, torch.arange(64))
    model.fc2 = smaller(model.fc2, second, first)
    model.fc3 = smaller(model.fc3, torch.arange(10), second)


torch.manual_seed(3)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
order = torch.randperm(len(x))
x, y = x[order], y[order]
train_loader = DataLoader(TensorDataset(x[:1437], y[:1437]), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(x[1437:], y[1437:]), batch_size=360)
print(f"constant={y[1437:].bincount().max().item() / 360:.4f}")

model = Model()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
trainer(model, train_loader, optimizer, criterion, epochs=6)
print("trained", evaluator(model, test_loader))

speedup(model, keep=0.1)
print("pruned", evaluator(model, test_loader))
if not FAULTY:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
trainer(model, train_loader, optimizer, criterion, epochs=12)
print(f"score={evaluator(model, test_loader):.4f}")
