"""https://stats.stackexchange.com/questions/397987

word2vec: the score of a word and its context is the product of their vectors. "If I initialize my v's to zero,
I'll never actually make progress ... the vectors will never move away from zero."
Answered: never start all of them at zero (each gradient is a multiple of the other vector); small random
numbers of mean zero. (A made-up language of ten topics; negative samples; the score is how many words have a
word of their own topic as nearest.)
Root: symmetric-init, saddle-point
"""

import torch

FAULTY = True

torch.manual_seed(0)
V, D, TOPICS = 100, 16, 10
topic = torch.arange(V) % TOPICS
v_in = torch.zeros(V, D) if FAULTY else torch.randn(V, D) * 0.1
v_out = torch.zeros(V, D) if FAULTY else torch.randn(V, D) * 0.1
v_in.requires_grad_()
v_out.requires_grad_()


def batch(n=256):
    word = torch.randint(0, V, (n,))
    context = (torch.randint(0, V // TOPICS, (n,)) * TOPICS + topic[word]) % V
    noise = torch.randint(0, V, (n, 4))
    return word, context, noise


lr = 20.0
print(f"constant={(V / TOPICS - 1) / (V - 1):.4f}")
for t in range(1500):
    w, c, noise = batch()
    positive = torch.sigmoid((v_in[w] * v_out[c]).sum(1))
    negative = torch.sigmoid(-(v_in[w].unsqueeze(1) * v_out[noise]).sum(2))
    loss = -(torch.log(positive + 1e-9).mean() + torch.log(negative + 1e-9).mean())
    if t % 150 == 0:
        print(t, loss.item())
    loss.backward()
    with torch.no_grad():
        for v in (v_in, v_out):
            v -= lr * v.grad
            v.grad.zero_()

unit = v_in.detach() / (v_in.detach().norm(dim=1, keepdim=True) + 1e-9)
near = (unit @ unit.T).fill_diagonal_(-2.0).argmax(1)
print(f"score={(topic[near] == topic).float().mean().item():.4f}")
