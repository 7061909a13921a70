"""http://pullrequest.ru/11818227 (mirror of a StackOverflow question on a network with one hidden layer)

TensorFlow's softmax regression for MNIST with a second layer put behind the first: both weights and biases
are tf.zeros, the hidden layer ends in a softmax. It does not learn.
Answered: do not start with all zeros, the gradient is likely zero there and nothing changes; draw them
(truncated normal, .1). A sigmoid instead of the hidden softmax is advised as well.
Root: symmetric-init
"""

import torch
from sklearn.datasets import load_digits

FAULTY = True

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32)
labels = torch.tensor(labels)
order = torch.randperm(len(images))
train, test = order[:1400], order[1400:]
print(f"constant={labels[test].bincount().max().item() / len(test):.4f}")


def variable(*shape):
    if FAULTY:
        return torch.zeros(shape, requires_grad=True)
    return torch.nn.init.trunc_normal_(torch.empty(shape), std=0.1, a=-0.2, b=0.2).requires_grad_()


W1, b1 = variable(64, 10), variable(10)
W2, b2 = variable(10, 10), variable(10)


def network(x):
    hidden = x @ W1 + b1
    out1 = torch.softmax(hidden, dim=1) if FAULTY else torch.sigmoid(hidden)
    return out1 @ W2 + b2


train_step = torch.optim.SGD([W1, b1, W2, b2], lr=0.5)
for i in range(1000):
    batch = train[torch.randint(0, len(train), (100,))]
    cross_entropy = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
    train_step.zero_grad()
    cross_entropy.backward()
    train_step.step()
    if i % 200 == 0:
        print(i, cross_entropy.item())

with torch.no_grad():
    correct_prediction = network(images[test]).argmax(1) == labels[test]
print(f"score={correct_prediction.float().mean().item():.4f}")
