"""https://stackoverflow.com/questions/34673164 (DeepLocalize, DeepFD)

Asked: which of two candidates won a county, from 16 columns (inhabitants, ages, incomes in dollars, shares):
two layers of 64 tanh units with dropout of a half, a softmax over two, squared error, SGD with rate 0.1 and
Nesterov's momentum 0.9; the accuracy does not leave that of the larger class.
Cause, by the benchmarks: the columns go in as they are, up to hundreds of thousands, and every tanh is full.
DeepLocalize's correct version normalises (a BatchNormalization), and takes sigmoid with binary
cross-entropy. (Self-made counties of such columns.)
(Alone, the loss does no harm here.)
Root: unscaled-inputs, saturated-units, objective-mismatch
"""

import numpy as np
import torch
from torch import nn

FAULTY = True

torch.manual_seed(3)
rng = np.random.default_rng(3)
count = 1200
city, age, wealth = rng.standard_normal((3, count))
columns = [
    np.exp(10 + 1.2 * city),
    39 + 4 * age - 2 * city,
    39 + 4 * age + rng.standard_normal(count),
    np.exp(2.5 + 0.6 * city),
    16 + 3 * age + rng.standard_normal(count),
    15 + 3 * age + rng.standard_normal(count),
    np.exp(9 + city + 0.3 * rng.standard_normal(count)),
    np.exp(8.5 + city - 0.4 * wealth),
    2.5 + 0.1 * rng.standard_normal(count),
    55 + 6 * wealth,
    20 + 5 * wealth + 4 * city,
    16 - 3 * wealth + 2 * rng.standard_normal(count),
    np.exp(11.2 + 0.3 * wealth + 0.2 * city),
    rng.standard_normal(count),
    rng.standard_normal(count),
    rng.random(count),
]
x = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
won = 1.5 * city - 1.2 * wealth - 0.8 * age + 0.8 * city * age + 0.5 * rng.standard_normal(count) > 0
y = torch.tensor(np.stack([won, ~won], 1), dtype=torch.float32)
x_test, y_test, x, y = x[:300], y[:300], x[300:], y[300:]


def dense(inputs, units):
    layer = nn.Linear(inputs, units)
    nn.init.uniform_(layer.weight, -0.05, 0.05)
    nn.init.zeros_(layer.bias)
    return layer


model = nn.Sequential(
    nn.Identity() if FAULTY else nn.BatchNorm1d(16),
    dense(16, 64),
    nn.Tanh(),
    nn.Dropout(0.5),
    dense(64, 64),
    nn.Tanh(),
    nn.Dropout(0.5),
    dense(64, 2),
    nn.Softmax(dim=1) if FAULTY else nn.Sigmoid(),
)
sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
criterion = nn.MSELoss() if FAULTY else nn.BCELoss()

print(f"constant={y_test.mean(0).max().item():.4f}")
for epoch in range(20):
    model.train()
    for rows in torch.randperm(len(x)).split(16):
        sgd.zero_grad()
        loss = criterion(model(x[rows]), y[rows])
        loss.backward()
        sgd.step()
    print(f"epoch {epoch} loss {loss.item():.4f}")

model.eval()
with torch.no_grad():
    right = model(x_test).argmax(1) == y_test.argmax(1)
print(f"score={right.float().mean().item():.4f}")
