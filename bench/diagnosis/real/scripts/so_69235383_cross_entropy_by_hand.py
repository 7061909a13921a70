"""https://stackoverflow.com/questions/69235383

myCEE, the cross-entropy written out as log(sum(exp(outputs))) minus the output of the right class, summed over
the batch, gives the same value as CrossEntropyLoss(reduction="sum"), but after four epochs the loss is nan.
Answered: the built-in one subtracts the largest output before it takes exp; this one overflows as soon as an
output reaches 89. (Digits with pixels up to 255; the twin takes the built-in one.)
Root: unstable-objective, unscaled-inputs, summed-objective, learning-rate-too-high
"""

import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True

torch.manual_seed(0)
images, targets = load_digits(return_X_y=True)
images, targets = torch.tensor(images).float().mul(16).view(-1, 1, 8, 8), torch.tensor(targets)
train_dl = DataLoader(TensorDataset(images[:1400], targets[:1400]), batch_size=64, shuffle=True)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 16, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def myCEE(outputs, targets):  # noqa: N802
    exp = torch.exp(outputs)
    A = torch.log(torch.sum(exp, dim=1))
    hadamard = F.one_hot(targets, num_classes=10).float() * outputs
    B = torch.sum(hadamard, dim=1)
    return torch.sum(A - B)


loss_func = myCEE if FAULTY else nn.CrossEntropyLoss(reduction="sum")
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=0.018 if FAULTY else 0.01)

print("constant=0.1000")
for epoch in range(5):
    epoch_loss = 0.0
    for inputs, target in train_dl:
        outputs = model(inputs)
        loss = loss_func(outputs, target)
        opt.zero_grad()
        loss.backward()
        opt.step()
        epoch_loss += loss.item() / 1400
    print(f"epoch {epoch} loss {epoch_loss:.5f}")

with torch.no_grad():
    accuracy = (model(images[1400:]).argmax(1) == targets[1400:]).float().mean().item()
print(f"score={accuracy:.4f}")
