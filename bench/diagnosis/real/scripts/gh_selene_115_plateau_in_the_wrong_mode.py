"""https://github.com/FunctionLab/selene/issues/115

Training of nets on DNA. "ReduceLROnPlateau in TrainModel uses incorrect mode": the scheduler reduces the rate
when the maximum of the loss is not exceeded. It used to follow the AUROC, and mode="max" was left when it was
given the validation loss instead.
So every improvement counts as a plateau, and the rate is cut at each check. Remedy: mode="min".
(Made-up sequences with three motifs, several labels each; the score is the share of sequences with all labels right.)
Root: learning-rate-too-low
"""

import torch
import torch.nn as nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

FAULTY = True

MOTIFS = ["GATTACA", "CCGTAGG", "TTCGCAA"]
BASES = "ACGT"


class IntervalsSampler:
    """Sequences of 40 bases; each motif is in with probability .4, which is what the labels say."""

    def __init__(self, seed):
        self.gen = torch.Generator().manual_seed(seed)

    def sample(self, batch_size):
        bases = torch.randint(0, 4, (batch_size, 40), generator=self.gen)
        targets = (torch.rand(batch_size, len(MOTIFS), generator=self.gen) < 0.4).float()
        for i in range(batch_size):
            for m in torch.nonzero(targets[i]).flatten().tolist():
                start = 13 * m + int(torch.randint(0, 6, (1,), generator=self.gen))
                bases[i, start : start + 7] = torch.tensor([BASES.index(c) for c in MOTIFS[m]])
        return nn.functional.one_hot(bases, 4).float().transpose(1, 2), targets


class DeepSEA(nn.Module):
    def __init__(self, n_targets):
        super().__init__()
        self.conv_net = nn.Sequential(nn.Conv1d(4, 48, 7), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, n_targets))

    def forward(self, x):
        return self.classifier(self.conv_net(x))


class TrainModel:
    def __init__(self, model, sampler, max_steps=600, report_stats_every_n_steps=10, batch_size=32):
        self.model, self.sampler = model, sampler
        self.max_steps, self.nth_step, self.batch_size = max_steps, report_stats_every_n_steps, batch_size
        self.criterion = nn.BCEWithLogitsLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-6)
        self._validation_data = IntervalsSampler(seed=1).sample(500)

    def train_and_validate(self):
        mode = "max" if FAULTY else "min"
        scheduler = ReduceLROnPlateau(self.optimizer, mode, patience=1, factor=0.5)
        time_per_report = []
        for step in range(1, self.max_steps + 1):
            self.model.train()
            inputs, targets = self.sampler.sample(self.batch_size)
            loss = self.criterion(self.model(inputs), targets)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            time_per_report.append(loss.item())
            if step % self.nth_step == 0:
                valid_loss = self.validate()
                scheduler.step(valid_loss)
                train_loss, time_per_report = sum(time_per_report) / self.nth_step, []
                if step % 60 == 0:
                    print(f"[STEP {step}] training loss: {train_loss:.4f} validation loss: {valid_loss:.4f}")

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        return self.criterion(self.model(self._validation_data[0]), self._validation_data[1]).item()

    @torch.no_grad()
    def evaluate(self):
        inputs, targets = IntervalsSampler(seed=2).sample(500)
        self.model.eval()
        return ((self.model(inputs) > 0) == targets.bool()).all(1).float().mean().item()


print(f"constant={0.6**3:.4f}")
torch.manual_seed(0)
run = TrainModel(DeepSEA(len(MOTIFS)), IntervalsSampler(seed=0))
run.train_and_validate()
print(f"score={run.evaluate():.4f}")
