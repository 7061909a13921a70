"""https://github.com/ctallec/world-models/issues/10

The memory of the world model tells the next latent state by an LSTM and a mixture of Gaussians. The logarithms of
the mixture's weights are made by log_softmax(pi, dim=-2), of a tensor (time, batch, Gaussians).
Cause: dim=-2 is the batch; it should be the Gaussians, dim=-1. The author agrees and mends it. (A made-up world: a
ball on a line that is pushed, and by a coin thrown over to the other side.)
Root: mixed-examples, output-activation, objective-mismatch
"""

import torch
import torch.nn as nn
import torch.nn.functional as f
from torch.distributions.normal import Normal

FAULTY = True
SEQ, GAUSSIANS, LATENTS = 12, 4, 2


def gmm_loss(batch, mus, sigmas, logpi):
    """Minus the logarithm of the mixture's density at batch, for mus (time, batch, gaussians, latents)."""
    log_probs = Normal(mus, sigmas).log_prob(batch.unsqueeze(-2)).sum(-1)
    return -torch.logsumexp(logpi + log_probs, dim=-1).mean()


class MDRNN(nn.Module):
    def __init__(self, latents, actions, hiddens, gaussians):
        super().__init__()
        self.latents, self.gaussians = latents, gaussians
        self.rnn = nn.LSTM(latents + actions, hiddens)
        self.gmm_linear = nn.Linear(hiddens, (2 * latents + 1) * gaussians)

    def forward(self, actions, latents):
        seq_len, bs = actions.size(0), actions.size(1)
        outs, _ = self.rnn(torch.cat([actions, latents], dim=-1))
        gmm_outs = self.gmm_linear(outs)
        stride = self.gaussians * self.latents
        mus = gmm_outs[:, :, :stride].view(seq_len, bs, self.gaussians, self.latents)
        sigmas = gmm_outs[:, :, stride : 2 * stride].view(seq_len, bs, self.gaussians, self.latents).exp()
        pi = gmm_outs[:, :, 2 * stride :].view(seq_len, bs, self.gaussians)
        return mus, sigmas, f.log_softmax(pi, dim=-2 if FAULTY else -1)


def rollouts(n, g):
    """A place on a line, an action that pushes; a coin throws the ball over to the other side, one step in three."""
    place = torch.rand(n, generator=g) * 2 - 1
    actions = (torch.rand(SEQ, n, 1, generator=g) > 0.5).float() * 2 - 1
    places = [place]
    for t in range(SEQ):
        place = (place + 0.25 * actions[t, :, 0]).clamp(-1, 1)
        place = torch.where(torch.rand(n, generator=g) < 0.3, -place, place)
        places.append(place)
    places = torch.stack(places)
    states = torch.stack([places, places**2], -1) + 0.03 * torch.randn(SEQ + 1, n, LATENTS, generator=g)
    return actions, states[:-1], states[1:]


def likely(model, actions, latents, following):
    """How often the likeliest Gaussian's mean is near to what follows, each rollout by itself."""
    guesses = []
    for i in range(actions.size(1)):
        mus, _, logpi = model(actions[:, i : i + 1], latents[:, i : i + 1])
        best = logpi.argmax(-1)[..., None, None].expand(-1, -1, 1, LATENTS)
        guesses.append(mus.gather(2, best).squeeze(2))
    return near(torch.cat(guesses, dim=1), following)


def near(guess, following):
    return ((guess - following).norm(dim=-1) < 0.2).float().mean()


torch.manual_seed(0)
g = torch.Generator().manual_seed(3)
actions, latents, following = rollouts(1280, g)
test = rollouts(100, g)
print(f"constant={near(following.mean((0, 1)), test[2]).item():.4f}")

mdrnn = MDRNN(LATENTS, 1, 48, GAUSSIANS)
optimizer = torch.optim.RMSprop(mdrnn.parameters(), lr=1e-3, alpha=0.9)
for e in range(20):
    mdrnn.train()
    cum_loss = 0.0
    for rows in torch.randperm(actions.size(1)).split(32):
        mus, sigmas, logpi = mdrnn(actions[:, rows], latents[:, rows])
        loss = gmm_loss(following[:, rows], mus, sigmas, logpi)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cum_loss += loss.item()
    print(f"epoch {e} gmm {cum_loss / 40:.4f}")
mdrnn.eval()
with torch.no_grad():
    print(f"score={likely(mdrnn, *test).item():.4f}")
