"""https://stackoverflow.com/questions/31556268 (DeepLocalize, DeepFD)

Asked: exclusive or by a Keras network of four sigmoid units and one, mean absolute error, SGD with rate 0.05
(momentum 0.11, Nesterov), 1000 epochs of one batch. The four predictions are all about a half.
Answered: 50000 epochs often do it; better the squared error, and Adam, and 10000 epochs (7000 in the twin).
(DeepFD: loss, epochs, learning rate, optimizer.)
Root: objective-mismatch, learning-rate-too-low, too-few-steps, plateau
"""

import torch
from torch import nn

FAULTY = True

torch.manual_seed(0)
data = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
label = torch.tensor([[0.0], [1.0], [0.0], [1.0]])

model = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid())
for layer in (model[0], model[2]):
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)

if FAULTY:
    loss_fn, epochs = nn.L1Loss(), 1000
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.11, nesterov=True)
else:
    loss_fn, epochs = nn.MSELoss(), 7000
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

print("constant=0.0000")
for epoch in range(epochs):
    loss = loss_fn(model(data), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % (epochs // 5) == 0:
        print("epoch", epoch, "loss", loss.item())

with torch.no_grad():
    print(model(data).squeeze(1))
    print(f"score={1 - nn.functional.mse_loss(model(data), label).item() / 0.25:.4f}")
