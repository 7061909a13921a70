"""https://github.com/fastai/fastai2/issues/100

The middle of a cat's head is to be found. Without augmentation it trains; with flips the model just fails: however
long it trains, the points stay in the middle of the picture from left to right.
Cause: with Flip() the picture is turned and the point is not. (The asker shows that it is Flip; a made-up head of
12 x 12 pixels here.)
Root: label-noise, uninformative-inputs
"""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

FAULTY = True


class Flip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, image, point):
        if random.random() < self.p:
            image = image.flip(-1)
            if not FAULTY:
                point = point * torch.tensor([1.0, -1.0])
        return image, point


class Cats(Dataset):
    """A head with two ears somewhere in the picture, and where its middle is, from -1 to 1."""

    def __init__(self, n, seed, tfm=None):
        g = torch.Generator().manual_seed(seed)
        self.tfm = tfm
        self.points = torch.rand(n, 2, generator=g) * 1.4 - 0.7
        line = torch.linspace(-1, 1, 12)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
        images = 0.2 * torch.randn(n, 12, 12, generator=g)
        for shift, size in (((0, 0), 0.3), ((-0.35, -0.25), 0.12), ((-0.35, 0.25), 0.12)):
            middle = self.points + torch.tensor(shift)
            images += (((grid - middle[:, None, None]) ** 2).sum(-1) < size**2).float()
        self.images = images[:, None]

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        item = self.images[i], self.points[i]
        return self.tfm(*item) if self.tfm else item


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(24 * 9, 48), nn.ReLU(), nn.Linear(48, 2), nn.Tanh(),
    )  # fmt: skip


class Learner:
    def __init__(self, train_dl, valid_dl, model, loss_func):
        self.train_dl, self.valid_dl, self.model, self.loss_func = train_dl, valid_dl, model, loss_func

    def fit_one_cycle(self, epochs, lr):
        opt = torch.optim.Adam(self.model.parameters(), lr)
        sched = torch.optim.lr_scheduler.OneCycleLR(opt, lr, epochs * len(self.train_dl))
        for epoch in range(epochs):
            self.model.train()
            for xb, yb in self.train_dl:
                loss = self.loss_func(self.model(xb), yb)
                loss.backward()
                opt.step()
                sched.step()
                opt.zero_grad()
            print(epoch, f"train {loss.item():.5f} valid {self.validate():.5f}")

    def validate(self):
        self.model.eval()
        with torch.no_grad():
            losses = [self.loss_func(self.model(xb), yb).item() * len(xb) for xb, yb in self.valid_dl]
        return sum(losses) / len(self.valid_dl.dataset)


random.seed(0)
torch.manual_seed(0)
train, valid = Cats(1200, 0, Flip()), Cats(300, 1)
print("constant=0.0")
learn = Learner(DataLoader(train, 32, shuffle=True), DataLoader(valid, 100), cnn(), nn.MSELoss())
learn.fit_one_cycle(8, 5e-3)
print(f"score={1 - learn.validate() / valid.points.var(0).mean().item():.4f}")
