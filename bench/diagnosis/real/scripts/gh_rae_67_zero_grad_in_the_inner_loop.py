"""https://github.com/bytetriper/RAE/issues/67

Training of a generative model with gradients accumulated over microbatches. In train.py
optimizer.zero_grad(set_to_none=True) is called inside the inner loop, so the gradients are cleared at every
microbatch instead of being accumulated: a step follows the last microbatch alone.
Remedy (a fix linked in the thread): zero_grad once per step, before the inner loop.
(A velocity field of points in the plane, microbatches of one; the score is R2 of the held-out velocities.)
Root: noisy-gradient
"""

import math

import torch
import torch.nn as nn

FAULTY = True


class VelocityNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2)
        )

    def forward(self, x_t, t):
        return self.net(torch.cat([x_t, 2 * t - 1], dim=1))


def ring(n, gen):
    angle = torch.rand(n, generator=gen) * 2 * math.pi
    radius = 1.4 + 0.1 * torch.randn(n, generator=gen)
    return torch.stack([angle.cos() * radius, angle.sin() * radius], dim=1)


def transport(x1, gen):
    noise = torch.randn(x1.shape, generator=gen)
    t = torch.rand(len(x1), 1, generator=gen)
    return (1 - t) * noise + t * x1, t, x1 - noise


def main(lr=1e-2, grad_accum_steps=32, micro_batch_size=1, max_steps=300):
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    val_xt, val_t, val_v = transport(ring(2000, gen), gen)
    spread = (val_v - val_v.mean(0)).pow(2).mean()
    print(f"constant={0.0:.4f}")

    model = VelocityNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    running = 0.0
    for step in range(1, max_steps + 1):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        for _ in range(grad_accum_steps):
            if FAULTY:
                optimizer.zero_grad(set_to_none=True)
            x_t, t, velocity = transport(ring(micro_batch_size, gen), gen)
            loss = (model(x_t, t) - velocity).pow(2).mean() / grad_accum_steps
            loss.backward()
            running += loss.item()
        optimizer.step()
        scheduler.step()
        if step % 50 == 0:
            model.eval()
            with torch.no_grad():
                val_loss = (model(val_xt, val_t) - val_v).pow(2).mean()
            print(f"step {step}: train loss {running / 50:.4f} val loss {val_loss.item():.4f}")
            running = 0.0
    print(f"score={1 - (val_loss / spread).item():.4f}")


if __name__ == "__main__":
    main()
