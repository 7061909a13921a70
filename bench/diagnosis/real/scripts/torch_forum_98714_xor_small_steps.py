"""https://discuss.pytorch.org/t/simple-linear-sigmoid-network-not-learning/98714

A network of sigmoids is to learn whether two bits are equal, by SGD at rate 0.01 on the squared error.
The weights change, but it converges to one result for every input, about 0.5.
Answer: experiment with the learning rate, with momentum (here a new optimizer is made for every step) or
Adam, and train for many iterations; leave the last sigmoid out and use BCEWithLogitsLoss; make it wider.
Root: learning-rate-too-low, too-few-steps, output-activation
"""

import torch
import torch.nn as nn

FAULTY = True

torch.manual_seed(0)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        width = 4 if FAULTY else 16
        self.x1 = nn.Linear(2, width)
        self.s1 = nn.Sigmoid()
        self.x2 = nn.Linear(width, 1)
        self.s2 = nn.Sigmoid()
        self.adam = None if FAULTY else torch.optim.Adam(self.parameters(), lr=0.01)

    def init(self):
        nn.init.uniform_(self.x1.weight)
        nn.init.uniform_(self.x2.weight)

    def forward(self, feats):
        f1 = torch.tensor(feats).float()
        xr2 = self.x2(self.s1(self.x1(f1)))
        return self.s2(xr2) if FAULTY else xr2

    def train(self, val_expected, feats_next):
        val_expected_tensor = torch.tensor(val_expected)
        criterion = nn.MSELoss() if FAULTY else nn.BCEWithLogitsLoss()
        optimizer = torch.optim.SGD(self.parameters(), lr=0.01) if FAULTY else self.adam

        def closure():
            optimizer.zero_grad()
            resp = self.forward(feats_next)
            error = criterion(resp, val_expected_tensor)
            error.backward()
            return error

        return optimizer.step(closure)


net = Network()
if FAULTY:
    net.init()

pairs = [([1.0], [0.0, 0.0]), ([0.0], [0.0, 1.0]), ([0.0], [1.0, 0.0]), ([1.0], [1.0, 1.0])]
for _, feats in pairs:
    print(net.forward(feats))
print(f"constant={0.5:.4f}")

print("--TRAIN START-")
for i in range(1000):
    errors = [net.train(expected, feats) for expected, feats in pairs]
    if i % 200 == 0:
        print(i, sum(each.item() for each in errors) / 4)
print("---TRAIN END---")

half = 0.5 if FAULTY else 0.0
right = 0
for expected, feats in pairs:
    answer = net.forward(feats)
    print(feats, answer)
    right += (answer.item() > half) == (expected[0] > 0.5)
print(f"score={right / 4:.4f}")
