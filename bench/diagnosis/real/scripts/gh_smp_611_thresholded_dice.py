"""https://github.com/qubvel-org/segmentation_models.pytorch/pull/611

A threshold for the Dice loss: the probabilities are compared with it first. That gave the error "element 0 of
tensors does not require grad", so the function was made to return
torch.tensor((x > threshold).type(x.dtype), requires_grad=True). No error then.
Cause: the comparison has no slope and the new tensor is not connected to the model; nothing reaches the
weights. (The change was not taken up.) Remedy: the Dice loss of the probabilities themselves, threshold=None.
(Bright rods in noise to be segmented; the score is the IoU over the held-out pixels.)
Root: non-differentiable, frozen-parameters
"""

import numpy as np
import torch
import torch.nn as nn

FAULTY = True


def _threshold(x, threshold=None):
    if threshold is not None:
        return torch.tensor((x > threshold).type(x.dtype), requires_grad=True)
    return x


class DiceLoss(nn.Module):
    def __init__(self, eps=1.0, beta=1.0, threshold=None):
        super().__init__()
        self.eps, self.beta, self.threshold = eps, beta, threshold

    def forward(self, y_pr, y_gt):
        y_pr = _threshold(torch.sigmoid(y_pr), self.threshold)
        tp = torch.sum(y_gt * y_pr)
        fp = torch.sum(y_pr) - tp
        fn = torch.sum(y_gt) - tp
        b2 = self.beta**2
        return 1 - ((1 + b2) * tp + self.eps) / ((1 + b2) * tp + b2 * fn + fp + self.eps)


def rods(n, seed):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:20, :20]
    masks = np.zeros((n, 20, 20), dtype=np.float32)
    for mask in masks:
        for _ in range(rng.integers(1, 4)):
            angle, (cy, cx) = rng.uniform(0, np.pi), rng.uniform(3, 17, 2)
            along = (xx - cx) * np.cos(angle) + (yy - cy) * np.sin(angle)
            across = -(xx - cx) * np.sin(angle) + (yy - cy) * np.cos(angle)
            mask[(np.abs(along) < 5) & (np.abs(across) < 1.5)] = 1
    images = masks + rng.normal(0, 0.6, masks.shape)
    images = (images - images.mean()) / images.std()
    return torch.tensor(images[:, None], dtype=torch.float32), torch.tensor(masks[:, None])


class Unet(nn.Module):
    def __init__(self, width=12):
        super().__init__()
        self.enc1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.enc2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.up = nn.Upsample(scale_factor=2)
        self.dec = nn.Sequential(nn.Conv2d(3 * width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        skip = self.enc1(x)
        return self.head(self.dec(torch.cat([skip, self.up(self.enc2(skip))], dim=1)))


def iou_score(y_pr, y_gt):
    return ((y_pr * y_gt).sum() / (y_pr + y_gt - y_pr * y_gt).sum()).item()


torch.manual_seed(0)
train_x, train_y = rods(300, seed=0)
valid_x, valid_y = rods(100, seed=1)
print(f"constant={iou_score(torch.ones_like(valid_y), valid_y):.4f}")

model = Unet()
loss_fn = DiceLoss(threshold=0.5 if FAULTY else None)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for epoch in range(10):
    model.train()
    losses = []
    for idx in torch.randperm(len(train_x)).split(15):
        optimizer.zero_grad()
        loss = loss_fn(model(train_x[idx]), train_y[idx])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        logits = model(valid_x)
        valid_loss = loss_fn(logits, valid_y).item()
        score = iou_score((logits > 0).float(), valid_y)
    print(f"epoch {epoch}: dice_loss {np.mean(losses):.4f} valid dice_loss {valid_loss:.4f} iou {score:.4f}")
print(f"score={score:.4f}")
