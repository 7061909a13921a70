"""https://community.deeplearning.ai/t/loss-values-do-not-change/324182

Seven points of y = 2x - 1, a Keras model of Dense(4), Dense(2), Dense(1), each with relu, the last one too, Adam
at 0.001, 500 epochs. In six or seven runs of ten the losses stick at one value, whatever the number of layers,
units and epochs.
Cause: relu to the very end: half of the targets lie below zero and cannot be told, and where the few units
are off at the start nothing arrives behind them. (This is such a start. Twin: a linear end and more units.)
Root: dead-units, output-activation
"""

import numpy as np
import torch
from torch import nn

FAULTY = True

torch.manual_seed(6)
x = np.array([[-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]])
y = np.array([[-3.0, -1.0, 1.0, 3.0, 5.0, 7.0, 9.0]])
x = torch.tensor(np.reshape(x, (7, 1))).float()
y = torch.tensor(np.reshape(y, (7, 1))).float()

if FAULTY:
    model_2 = nn.Sequential(
        nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU()
    )
else:
    model_2 = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
for p in model_2.parameters():
    if p.dim() > 1:
        nn.init.xavier_uniform_(p)  # what Keras does
    else:
        nn.init.zeros_(p)

loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model_2.parameters(), lr=0.001 if FAULTY else 0.01)
print("constant=0.0000")
for epoch in range(500):
    out = model_2(x)
    loss = loss_fn(out, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 50 == 0:
        print(f"Epoch {epoch}/500 - loss: {loss.item():.4f}")

print(model_2(torch.tensor([[10.0]])))
print(f"score={max(0.0, 1 - ((model_2(x) - y) ** 2).mean().item() / y.var(unbiased=False).item()):.4f}")
