"""https://stats.stackexchange.com/questions/320289

A piece of a sine by raw weights of N(0, 1), 1-128-1 without a bias, tanh behind each layer, the summed error
of 4000 points, 3000 iterations by hand at rate 4e-7 (300 here). The curve it gets has more bends than the data and
is wrong over most of the range.
Cause: the weights have hardly moved; they are drawn too large besides (128 products of variance 1 before a
tanh) and there is no bias. Twin: weights divided by the root of the fan-in, biases, a linear end, the mean as
error and a rate that moves.
Root: learning-rate-too-low, init-scale, too-few-steps, saturated-units, output-activation
"""

import numpy
import torch
from torch.autograd import Variable

FAULTY = True

rng = numpy.random.default_rng(2)
torch.manual_seed(2)
dtype = torch.FloatTensor
layer_size = 1, 128, 1
m_x = 600

x_raw = rng.random((m_x, 1)) * 10 - 1
y_raw = numpy.sin(x_raw) / 2.5 + rng.standard_normal((m_x, 1)) / 20
x = Variable(torch.from_numpy(x_raw).type(dtype), requires_grad=False)
y = Variable(torch.from_numpy(y_raw).type(dtype), requires_grad=False)
if not FAULTY:
    x = (x - x.mean()) / x.std()

layer_weights, layer_biases = [], []
for i in range(len(layer_size) - 1):
    scale = 1.0 if FAULTY else (2.0, 0.5 * layer_size[i] ** -0.5)[i]
    w = (torch.randn(layer_size[i], layer_size[i + 1]) * scale).type(dtype)
    layer_weights.append(Variable(w, requires_grad=True))
    layer_biases.append(Variable((torch.randn(layer_size[i + 1]) * 2).type(dtype), requires_grad=not FAULTY))


def forward_step(x, number):
    product = x.mm(layer_weights[number])
    if FAULTY:
        return torch.nn.Tanh()(product)
    product = product + layer_biases[number]
    return torch.nn.Tanh()(product) if number == 0 else product


learning_rate = 4e-7 if FAULTY else 1e-2
losses = []
print("constant=0.0000")
for _t in range(800):
    y_pred = x
    for number in range(len(layer_weights)):
        y_pred = forward_step(y_pred, number)
    error = (y_pred - y).pow(2)
    loss = error.sum() if FAULTY else error.mean()
    losses.append(loss.data.item())
    loss.backward()
    for w in layer_weights + ([] if FAULTY else layer_biases):
        w.data -= learning_rate * w.grad.data
        w.grad.data.zero_()

print(losses[0], losses[-1])
left = (y_pred - y).pow(2).mean() / y.var()
print(f"score={max(0.0, 1 - left.item()):.4f}")
