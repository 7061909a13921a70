"""https://github.com/DeepDiagnosis/ICSE2022 (AUTOTRAINER Model Code/Models_MNIST.py, tmp_lenet5)

A model of AutoTrainer's set that DeepDiagnosis looks at: LeNet for MNIST with sixteen more dense layers of
64 relu units, every weight drawn by Keras' RandomUniform (-0.05 to 0.05). The accuracy stays at 10 %.
Remedy, of both tools: another initialisation (he_uniform) against the vanishing gradient. (Here digits of 8
x 8, a quarter of the filters, Adam with rate 0.001, batches of 32.)
Root: vanishing-gradient, init-scale, plateau
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True

torch.manual_seed(0)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3)
        units = [16] + 16 * [64] + [32]
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in zip(units, units[1:], strict=False))
        self.out = nn.Linear(32, 10)
        self.apply(self.start)

    def start(self, module):
        if isinstance(module, nn.Conv2d | nn.Linear):
            if FAULTY:
                nn.init.uniform_(module.weight, -0.05, 0.05)
            else:
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)

    def forward(self, image):
        h = nn.functional.max_pool2d(torch.relu(self.conv1(image)), 2)
        h = torch.relu(self.conv2(h)).flatten(1)
        for dense in self.dense:
            h = torch.relu(dense(h))
        return self.out(h)


x, y = load_digits(return_X_y=True)
x = torch.tensor(x / 16, dtype=torch.float32).view(-1, 1, 8, 8)
y = torch.tensor(y)
shuffled = torch.randperm(len(x))
x, y = x[shuffled], y[shuffled]
x_test, y_test, x, y = x[:360], y[:360], x[360:], y[360:]

model = LeNet()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
loss_function = nn.CrossEntropyLoss()
print(f"constant={y_test.bincount().max().item() / 360:.4f}")
for epoch in range(15):
    model.train()
    for rows in torch.randperm(len(x)).split(32):
        optimizer.zero_grad()
        loss = loss_function(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "loss", round(loss.item(), 4))

model.eval()
with torch.no_grad():
    print(f"score={(model(x_test).argmax(1) == y_test).float().mean().item():.4f}")
