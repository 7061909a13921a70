"""https://github.com/jaehyunnn/ViTPose_pytorch/issues/20

A vision transformer finds the joints of people as heat maps. Its rates fall layer by layer from the head (0.75 for
each). Asked: the rate comes up to the preset value and then quickly becomes 0, while the training goes on.
Cause, found by the author: the wrapper of the optimizer multiplies the rates of the groups by their decay at every
step, not once where it is made. (One joint in a made-up picture of 16 x 16 here; a smaller transformer.)
Root: learning-rate-too-low, too-few-steps
"""

import math

import torch
import torch.nn as nn

FAULTY = True
SIZE, PATCH = 16, 4


class LayerDecayOptimizer:
    def __init__(self, optimizer, layerwise_decay_rate):
        self.optimizer = optimizer
        self.rates = layerwise_decay_rate
        if not FAULTY:
            self.decay()

    def decay(self):
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] *= rate

    def step(self):
        if FAULTY:
            self.decay()
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + self.proj(weights @ v)
        return x + self.mlp(self.norm2(x))


class ViTPose(nn.Module):
    def __init__(self, dim=32, depth=2):
        super().__init__()
        self.patch_embed = nn.Conv2d(1, dim, PATCH, PATCH)
        self.pos_embed = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim) for _ in range(depth)])
        self.head = nn.ConvTranspose2d(dim, 1, PATCH, PATCH)

    def forward(self, img):
        x = self.patch_embed(img)
        shape = x.shape
        x = x.flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(x.transpose(1, 2).reshape(shape)).squeeze(1)

    def layers(self):
        return [[self.pos_embed, *self.patch_embed.parameters()]] + [
            list(part.parameters()) for part in [*self.blocks, self.head]
        ]


def people(n, g):
    """A bar from the body up to the joint, which is its brighter end, under noise."""
    joint = torch.rand(n, 2, generator=g) * 10 + 3
    angle = torch.rand(n, 1, generator=g) * 2 * math.pi
    towards = torch.cat([angle.cos(), angle.sin()], 1)
    rows = torch.arange(SIZE).float()
    grid = torch.stack(torch.meshgrid(rows, rows, indexing="ij"), -1)

    def bump(where, width):
        return torch.exp(-((grid - where[:, None, None]) ** 2).sum(-1) / (2 * width**2))

    picture = bump(joint, 0.9) + 0.8 * bump(joint + 2.5 * towards, 1.2) + 0.6 * bump(joint + 5 * towards, 1.5)
    picture = picture + 0.15 * torch.randn(picture.shape, generator=g)
    return picture[:, None], joint, bump(joint, 1.0)


def near(model, img, joint):
    where = model(img).flatten(1).argmax(1)
    found = torch.stack([where // SIZE, where % SIZE], 1).float()
    return ((found - joint).norm(dim=1) < 2).float().mean().item()


torch.manual_seed(1)
g = torch.Generator().manual_seed(1)
img, _, heat = people(1500, g)
test_img, test_joint, _ = people(400, g)
centre = torch.full_like(test_joint, 8.0)
print(f"constant={((centre - test_joint).norm(dim=1) < 2).float().mean().item():.4f}")

model = ViTPose()
layers = model.layers()
base = torch.optim.AdamW([{"params": each} for each in layers], lr=2e-3, weight_decay=0.01)
optimizer = LayerDecayOptimizer(base, [0.75 ** (len(layers) - i) for i in range(len(layers))])
criterion = nn.MSELoss()
for epoch in range(12):
    model.train()
    for rows in torch.randperm(len(img)).split(50):
        optimizer.zero_grad()
        loss = criterion(model(img[rows]), heat[rows]) * 10
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        score = near(model, test_img, test_joint)
    print(f"epoch {epoch + 1} loss {loss.item():.4f} found {score:.3f}")
print(f"score={score:.4f}")
