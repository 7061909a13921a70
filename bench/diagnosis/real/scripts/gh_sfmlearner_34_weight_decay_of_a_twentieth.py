"""https://github.com/tinghuiz/SfMLearner/issues/34

Depth and motion learnt from video by how well one frame, moved by them, looks like the next. Rewritten in PyTorch
with the hyper-parameters of the original, both networks go to zero very quickly.
Cause, by the asker: a weight decay of 0.05, which the original wrote down and, by an oversight, never applied;
usual is 5e-5 to 5e-4. The author agrees. (Lines of 48 pixels in place of frames; two small networks.)
Root: over-regularised
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True
WIDTH, FAR = 48, 6.0


class DispNet(nn.Module):
    """How near the scene is, between 0 and 1, from one frame."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, 12, 5, 2), nn.ReLU(), nn.Conv1d(12, 12, 5, 2), nn.ReLU())
        self.fc = nn.Linear(12, 1)

    def forward(self, tgt):
        return torch.sigmoid(self.fc(self.conv(tgt[:, None]).amax(-1)))


class PoseNet(nn.Module):
    """The motion between two frames, from both."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(2, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 16, 7, 2), nn.ReLU()
        )
        self.fc = nn.Sequential(nn.Linear(16 * 21, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, tgt, ref):
        return self.fc(self.conv(torch.stack([tgt, ref], 1)).flatten(1))


def moved(frame, shift):
    """The frame, read at places that lie ``shift`` pixels to the right."""
    place = torch.linspace(-1, 1, WIDTH)[None] + 2 * shift / (WIDTH - 1)
    grid = torch.stack([place, torch.zeros_like(place)], -1)[:, None]
    return F.grid_sample(frame[:, None, None], grid, align_corners=True)[:, 0, 0]


def photometric_loss(tgt, ref, shift):
    return (moved(ref, shift) - tgt).abs()[:, 8:-8].mean()


def frames(n, g):
    """A line of smooth bumps, the brighter the nearer, and the same after a step to the side."""
    near = torch.rand(n, 1, generator=g) * 0.8 + 0.2
    motion = torch.rand(n, 1, generator=g) * 2 - 1
    ref = F.avg_pool1d(torch.randn(n, 1, WIDTH + 10, generator=g), 11, 1)[:, 0] * 3 * (0.5 + near)
    return moved(ref, FAR * near * motion), ref


torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
tgt, ref = frames(2000, g)
tgt_val, ref_val = frames(400, g)
still = photometric_loss(tgt_val, ref_val, torch.zeros(400, 1)).item()
print("constant=0.0")

disp_net, pose_net = DispNet(), PoseNet()
parameters = [{"params": disp_net.parameters()}, {"params": pose_net.parameters()}]
optimizer = torch.optim.Adam(parameters, lr=2e-3, betas=(0.9, 0.999), weight_decay=0.05 if FAULTY else 5e-5)
for epoch in range(15):
    losses = []
    for rows in torch.randperm(len(tgt)).split(32):
        shift = FAR * disp_net(tgt[rows]) * pose_net(tgt[rows], ref[rows])
        loss = photometric_loss(tgt[rows], ref[rows], shift)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        shift = FAR * disp_net(tgt_val) * pose_net(tgt_val, ref_val)
        valid = photometric_loss(tgt_val, ref_val, shift).item()
    print(
        f"epoch {epoch} train {sum(losses) / len(losses):.4f} valid {valid:.4f} (standing still {still:.4f})"
    )
print(f"score={1 - valid / still:.4f}")
