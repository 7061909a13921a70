"""https://discuss.pytorch.org/t/predictions-stuck-at-zero-when-positive-label-1-is-only-16-of-data/145203

With as many ones as zeros the network learns; with 84 % zeros and 16 % ones all its predictions are 0. The
loss is BCEWithLogitsLoss of the sigmoid of the difference of both outputs, each example weighted by [0.84,
0.16][label]. "Is weight correct?"
Cause: the rare class is given the small weight, which makes it five times rarer still, and the sigmoid is taken
twice. (Two clouds that overlap; the score is the mean of both recalls.)
Root: output-activation, class-imbalance
"""

import torch
import torch.nn as nn

FAULTY = True

torch.manual_seed(0)


def data(n):
    labels = (torch.rand(n) < 0.16).long()
    return torch.randn(n, 8) + 0.75 * labels[:, None], labels


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 32)
        self.fc2 = nn.Linear(32, 2)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


class Trainer:
    def __init__(self):
        self.net = Net()
        self.criterion = nn.BCEWithLogitsLoss(reduction="none")  # weighted loss for imbalanced dataset
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def step(self, images, labels):
        out = self.net(images)
        targets = torch.as_tensor(labels, dtype=torch.float32)
        weight = torch.tensor([0.84, 0.16] if FAULTY else [0.16, 0.84])  # how to decide on this weights?
        weight_ = weight[labels.data.view(-1).long()].view_as(targets)
        m = nn.Sigmoid() if FAULTY else nn.Identity()
        loss = self.criterion(m(out[:, 1] - out[:, 0]), targets)
        loss = (loss * weight_).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def validate(self, images, labels):
        self.net.eval()
        with torch.no_grad():
            pred_labels = self.net(images).data.max(1)[1]
        self.net.train()
        return [(pred_labels[labels == k] == k).float().mean().item() for k in (0, 1)]


images, labels = data(3000)
val_images, val_labels = data(1000)
trainer = Trainer()
print("constant=0.5000")
for epoch in range(12):
    total = [trainer.step(images[rows], labels[rows]) for rows in torch.randperm(3000).split(50)]
    recalls = trainer.validate(val_images, val_labels)
    print(f"Epoch {epoch}: loss {sum(total) / len(total):.4f} recall of 0 and 1: {recalls}")
print(f"score={sum(recalls) / 2:.4f}")
