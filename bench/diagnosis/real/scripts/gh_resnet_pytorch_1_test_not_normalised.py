"""https://github.com/JeasunLok/ResNet-pytorch/issues/1

"Why is the training accuracy okay, but the testing accuracy is very low?"
Cause by the author: the normalisation was used in the training set and not in the test set.
Remedy: the same transformation for both.
Root: dataset-shift
"""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

FAULTY = True


class Compose:
    def __init__(self, *transforms):
        self.transforms = transforms

    def __call__(self, x):
        for each in self.transforms:
            x = each(x)
        return x


def to_tensor(picture):
    return torch.tensor(picture, dtype=torch.float32)[None] / 16


def normalise(x):
    return (x - 0.3054) / 0.1


train_transform = Compose(to_tensor, normalise)
test_transform = to_tensor if FAULTY else Compose(to_tensor, normalise)


class Pictures(Dataset):
    def __init__(self, pictures, labels, transform):
        self.pictures, self.labels, self.transform = pictures, labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.pictures[index]), int(self.labels[index])


class BasicBlock(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.short = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


def run_epoch(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    total = right = 0
    loss_sum = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for images, target in loader:
            prediction = model(images)
            loss = criterion(prediction, target)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            right += (prediction.argmax(1) == target).sum().item()
            total += len(target)
            loss_sum += loss.item() * len(target)
    return right / total, loss_sum / total


torch.manual_seed(0)
digits = load_digits()
train_set = Pictures(digits.images[:1000], digits.target[:1000], train_transform)
test_set = Pictures(digits.images[1000:1500], digits.target[1000:1500], test_transform)
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(test_set, batch_size=100)
print(f"constant={torch.tensor(test_set.labels).bincount().max().item() / len(test_set):.4f}")
model = nn.Sequential(
    BasicBlock(1, 12, 1), BasicBlock(12, 24, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
for epoch in range(15):
    train_acc, train_loss = run_epoch(model, train_loader, criterion, optimizer)
    scheduler.step()
    test_acc, test_loss = run_epoch(model, test_loader, criterion)
    print(f"{epoch} train {train_acc:.3f} {train_loss:.3f} test {test_acc:.3f} {test_loss:.3f}")
print(f"score={test_acc:.4f}")
