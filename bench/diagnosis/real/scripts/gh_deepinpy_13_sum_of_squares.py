"""https://github.com/utcsilab/deepinpy/issues/13

Learned reconstruction of images: with a batch size far above 1 "the gradient seems to be exploding".
Cause by the asker: the loss is MSELoss(reduction='sum'), so that gradient and real learning rate grow
with the batch. Remedy: normalise by the batch size (the author adds: or a smaller step size).
Root: summed-objective, learning-rate-too-high, exploding-gradient
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True


class ResNet(nn.Module):
    """Adds what a few convolutions make of the corrupted image."""

    def __init__(self, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, x):
        return x + self.layers(x)


class Recon:
    def __init__(self, step, batch_size):
        self.network = ResNet()
        self.batch_size = batch_size
        self.loss_fun = torch.nn.MSELoss(reduction="sum")
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=step, momentum=0.9)

    def training_step(self, imgs, inp):
        loss = self.loss_fun(self.network(inp), imgs)
        return loss if FAULTY else loss / len(imgs)

    def fit(self, imgs, inp, epochs):
        for epoch in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(imgs)).split(self.batch_size):
                self.optimizer.zero_grad()
                loss = self.training_step(imgs[rows], inp[rows])
                loss.backward()
                self.optimizer.step()
                total += loss.item()
            print(f"epoch {epoch} loss {total:.4g}")


torch.manual_seed(0)
clean, _ = load_digits(return_X_y=True)
clean = torch.tensor(clean, dtype=torch.float32).view(-1, 1, 8, 8) / 16
noisy = clean + 0.3 * torch.randn_like(clean)
mean = clean[:1400].mean(0)
print(f"constant={0.0:.4f}")
recon = Recon(step=0.001, batch_size=32)
recon.fit(clean[:1400], noisy[:1400], epochs=20)
with torch.no_grad():
    left = (recon.network(noisy[1400:]) - clean[1400:]).pow(2).mean() / (clean[1400:] - mean).pow(2).mean()
print(f"score={1 - left.item():.4f}")
