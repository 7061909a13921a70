"""https://github.com/BCV-Uniandes/DMS/issues/30 (the same: https://github.com/uci-cbcl/UFold/issues/18)

Segmentation with a backbone that has batch norm, trained with batches of one picture. Asked: why is the
network in train mode in the evaluation?
Answer: as we train with batch size 1, the model is unable to capture proper statistics (of an instance,
actually); in eval mode it is unstable. (Pictures made up, each of its own brightness and contrast; here
the evaluation is in eval mode, and the twin has a norm of each picture, what a batch of one amounts to.)
Root: mode-gap
"""

import torch
import torch.nn as nn

FAULTY = True


def norm(channels):
    return nn.BatchNorm2d(channels) if FAULTY else nn.InstanceNorm2d(channels, affine=True)


class DMN(nn.Module):
    def __init__(self, width=10):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), norm(width), nn.ReLU())
        self.block2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), norm(width), nn.ReLU())
        self.block3 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), norm(width), nn.ReLU())
        self.mask = nn.Conv2d(width, 1, 1)

    def forward(self, img):
        return self.mask(self.block3(self.block2(self.block1(img))))


def draw(n, size=14):
    grid = torch.arange(size)
    masks = torch.zeros(n, 1, size, size)
    for i in range(n):
        (top, left), (h, w) = torch.randint(0, 7, (2,)), torch.randint(4, 8, (2,))
        inside = ((grid >= top) & (grid < top + h))[:, None] & ((grid >= left) & (grid < left + w))[None]
        masks[i, 0] = inside
    contrast = torch.exp(1.2 * torch.randn(n, 1, 1, 1))
    brightness = 5 * torch.randn(n, 1, 1, 1)
    return contrast * (masks + 0.35 * torch.randn_like(masks)) + brightness, masks


def iou(net, images, masks):
    net.eval()
    with torch.no_grad():
        found = torch.cat([net(image[None]) for image in images]) > 0
    return ((found & (masks > 0)).sum() / (found | (masks > 0)).sum()).item()


torch.manual_seed(6)
images, masks = draw(200)
test_images, test_masks = draw(100)
print(f"constant={(test_masks.sum() / test_masks.numel()).item():.4f}")

net = DMN()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(4):
    net.train()
    total_loss = 0.0
    for i in torch.randperm(len(images)).tolist():
        optimizer.zero_grad()
        loss = criterion(net(images[i : i + 1]), masks[i : i + 1])
        loss.backward()
        optimizer.step()
        total_loss += loss.item()
    print(f"epoch {epoch} loss {total_loss / len(images):.4f} IoU {iou(net, test_images, test_masks):.4f}")
print(f"score={iou(net, test_images, test_masks):.4f}")
