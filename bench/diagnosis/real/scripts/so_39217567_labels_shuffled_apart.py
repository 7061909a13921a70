"""https://stackoverflow.com/questions/39217567

Asked: a network of three layers of eight sigmoid units shall learn to give back the eight bits that it is
given. After 1000 epochs it still guesses, with a loss of 0.25.
Answered: the targets are a shuffled copy, the inputs are not, so a row has nothing to do with its target.
(The repaired code has relu in the hidden layers, the binary cross-entropy and batches of one besides.)
Root: uninformative-inputs, vanishing-gradient
"""

import random

import torch
from torch import nn

FAULTY = True

random.seed(7)
torch.manual_seed(7)
dim = 8

X = []
for i in range(2**dim):
    n = [float(bit) for bit in bin(i)[2:]]
    X.append([0.0] * (dim - len(n)) + n)
y = X[:]
if FAULTY:
    random.shuffle(y)
X, y = torch.tensor(X), torch.tensor(y)


def dense():
    layer = nn.Linear(dim, dim)
    nn.init.normal_(layer.weight, std=0.05)
    nn.init.zeros_(layer.bias)
    return layer


hidden = nn.Sigmoid if FAULTY else nn.ReLU
model = nn.Sequential(dense(), hidden(), dense(), hidden(), dense(), nn.Sigmoid())
loss_fn = nn.MSELoss() if FAULTY else nn.BCELoss()
batch_size = 50 if FAULTY else 1
epochs = 1000 if FAULTY else 60
optimizer = torch.optim.SGD(model.parameters(), lr=0.01 if FAULTY else 0.1)

print("constant=0.5000")
for epoch in range(epochs):
    for batch in torch.randperm(len(X)).split(batch_size):
        loss = loss_fn(model(X[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if epoch % 20 == 0:
        print(epoch, loss.item())

with torch.no_grad():
    output = (model(X) > 0.5).float()
print(f"score={(output == y).float().mean().item():.4f}")
