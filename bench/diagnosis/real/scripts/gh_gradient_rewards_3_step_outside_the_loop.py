"""https://github.com/XinyiYS/Gradient-Driven-Rewards-to-Guarantee-Fairness-in-Collaborative-Machine-Learning/pull/3

Training loop: zero_grad and backward stand in the loop over the batches, optimizer.step() behind it, one
indentation too far to the left.
Cause by the author of the change: the optimizer steps once an epoch and uses the last batch only; it has
to be called for every batch.
Root: too-few-steps, learning-rate-too-low
"""

import torch
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 128)
        self.fc2 = nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.relu(self.fc2(x))
        return nn.functional.log_softmax(self.fc3(x), dim=1)


def train_model(model, loader, loss_fn, optimizer, E=1, scheduler=None):
    model.train()
    for _ in range(E):
        for data, label in loader:
            optimizer.zero_grad()
            pred = model(data)
            loss_fn(pred, label).backward()
            if not FAULTY:
                optimizer.step()
        if FAULTY:
            optimizer.step()
        if scheduler:
            scheduler.step()
    return model


def evaluate(model, eval_loader, loss_fn):
    model.eval()
    loss, correct, total = 0.0, 0, 0
    with torch.no_grad():
        for data, label in eval_loader:
            outputs = model(data)
            loss += loss_fn(outputs, label).item() * len(label)
            correct += (outputs.argmax(1) == label).sum().item()
            total += len(label)
    return loss / total, correct / total


torch.manual_seed(1234)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x).float() / 16, torch.tensor(y)
perm = torch.randperm(len(x))
train_loader = DataLoader(TensorDataset(x[perm[:1400]], y[perm[:1400]]), batch_size=16, shuffle=True)
valid_loader = DataLoader(TensorDataset(x[perm[1400:]], y[perm[1400:]]), batch_size=397)
print(f"constant={y[perm[1400:]].bincount().max().item() / 397:.4f}")
model = MLP()
loss_fn = nn.NLLLoss()
optimizer = optim.SGD(model.parameters(), lr=0.15)
scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.977)
for epoch in range(20):
    train_model(model, train_loader, loss_fn, optimizer, E=1, scheduler=scheduler)
    loss, accuracy = evaluate(model, valid_loader, loss_fn)
    print("Epoch", epoch + 1, "loss", round(loss, 4), "accuracy", round(accuracy, 4))
print(f"score={accuracy:.4f}")
