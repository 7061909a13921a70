"""https://discuss.pytorch.org/t/why-the-model-fail-to-converge-without-a-manul-weight-initialization/50431

One linear layer is fitted to y = 5 x1 + 3 x2 with inputs of standard deviation 100. It never converges,
its loss wanders in the hundreds of thousands, unless the weight is replaced by a vector of one dimension.
Cause: the output has shape (100, 1) (its squeeze is not assigned), the target (100,), so the loss
compares every output with every target; the one-dimensional weight only happened to give matching shapes.
Root: objective-mismatch
"""

import warnings

import numpy as np
import torch

FAULTY = True

warnings.filterwarnings("ignore", message="Using a target size")
rng = np.random.default_rng(0)
torch.manual_seed(0)


class Net(torch.nn.Module):
    def __init__(self, input_dim, output_dim):
        super().__init__()
        self.layer1 = torch.nn.Linear(input_dim, output_dim, bias=False)

    def forward(self, x):
        x = self.layer1(x)
        if FAULTY:
            x.squeeze()
            return x
        return x.squeeze(1)


sample_size, input_dim, output_dim = 10000, 2, 1
epochs, bs = 30, 100

data = rng.standard_normal((sample_size, 3))
data[:, :2] = data[:, :2] * 100
data[:, 2] = 5 * data[:, 0] + 3 * data[:, 1] + rng.standard_normal(sample_size)
data = torch.Tensor(data)
train_x, train_y = data[:9000, :input_dim], data[:9000, input_dim]
test_x, test_y = data[9000:, :input_dim], data[9000:, input_dim]
print(f"constant={0.0:.4f}")

net = Net(input_dim, output_dim)
criterion = torch.nn.MSELoss()
optimizer = torch.optim.RMSprop(net.parameters(), lr=0.01)

for epoch in range(epochs):
    total = 0.0
    for i in range(0, len(train_x), bs):
        optimizer.zero_grad()
        output = net(train_x[i : i + bs])
        loss = criterion(output, train_y[i : i + bs])
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 5 == 0:
        print("epoch", epoch, "loss", total / (len(train_x) / bs))

print(list(net.parameters()))
with torch.no_grad():
    prediction = net(test_x).view(-1)
residual = (prediction - test_y).pow(2).mean() / test_y.var(unbiased=False)
print(f"score={1 - residual.item():.4f}")
