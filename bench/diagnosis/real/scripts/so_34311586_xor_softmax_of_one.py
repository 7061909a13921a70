"""https://stackoverflow.com/questions/34311586 (DeepLocalize, DeepFD)

Asked: exclusive or in Keras, layers of two, three and one units, all weights uniform within 0.05, sigmoid,
sigmoid, softmax, squared error, SGD with rate 0.001 and momentum 0.9, 20 epochs on six rows. It answers 1 to
everything.
Cause, by the benchmarks: the softmax of a single unit is 1; then the learning rate, the initialisation, the
number of epochs. The twin: sigmoid at the end, rate 0.1 and 10000 epochs (4000 here) in batches of 4
(DeepLocalize), and Keras' default initialisation.
Root: output-activation, learning-rate-too-low, too-few-steps, init-scale, symmetric-init
"""

import torch
from torch import nn

FAULTY = True

torch.manual_seed(2)
X = torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
y = torch.tensor([[0.0], [0.0], [1.0], [1.0], [0.0], [0.0]])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3), nn.Linear(3, 1)])
        for layer in self.layers:
            if FAULTY:
                nn.init.uniform_(layer.weight, -0.05, 0.05)
            else:
                nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers[:2]:
            x = torch.sigmoid(layer(x))
        x = self.layers[2](x)
        return torch.softmax(x, dim=1) if FAULTY else torch.sigmoid(x)


model = Net()
mse = nn.MSELoss()
rate, epochs, batch = (0.001, 20, 32) if FAULTY else (0.1, 4000, 4)
sgd = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)

mean = (y - y.mean()).pow(2).mean()
print("constant=0.0000")
for _ in range(epochs):
    order = torch.randperm(6)
    for rows in order.split(batch):
        sgd.zero_grad()
        loss = mse(model(X[rows]), y[rows])
        loss.backward()
        sgd.step()

with torch.no_grad():
    prediction = model(X)
print(prediction.squeeze(1))
print(f"score={1 - (mse(prediction, y) / mean).item():.4f}")
