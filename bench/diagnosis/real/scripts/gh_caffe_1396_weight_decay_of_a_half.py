"""https://github.com/BVLC/caffe/issues/1396

"Any input produce the same output": nets that regress coordinates (of the body's joints, among others) give the
same numbers whatever the picture.
One of the askers found his cause: "I change the weight_decay to a small number (0.0005), then it is normal. If
the weight_decay is large (like 0.5), all the weight will eventually become zero." Confirmed by another.
(One bright spot per picture, whose two coordinates are asked as shares of its size; the score is R2.)
Root: over-regularised
"""

import torch
from torch import nn, optim

FAULTY = True

BASE_LR, MOMENTUM = 0.02, 0.9
WEIGHT_DECAY = 0.5 if FAULTY else 0.0005
MAX_ITER, TEST_INTERVAL, BATCH = 600, 100, 32


def make_batch(n, gen):
    where = torch.rand(n, 2, generator=gen) * 10 + 3
    grid = torch.arange(16.0)
    col = torch.exp(-((grid - where[:, :1]) ** 2) / 4)
    row = torch.exp(-((grid - where[:, 1:]) ** 2) / 4)
    image = row[:, :, None] * col[:, None, :] + 0.1 * torch.randn(n, 16, 16, generator=gen)
    return ((image - 0.05) / 0.2)[:, None], where / 16


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
test_image, test_joint = make_batch(400, gen)
print(f"constant={0.0:.4f}")

net = nn.Sequential(
    nn.Conv2d(1, 8, 5, padding=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(8, 16, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 64),
    nn.ReLU(),
    nn.Linear(64, 2),
)
loss_layer = nn.MSELoss()
solver = optim.SGD(net.parameters(), lr=BASE_LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
policy = optim.lr_scheduler.StepLR(solver, step_size=250, gamma=0.3)

train_image, train_joint = make_batch(2000, gen)
for it in range(1, MAX_ITER + 1):
    pick = torch.randint(0, len(train_image), (BATCH,))
    net.train()
    solver.zero_grad()
    loss = loss_layer(net(train_image[pick]), train_joint[pick])
    loss.backward()
    solver.step()
    policy.step()
    if it % TEST_INTERVAL == 0:
        net.eval()
        with torch.no_grad():
            out = net(test_image)
            test_loss = loss_layer(out, test_joint).item()
        print(f"Iteration {it}, loss = {loss.item():.4f}; Test net output: loss = {test_loss:.4f}")

residual = (out - test_joint).pow(2).sum(0) / (test_joint - test_joint.mean(0)).pow(2).sum(0)
print(f"score={1 - residual.mean().item():.4f}")
