"""https://github.com/yangze0930/NTS-Net/issues/14

A net for fine-grained classes gives different results at every test run, and worse than it should.
Cause: the ResNet's forward has x = nn.Dropout(p=0.5)(x): a new module at every call, which is always in
training mode, so net.eval() does not reach it.
Remedy: a self.drop = nn.Dropout(p=0.5) in __init__ (or F.dropout with training=self.training).
(Digits, and a narrow net, so that what is dropped is missed.)
Root: mode-gap
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

SEED = 7
BATCH_SIZE = 32


class ResNet(nn.Module):
    def __init__(self, num_classes=10, width=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(p=0.5)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(x + self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(x)))
        x = self.avgpool(x).flatten(1)
        if FAULTY:
            x = nn.Dropout(p=0.5)(x)
        else:
            x = self.drop(x)
        return self.fc(x)


def evaluate(net, loader, criterion):
    net.eval()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for img, label in loader:
            logits = net(img)
            loss += criterion(logits, label).item() * len(label)
            correct += (logits.argmax(1) == label).sum().item()
    return correct / len(loader.dataset), loss / len(loader.dataset)


torch.manual_seed(7)
x, y = load_digits(return_X_y=True)
x = torch.tensor((x - x.mean()) / x.std(), dtype=torch.float32).view(-1, 1, 8, 8)
x_train, x_test, y_train, y_test = train_test_split(x, torch.tensor(y), test_size=0.25, random_state=7)
trainloader = DataLoader(TensorDataset(x_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
testloader = DataLoader(TensorDataset(x_test, y_test), batch_size=BATCH_SIZE)
print(f"constant={y_test.bincount().max().item() / len(y_test):.4f}")

net = ResNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[12, 16], gamma=0.1)

for epoch in range(18):
    net.train()
    for img, label in trainloader:
        optimizer.zero_grad()
        loss = criterion(net(img), label)
        loss.backward()
        optimizer.step()
    scheduler.step()
    test_acc, test_loss = evaluate(net, testloader, criterion)
    print(
        f"epoch:{epoch} - train loss: {loss.item():.3f} test loss: {test_loss:.3f} test acc: {test_acc:.3f}"
    )
print(f"score={test_acc:.4f}")
