"""https://github.com/deepchem/deepchem/pull/640

The A3C loss was a reduce_sum() over the rollout: it is proportional to the rollout's length, so the learning
rate must be changed with it, and a rate that serves short rollouts is far too large for long ones.
Remedy (merged): reduce_mean().
(The value head alone: returns of a made-up walk, rollouts of 128 steps; the score is R2 of held-out returns.)
Root: summed-objective, learning-rate-too-high
"""

import torch
import torch.nn as nn

FAULTY = True


class Walk:
    """A point that moves about in the plane; the reward is large near the middle. Eight numbers are observed."""

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)
        self.view = torch.randn(2, 8, generator=torch.Generator().manual_seed(99))
        self.state = torch.randn(2, generator=self.gen)

    def step(self):
        self.state = 0.9 * self.state + 0.44 * torch.randn(2, generator=self.gen)
        reward = torch.exp(-self.state.pow(2).sum()) - 0.3
        return torch.tanh(self.state @ self.view), reward


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.value = nn.Linear(64, 1)

    def forward(self, observation):
        return self.value(self.dense(observation)).squeeze(-1)


def rollout(env, length=128, discount=0.7, tail=12):
    observations, rewards = zip(*[env.step() for _ in range(length + tail)], strict=True)
    returns, total = [], torch.zeros(())
    for reward in reversed(rewards):
        total = reward + discount * total
        returns.append(total)
    returns = torch.stack(list(reversed(returns)))[:length]
    return torch.stack(observations[:length]), returns / 0.75


class A3CLossValue(nn.Module):
    def forward(self, reward, value):
        squared = (reward - value) ** 2
        return squared.sum() if FAULTY else squared.mean()


torch.manual_seed(0)
env, held_out = Walk(seed=0), Walk(seed=1)
rollouts = [rollout(env) for _ in range(60)]
test_obs, test_returns = rollout(held_out, length=2000)
print(f"constant={0.0:.4f}")

critic, loss_fn = Critic(), A3CLossValue()
optimizer = torch.optim.SGD(critic.parameters(), lr=0.02, momentum=0.9)
for sweep in range(8):
    critic.train()
    for i in torch.randperm(len(rollouts)).tolist():
        observations, returns = rollouts[i]
        loss = loss_fn(returns, critic(observations))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    critic.eval()
    with torch.no_grad():
        error = (critic(test_obs) - test_returns).pow(2).mean()
    print(f"sweep {sweep}: loss {loss.item():.4f} held-out squared error {error.item():.4f}")
r2 = 1 - (error / test_returns.var(unbiased=False)).item()
print(f"score={r2 if r2 == r2 else -1.0:.4f}")
