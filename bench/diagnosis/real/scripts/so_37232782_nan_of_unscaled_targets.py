"""https://stackoverflow.com/questions/37232782 (of the benchmarks' lists)

Asked: a Keras regression on one-hot columns (1024, 512 and 256 relu units, one linear unit, SGD with the
squared error): the loss is nan within the first epoch, with any rate and batch size tried.
Answered: the output of a regression is unbounded, so its gradients explode. Scale the targets (z-score or
quantiles), clip the gradients, or take Adam and a smaller rate. (Self-made table of 20 groups, targets of 500
to 3000; an eighth of the units. The twin: z-scored targets and gradients clipped to a norm of 1.)
Root: exploding-gradient, unscaled-targets, learning-rate-too-high
"""

import numpy as np
import torch
from torch import nn

FAULTY = True

torch.manual_seed(3)
rng = np.random.default_rng(3)
groups = [rng.integers(0, 8, 2400) for _ in range(20)]
effect = rng.gamma(2.0, 25.0, (20, 8))
x = np.concatenate([np.eye(8)[g] for g in groups], axis=1)
y = sum(effect[k][g] for k, g in enumerate(groups)) + 40 * rng.standard_normal(2400)
x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32).unsqueeze(1)
x, y, x_test, y_test = x[:2000], y[:2000], x[2000:], y[2000:]
mean, std = (0.0, 1.0) if FAULTY else (y.mean(), y.std())

model = nn.Sequential(
    nn.Linear(160, 128),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(128, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 32),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(32, 1),
)
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.MSELoss()

print("constant=0.0000")
for epoch in range(15):
    model.train()
    total = 0.0
    for rows in torch.randperm(len(x)).split(32):
        loss = criterion(model(x[rows]), (y[rows] - mean) / std)
        optimizer.zero_grad()
        loss.backward()
        if not FAULTY:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * len(rows)
    print(f"epoch {epoch} loss {total / len(x):.4g}")

model.eval()
with torch.no_grad():
    error = (model(x_test) * std + mean - y_test).pow(2).mean()
print(f"score={1 - (error / y_test.var()).item():.4f}")
