"""https://github.com/Deci-AI/super-gradients/issues/416

Training on ImageNet with dataloader parameters that only say the batch size: no shuffle=True is passed,
the sampler is sequential, and the files lie sorted by class. The network sees one class at a time, "which
quickly throws it out of the minima".
Remedy: shuffle=True.
Root: unshuffled-data
"""

import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

FAULTY = True

dataloader_params = {"batch_size": 24}
if not FAULTY:
    dataloader_params["shuffle"] = True

train_params = {
    "max_epochs": 8,
    "initial_lr": 0.01,
    "optimizer_params": {"weight_decay": 0.0001, "momentum": 0.9, "nesterov": True},
}


class ImageFolder(Dataset):
    """Pictures as they lie in folders: class after class."""

    def __init__(self, images, classes):
        order = classes.argsort(stable=True)
        self.images, self.classes = images[order], classes[order]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return (self.images[index] - 0.3) / 0.38, self.classes[index]


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


torch.manual_seed(0)
images, classes = load_digits(return_X_y=True)
images = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
classes = torch.tensor(classes)
mixed = torch.randperm(len(images))
train = ImageFolder(images[mixed[:1440]], classes[mixed[:1440]])
valid = ImageFolder(images[mixed[1440:]], classes[mixed[1440:]])
train_dataloader = DataLoader(train, **dataloader_params)
valid_dataloader = DataLoader(valid, batch_size=119)
print(f"constant={valid.classes.bincount().max().item() / len(valid):.4f}")

model = nn.Sequential(
    Block(1, 16, 1), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
)
optimizer = torch.optim.SGD(
    model.parameters(), lr=train_params["initial_lr"], **train_params["optimizer_params"]
)
criterion = nn.CrossEntropyLoss()

for epoch in range(train_params["max_epochs"]):
    model.train()
    for inputs, targets in train_dataloader:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    correct, valid_loss = 0, 0.0
    with torch.no_grad():
        for inputs, targets in valid_dataloader:
            output = model(inputs)
            valid_loss += criterion(output, targets).item() / len(valid_dataloader)
            correct += (output.argmax(1) == targets).sum().item()
    print(f"{epoch} train loss {loss.item():.4f} valid loss {valid_loss:.4f} acc {correct / len(valid):.4f}")
print(f"score={correct / len(valid):.4f}")
