"""https://github.com/yanx27/Pointnet_Pointnet2_pytorch/issues/30

PointNet tells the class of a cloud of points; the label loss goes below zero.
Cause: nll_loss is called on labels_pred, which is the raw output of the last layer and no log_softmax.
Remedy: a log_softmax before it, or cross_entropy instead. (Clouds made up.)
Root: output-activation, objective-mismatch
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset

FAULTY = True


class PointNetCls(nn.Module):
    def __init__(self, num_class):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16)
        self.conv2, self.bn2 = nn.Conv1d(16, 48, 1), nn.BatchNorm1d(48)
        self.fc1, self.fc2 = nn.Linear(48, 32), nn.Linear(32, num_class)

    def forward(self, points):
        x = F.relu(self.bn1(self.conv1(points)))
        x = self.bn2(self.conv2(x)).max(2)[0]
        return self.fc2(F.relu(self.fc1(x)))


class PointNetLoss(nn.Module):
    def forward(self, labels_pred, label):
        if FAULTY:
            return F.nll_loss(labels_pred, label)
        return F.nll_loss(F.log_softmax(labels_pred, dim=1), label)


def clouds(n, points=48):
    """Sphere, cube, rod, plate and cross, turned about the vertical axis."""
    label = torch.randint(0, 5, (n,))
    x = torch.rand(n, points, 3) * 2 - 1
    sphere = F.normalize(torch.randn(n, points, 3), dim=2)
    rod, plate = x * torch.tensor([0.2, 0.2, 1.0]), x * torch.tensor([1.0, 1.0, 0.1])
    arm = torch.eye(3)[torch.randint(0, 3, (n, points))]
    kinds = torch.stack([sphere, x, rod, plate, x * (0.15 + 0.85 * arm)])
    cloud = kinds[label, torch.arange(n)]
    a = torch.rand(n) * 6.28
    turn = torch.stack([a.cos(), -a.sin(), a * 0, a.sin(), a.cos(), a * 0, a * 0, a * 0, a * 0 + 1], 1)
    cloud = cloud @ turn.view(n, 3, 3) + 0.08 * torch.randn(n, points, 3)
    return TensorDataset(cloud.transpose(1, 2).contiguous(), label)


torch.manual_seed(2)
train_set, test_set = clouds(600), clouds(300)
label = test_set.tensors[1]
print(f"constant={label.bincount().max().item() / len(label):.4f}")

classifier = PointNetCls(5)
criterion = PointNetLoss()
optimizer = torch.optim.Adam(classifier.parameters(), lr=0.001, weight_decay=1e-4)
for epoch in range(12):
    classifier.train()
    for points, target in DataLoader(train_set, batch_size=24, shuffle=True):
        optimizer.zero_grad()
        loss = criterion(classifier(points), target)
        loss.backward()
        optimizer.step()
    print(f"Epoch {epoch + 1}: label loss {loss.item():.4f}")

classifier.eval()
with torch.no_grad():
    pred = classifier(test_set.tensors[0]).argmax(1)
print(f"score={(pred == label).float().mean().item():.4f}")
