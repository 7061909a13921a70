"""https://stackoverflow.com/questions/50079585

Asked: images of three kinds (979 of them), a convolutional network with one sigmoid unit and the binary
cross-entropy, as in Keras' tutorial for cats and dogs. The loss falls below zero, the accuracy stays at a
third.
Answered: one sigmoid tells two classes apart. Three want three units, a softmax and the categorical
cross-entropy.
Root: objective-mismatch, output-activation
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

FAULTY = True


class Images(Dataset):
    """Three kinds of image, in [0, 1]."""

    def __init__(self):
        x, y = load_digits(n_class=3, return_X_y=True)
        self.x = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        self.y = torch.tensor(y)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, outputs)
        )

    def forward(self, x):
        return self.head(self.conv(x))


torch.manual_seed(0)
images = Images()
order = torch.randperm(len(images)).tolist()
train = DataLoader(Subset(images, order[:437]), batch_size=16, shuffle=True)
valid = DataLoader(Subset(images, order[437:]), batch_size=100)

model = Net(1 if FAULTY else 3)
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
bce = nn.BCEWithLogitsLoss()
ce = nn.CrossEntropyLoss()


def criterion(out, label):
    return bce(out.squeeze(1), label.float()) if FAULTY else ce(out, label)


def predict(out):
    return (torch.sigmoid(out) > 0.5).long().squeeze(1) if FAULTY else out.argmax(1)


labels = torch.cat([label for _, label in valid])
print(f"constant={(labels == labels.mode().values).float().mean().item():.4f}")
for epoch in range(10):
    model.train()
    for image, label in train:
        optimizer.zero_grad()
        loss = criterion(model(image), label)
        loss.backward()
        optimizer.step()
    model.eval()
    right, val_loss = 0, 0.0
    with torch.no_grad():
        for image, label in valid:
            out = model(image)
            val_loss += criterion(out, label).item() * len(label)
            right += (predict(out) == label).sum().item()
    print(f"[{epoch + 1}] loss {loss.item():.3f} val {val_loss / 100:.3f} acc {right / len(labels):.3f}")
print(f"score={right / len(labels):.4f}")
