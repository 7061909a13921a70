"""https://stackoverflow.com/questions/52800582

Asked: a Keras network (50 sigmoid, 50 elu, Adam) learns y = x to the third a little, y = x to the fourth
not at all, for 400 values of x from -100 to 100.
Answered: inputs of 100 saturate the sigmoid, and targets of 1e8 are out of reach of weights that start near
0.3 and move by 0.001 a step. Scale both.
Root: unscaled-targets, unscaled-inputs
"""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True

torch.manual_seed(0)
x = np.arange(-100, 100, 0.5)
y = x**4
if not FAULTY:
    x, y = x / 100, y / 1e8
x = torch.tensor(x, dtype=torch.float32).reshape(400, 1)
y = torch.tensor(y, dtype=torch.float32).reshape(400, 1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(1, 50)
        self.b = nn.Linear(50, 50)
        self.c = nn.Linear(50, 1)
        for layer in (self.a, self.b, self.c):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, t):
        return self.c(F.elu(self.b(torch.sigmoid(self.a(t)))))


model = Model()
adam = torch.optim.Adam(model.parameters())
print("constant=0.0000")
for epoch in range(2000):
    adam.zero_grad()
    loss = F.mse_loss(model(x), y)
    loss.backward()
    adam.step()
    if epoch % 200 == 0:
        print(epoch, f"{loss.item():.6g}")

with torch.no_grad():
    score = 1 - F.mse_loss(model(x), y) / y.var(unbiased=False)
print(f"score={score.item():.4f}")
