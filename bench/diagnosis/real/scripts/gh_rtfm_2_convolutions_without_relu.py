"""https://github.com/facebookresearch/RTFM/pull/2

Update paper_conv.py: "there's a bug here in that the convs are missing relu activation" - a stack of
convolutions with nothing in between, which is one linear map.
Remedy (merged): a ReLU after each convolution.
(Instead of the game: does a noisy board alternate or repeat from one cell to the next? Both sorts of board are
of mean zero, so that no linear map tells them apart.)
Root: missing-nonlinearity
"""

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812

FAULTY = True


def boards(n, gen):
    """Rows in which a cell repeats its left neighbour's sign with probability .8 (class 1) or .2 (class 0)."""
    label = torch.randint(0, 2, (n,), generator=gen)
    keep = torch.where(label == 1, 0.8, 0.2)[:, None]
    cells = torch.zeros(n, 8, 8)
    cells[:, :, 0] = torch.randint(0, 2, (n, 8), generator=gen) * 2.0 - 1
    for j in range(1, 8):
        same = (torch.rand(n, 8, generator=gen) < keep) * 2.0 - 1
        cells[:, :, j] = cells[:, :, j - 1] * same
    return (cells + 0.3 * torch.randn(n, 8, 8, generator=gen)).unsqueeze(1), label


class Model(nn.Module):
    def __init__(self, channels=(1, 16, 32, 32), n_actions=2):
        super().__init__()
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.convs = nn.ModuleList([nn.Conv2d(a, b, kernel_size=3, padding=1) for a, b in pairs])
        self.policy = nn.Linear(channels[-1], n_actions)

    def conv(self, x):
        for c in self.convs:
            x = c(x)
            if not FAULTY:
                x = F.relu(x)
        return x

    def forward(self, inputs):
        return self.policy(self.conv(inputs).mean((2, 3)))


torch.manual_seed(3)
gen = torch.Generator().manual_seed(3)
train_frames, train_actions = boards(1200, gen)
valid_frames, valid_actions = boards(400, gen)
print(f"constant={valid_actions.bincount().max().item() / len(valid_actions):.4f}")

model = Model()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.99, eps=0.01)
for epoch in range(8):
    model.train()
    for index in torch.randperm(len(train_frames)).chunk(40):
        loss = F.cross_entropy(model(train_frames[index]), train_actions[index])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 40.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(valid_frames)
        valid_loss = F.cross_entropy(logits, valid_actions).item()
        win_rate = (logits.argmax(1) == valid_actions).float().mean().item()
    print(f"epoch {epoch} total_loss {loss.item():.4f} valid_loss {valid_loss:.4f} win_rate {win_rate:.4f}")
print(f"score={win_rate:.4f}")
