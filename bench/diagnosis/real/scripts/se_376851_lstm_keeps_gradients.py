"""https://stats.stackexchange.com/questions/376851

"Why is LSTM so ineffective at this ridiculously simple sequence?": one sequence, 0, 0.05 .. 1, whose successors
are to be told by an LSTM of 100 units and a linear layer, the errors of the 21 steps summed in a loop. A
thousand iterations do not fit it.
Cause: nothing clears the gradients; each step moves along the sum of all before.
Root: stale-gradients
"""

import numpy as np
import torch

FAULTY = True

torch.manual_seed(0)
lstm = torch.nn.LSTM(input_size=1, hidden_size=100, num_layers=1, batch_first=True).to(torch.double)
linear = torch.nn.Linear(100, 1).to(torch.double)
criterion = torch.nn.MSELoss()
params = list(lstm.parameters()) + list(linear.parameters())
optimizer = torch.optim.SGD(params, lr=5e-3)

L = 21
x = torch.tensor(np.arange(L) / 20, dtype=torch.double).unsqueeze(0).unsqueeze(2)
y = torch.tensor(np.arange(2, L + 2) / 20, dtype=torch.double)

print("constant=0.0000")
for j in range(300):
    hidden = (torch.zeros((1, 1, 100), dtype=torch.double), torch.zeros((1, 1, 100), dtype=torch.double))
    output, hidden = lstm(x, hidden)
    loss = 0.0
    for i in range(L):
        o = linear(output[:, i, :].squeeze())
        loss += criterion(o, y[i : i + 1])
    if j % 30 == 0:
        print(loss.item())
    if not FAULTY:
        optimizer.zero_grad()
    loss.backward()
    optimizer.step()

out_seq = torch.empty(L)
with torch.no_grad():
    output, _ = lstm(x)
    for i in range(L):
        out_seq[i] = linear(output[:, i, :].squeeze())
print("output (expected): ", y)
print("output:", out_seq)
print(f"score={max(0.0, 1 - ((out_seq - y) ** 2).mean().item() / y.var().item()):.4f}")
