"""https://stackoverflow.com/a/55469311 (Why does multi-class classification fail with sigmoid?)

The asker tries several last activations on the network of the MNIST example, with NLLLoss. With
(log-)softmax it learns; with a sigmoid "things fall apart".
Cause by the answer: the classes exclude one another; NLLLoss wants log-probabilities over the classes,
and a sigmoid gives each class a number between 0 and 1 of its own. Use log_softmax with NLLLoss.
Root: objective-mismatch, output-activation
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=3, padding=1)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(80, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = nn.functional.relu(nn.functional.max_pool2d(self.conv1(x), 2))
        x = nn.functional.relu(nn.functional.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 80)
        x = nn.functional.relu(self.fc1(x))
        x = nn.functional.dropout(x, training=self.training)
        x = self.fc2(x)
        if FAULTY:
            return torch.sigmoid(x)
        return nn.functional.log_softmax(x, dim=1)


def train(model, loader, optimizer, epoch):
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        output = model(data)
        loss = nn.functional.nll_loss(output, target)
        loss.backward()
        optimizer.step()
    if epoch % 20 == 0:
        print(f"epoch {epoch} loss {loss.item():.4f}")


def test(model, loader):
    model.eval()
    loss, correct, n = 0.0, 0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            loss += nn.functional.nll_loss(output, target, reduction="sum").item()
            correct += (output.argmax(1) == target).sum().item()
            n += len(target)
    print(f"test loss {loss / n:.4f} accuracy {correct / n:.3f}")
    return correct / n


def main():
    torch.manual_seed(1)
    x, y = load_digits(return_X_y=True)
    x = torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    x, y = (x - 0.3053) / 0.3760, torch.tensor(y)
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    train_loader = DataLoader(TensorDataset(x[:1437], y[:1437]), batch_size=64, shuffle=True)
    test_loader = DataLoader(TensorDataset(x[1437:], y[1437:]), batch_size=180)
    print(f"constant={y[1437:].bincount().max() / len(y[1437:]):.4f}")
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5)
    for epoch in range(1, 101):
        train(model, train_loader, optimizer, epoch)
        if epoch % 10 == 0:
            accuracy = test(model, test_loader)
    print(f"score={accuracy:.4f}")


if __name__ == "__main__":
    main()
