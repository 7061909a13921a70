"""https://github.com/mnielsen/neural-networks-and-deep-learning/issues/50

Nielsen's book shuffles training_data with random.shuffle before each epoch. Given as a numpy array it repeats
elements, and the accuracy on the training data is told as perfect where it is not on the same data as evaluation.
Cause: random.shuffle swaps rows of an array through views, so that each swap loses a row and doubles another;
np.random.shuffle mends it. (With torch in place of the book's own backpropagation, on a table made up.)
Root: high-variance, dataset-shift
"""

import random

import numpy as np
import torch
from sklearn.datasets import make_classification

FAULTY = True


class Network:
    def __init__(self, sizes):
        self.weights = [
            (torch.randn(b, a) / a**0.5).requires_grad_() for a, b in zip(sizes, sizes[1:], strict=False)
        ]
        self.biases = [torch.zeros(b, requires_grad=True) for b in sizes[1:]]

    def feedforward(self, a):
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            a = torch.tanh(a @ w.T + b)
        return torch.sigmoid(a @ self.weights[-1].T + self.biases[-1])

    def SGD(self, training_data, epochs, mini_batch_size, eta, test_data):  # noqa: N802
        parameters = self.weights + self.biases
        for j in range(epochs):
            if FAULTY:
                random.shuffle(training_data)
            else:
                np.random.shuffle(training_data)  # noqa: NPY002
            for k in range(0, len(training_data), mini_batch_size):
                batch = torch.tensor(training_data[k : k + mini_batch_size], dtype=torch.float32)
                a = self.feedforward(batch[:, :-1])
                cost = torch.nn.functional.binary_cross_entropy(a, batch[:, -1:])
                for p in parameters:
                    p.grad = None
                cost.backward()
                with torch.no_grad():
                    for p in parameters:
                        p -= eta * p.grad
            with torch.no_grad():
                print(f"Epoch {j}: cost {cost.item():.4f} training {self.evaluate(training_data):.3f}")
        with torch.no_grad():
            return self.evaluate(test_data)

    def evaluate(self, data):
        data = torch.tensor(data, dtype=torch.float32)
        return ((self.feedforward(data[:, :-1]) > 0.5) == (data[:, -1:] > 0.5)).float().mean().item()


random.seed(0)
np.random.seed(0)  # noqa: NPY002
torch.manual_seed(0)
x, y = make_classification(1500, 20, n_informative=12, n_redundant=0, n_clusters_per_class=3, random_state=0)
x = (x - x.mean(0)) / x.std(0)
table = np.hstack([x, y[:, None]])
training, test = table[:1000].copy(), table[1000:]
print(f"constant={max(test[:, -1].mean(), 1 - test[:, -1].mean()):.4f}")
net = Network([20, 40, 1])
print(f"score={net.SGD(training, 60, 10, 0.05, test):.4f}")
