"""https://github.com/yz93/LAVT-RIS/issues/25

Segmentation of what an expression names. Language enters by x + gate(x_residual) * x_residual, the gate
Linear-ReLU-Linear-Tanh with both matrices filled with zeros "to ease the start of training". The asker shows
with a toy script that the gradient of both matrices is then zero for ever.
Cause: each factor is zero, so neither moves. Remedy tried in the thread: the first one is left at its usual
start, only the second is zeroed; gradients flow.
(Grids with three coloured patches and a word for one of the colours; the score is the mean IoU.)
Root: saddle-point, symmetric-init, frozen-parameters
"""

import torch
import torch.nn as nn

FAULTY = True

H = W = 8
COLOURS = 6


def referring(n, gen):
    """Patches of three colours on a grid, the word for one of them, and where it is."""
    colour = torch.zeros(n, H, W, dtype=torch.long)
    words, masks = torch.zeros(n, dtype=torch.long), torch.zeros(n, H, W)
    for i in range(n):
        chosen = torch.randperm(COLOURS, generator=gen)[:3] + 1
        for c in chosen.tolist():
            top, left = torch.randint(0, 6, (2,), generator=gen).tolist()
            colour[i, top : top + 3, left : left + 3] = c
        seen = colour[i][colour[i] > 0]
        words[i] = seen[torch.randint(0, len(seen), (1,), generator=gen)]
        masks[i] = (colour[i] == words[i]).float()
    palette = torch.eye(COLOURS + 1)[:, 1:]
    pixels = palette[colour] + 0.2 * torch.randn(n, H, W, COLOURS, generator=gen)
    return pixels.flatten(1, 2), words - 1, masks.flatten(1)


class PWAM(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.vis_project = nn.Linear(dim, dim)
        self.lang_project = nn.Linear(dim, dim)
        self.project_mm = nn.Linear(dim, dim)

    def forward(self, x, words):
        return self.project_mm(torch.relu(self.vis_project(x) * self.lang_project(words).unsqueeze(1)))


class Stage(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.block = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.fusion = PWAM(dim)
        self.res_gate = nn.Sequential(
            nn.Linear(dim, dim, bias=False), nn.ReLU(), nn.Linear(dim, dim, bias=False), nn.Tanh()
        )
        # initialize the gate to 0
        if FAULTY:
            nn.init.zeros_(self.res_gate[0].weight)
        nn.init.zeros_(self.res_gate[2].weight)

    def forward(self, x, words):
        x = x + self.block(x)
        x_residual = self.fusion(x, words)
        return x + self.res_gate(x_residual) * x_residual


class LAVT(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.patch_embed = nn.Linear(COLOURS, dim)
        self.text_encoder = nn.Embedding(COLOURS, dim)
        self.layers = nn.ModuleList([Stage(dim), Stage(dim)])
        self.classifier = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 1))

    def forward(self, image, sentence):
        x, words = self.patch_embed(image), self.text_encoder(sentence)
        for layer in self.layers:
            x = layer(x, words)
        return self.classifier(x).squeeze(-1)


def mean_iou(found, mask):
    union = ((found + mask) > 0).float().sum(1).clamp(min=1)
    return ((found * mask).sum(1) / union).mean().item()


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
image, sentence, mask = referring(1000, gen)
val_image, val_sentence, val_mask = referring(200, gen)
print(f"constant={mean_iou(torch.ones_like(val_mask), val_mask):.4f}")

model = LAVT()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
for epoch in range(10):
    model.train()
    for rows in torch.randperm(len(image)).split(32):
        loss = criterion(model(image[rows], sentence[rows]), mask[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(val_image, val_sentence)
    iou = mean_iou((logits > 0).float(), val_mask)
    print(f"epoch {epoch} loss {loss.item():.4f} val {criterion(logits, val_mask).item():.4f} mIoU {iou:.4f}")
print(f"score={iou:.4f}")
