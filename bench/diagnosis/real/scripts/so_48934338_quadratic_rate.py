"""https://stackoverflow.com/questions/48934338

Asked: 50 points of y = 5 x squared, with cubed noise, for x from 0 to 5, and a Keras network of 50 and 30
relu units with SGD at rate 0.1. The predictions are NaN, or a flat line.
Answered: the rate is too high for it; 0.001 gives the curve.
Root: learning-rate-too-high, unscaled-targets
"""

import numpy as np
import torch

FAULTY = True

rng = np.random.default_rng(7)
torch.manual_seed(7)

# datapoints
X = np.arange(0.0, 5.0, 0.1, dtype="float32").reshape(-1, 1)
y = 5 * np.power(X, 2) + np.power(rng.standard_normal((50, 1)), 3)
X, y = torch.from_numpy(X), torch.tensor(y, dtype=torch.float32)

# model
model = torch.nn.Sequential(
    torch.nn.Linear(1, 50),
    torch.nn.ReLU(),
    torch.nn.Linear(50, 30),
    torch.nn.ReLU(),
    torch.nn.Linear(30, 1),
)
torch.nn.init.uniform_(model[2].weight, -0.05, 0.05)

# training
sgd = torch.optim.SGD(model.parameters(), lr=0.1 if FAULTY else 0.001)
loss_fn = torch.nn.MSELoss()
print("constant=0.0000")
for epoch in range(1000):
    for batch in torch.randperm(50).split(32):
        sgd.zero_grad()
        loss = loss_fn(model(X[batch]), y[batch])
        loss.backward()
        sgd.step()
    if epoch % 100 == 0:
        print("epoch", epoch, "loss", float(loss))

# predictions
with torch.no_grad():
    predictions = model(X)
r2 = 1 - torch.mean((predictions - y) ** 2) / torch.var(y, unbiased=False)
print(f"score={r2.item():.4f}")
