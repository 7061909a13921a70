"""https://stackoverflow.com/questions/48385830

Asked: Nielsen's network for handwritten digits (784, 30, 10, normal weights of deviation 1, SGD with rate
3.0, squared error) is written anew in Keras. His reaches 95 %; this one stays at 10 %, with a loss that is
no number.
Answered: a Dense layer is linear unless it is told otherwise; both layers need their sigmoid.
Root: missing-nonlinearity, learning-rate-too-high, init-scale
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

FAULTY = True

torch.manual_seed(0)
rng = np.random.default_rng(0)

images, digits = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(images / 16.0, digits, test_size=360, random_state=0)
x_train, x_test = torch.tensor(x_train, dtype=torch.float32), torch.tensor(x_test, dtype=torch.float32)
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
y_train_onehot = F.one_hot(y_train, 10).float()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Linear(64, 30)
        self.layer2 = nn.Linear(30, 10)
        for layer in (self.layer1, self.layer2):
            nn.init.normal_(layer.weight, std=1.0)
            nn.init.normal_(layer.bias, std=1.0)

    def forward(self, x):
        if FAULTY:
            return self.layer2(self.layer1(x))
        return torch.sigmoid(self.layer2(torch.sigmoid(self.layer1(x))))


net = Network()
optimizer = torch.optim.SGD(net.parameters(), lr=3.0)
print(f"constant={(y_test == torch.mode(y_train).values).float().mean().item():.4f}")

batch_size = 10
for epoch in range(30):
    order = rng.permutation(len(x_train))
    total = 0.0
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        loss = F.mse_loss(net(x_train[index]), y_train_onehot[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(index)
    print(f"Epoch {epoch + 1}/30 - loss: {total / len(order):.4f}")

with torch.no_grad():
    accuracy = (net(x_test).argmax(1) == y_test).float().mean().item()
print(f"score={accuracy:.4f}")
