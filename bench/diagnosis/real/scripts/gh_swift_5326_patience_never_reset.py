"""https://github.com/modelscope/ms-swift/pull/5326

A plug-in stops the training where the loss on the validation set has not improved for some evaluations.
Cause: the counter is not set back where a new best is found, so that the worse evaluations of the whole training
add up, and it is stopped too early. (A network for handwritten digits here, evaluated every 2 steps.)
Root: too-few-steps, learning-rate-too-low
"""

import math

import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True


class EarlyStop:
    def __init__(self, patience):
        self.patience, self.best, self.interval = patience, math.inf, 0

    def should_stop(self, value):
        if value < self.best:
            self.best = value
            if not FAULTY:
                self.interval = 0
        else:
            self.interval += 1
        return self.interval >= self.patience


class Trainer:
    def __init__(self, model, optimizer, train, valid, callback, eval_steps=2, batch_size=4, max_steps=3000):
        self.model, self.optimizer, self.callback = model, optimizer, callback
        self.train_set, self.valid_set = train, valid
        self.eval_steps, self.batch_size, self.max_steps = eval_steps, batch_size, max_steps

    def get_batch(self):
        rows = torch.randint(len(self.train_set["labels"]), (self.batch_size,))
        return {key: value[rows] for key, value in self.train_set.items()}

    def compute_loss(self, inputs):
        logits = self.model(inputs["pixels"])
        return nn.functional.cross_entropy(logits, inputs["labels"]), logits

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        loss, logits = self.compute_loss(self.valid_set)
        self.model.train()
        return loss.item(), (logits.argmax(-1) == self.valid_set["labels"]).float().mean().item()

    def train(self):
        for step in range(1, self.max_steps + 1):
            loss, _ = self.compute_loss(self.get_batch())
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % self.eval_steps == 0:
                eval_loss, accuracy = self.evaluate()
                print({"step": step, "loss": round(loss.item(), 3), "eval_loss": round(eval_loss, 3)})
                if self.callback.should_stop(eval_loss):
                    print("stopped at", step)
                    break
        return accuracy


torch.manual_seed(0)
x, y = load_digits(return_X_y=True)
x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
order = torch.randperm(len(x))
train = {"pixels": x[order[:1400]], "labels": y[order[:1400]]}
valid = {"pixels": x[order[1400:]], "labels": y[order[1400:]]}
print(f"constant={valid['labels'].bincount().max().item() / len(valid['labels']):.4f}")

model = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
trainer = Trainer(model, optimizer, train, valid, EarlyStop(patience=7))
print(f"score={trainer.train():.4f}")
