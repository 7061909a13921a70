"""https://github.com/spro/practical-pytorch/issues/134

Names are classified by a recurrent network of two linear layers, i2h and i2o, over (letter, hidden). Asked
about (also in pytorch/tutorials, issues 647 and 3953, where the results were not the expected ones): no
non-linearity acts on the hidden state.
Cause: the new state is a linear map of the old one and the letter, so all of it is one linear map. Remedy:
tanh on i2h. (Made up: words of a small alphabet and an end mark; two languages that differ in whether the
last two letters are of the same kind, vowel or consonant.)
Root: missing-nonlinearity
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True
LETTERS = 11


def names(count, seed):
    g = torch.Generator().manual_seed(seed)
    letters = torch.randint(0, LETTERS - 1, (count, 6), generator=g)
    vowel = letters < 4
    language = (vowel[:, -1] ^ vowel[:, -2]).long()
    end = torch.full((count, 1), LETTERS - 1)
    return nn.functional.one_hot(torch.cat([letters, end], dim=1), LETTERS).float(), language


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(input_size + hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, line):
        hidden = line.new_zeros(line.shape[0], self.hidden_size)
        for letter in line.unbind(1):
            combined = torch.cat((letter, hidden), 1)
            hidden = self.i2h(combined)
            if not FAULTY:
                hidden = torch.tanh(hidden)
            output = self.i2o(combined)
        return self.softmax(output)


def problem():
    return ds.Problem(
        model=lambda: RNN(LETTERS, 64, 2),
        objective=nn.NLLLoss(),
        train=names(2000, 0),
        valid=names(500, 1),
        metric="accuracy",
    )


def recipe():
    return ds.Recipe(optimizer="adam", lr=0.003, batch_size=50, epochs=20, clip_norm=1.0, seed=0)
