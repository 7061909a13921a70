"""https://github.com/UC-IIC2613/Syllabus/issues/208

Course work: the price of diamonds by an MLP. "With tanh and sigmoid the net does not train unless I take away
the activation function of the last layer. Is it right to do so?"
Answer: you are predicting a continuous variable, so you need freedom of range; these functions run over
(-1, 1) and (0, 1), which rules them out at the output. It is right: no activation is needed there.
(Diamonds made up, the price in thousands; the score is R2.)
Root: output-activation, saturated-units
"""

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

FAULTY = True


def diamantes(n, rng):
    carat = rng.gamma(4, 0.17, n) + 0.2
    cut, color, clarity = rng.integers(0, 5, n), rng.integers(0, 7, n), rng.integers(0, 8, n)
    depth, table = rng.normal(61.7, 1.4, n), rng.normal(57.5, 2.2, n)
    quality = 1 + 0.04 * cut - 0.06 * color + 0.08 * clarity
    price = 2.4 * carat**1.6 * quality * np.exp(rng.normal(0, 0.06, n))
    return np.stack([carat, cut, color, clarity, depth, table], axis=1), price


class MLP(nn.Module):
    def __init__(self, capas, activacion):
        super().__init__()
        self.capas = nn.ModuleList([nn.Linear(a, b) for a, b in zip(capas[:-1], capas[1:], strict=True)])
        self.activacion = activacion

    def forward(self, x):
        for capa in self.capas[:-1]:
            x = self.activacion(capa(x))
        x = self.capas[-1](x)
        return self.activacion(x) if FAULTY else x


torch.manual_seed(5)
X, y = diamantes(2000, np.random.default_rng(5))
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=5)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train = torch.tensor(y_train, dtype=torch.float32).unsqueeze(1)
y_test = torch.tensor(y_test, dtype=torch.float32).unsqueeze(1)
print(f"constant={0.0:.4f}")

modelo = MLP([6, 32, 16, 1], torch.tanh)
perdida = nn.MSELoss()
optimizador = torch.optim.Adam(modelo.parameters(), lr=0.005)
for epoca in range(40):
    modelo.train()
    for filas in torch.randperm(len(X_train)).split(64):
        optimizador.zero_grad()
        mse = perdida(modelo(X_train[filas]), y_train[filas])
        mse.backward()
        optimizador.step()
    modelo.eval()
    with torch.no_grad():
        salida = modelo(X_test)
        val = perdida(salida, y_test).item()
    if epoca % 5 == 4:
        mae = (salida - y_test).abs().mean().item()
        print(f"epoca {epoca + 1}: mse {mse.item():.4f} val_mse {val:.4f} mae {mae:.4f}")
print(f"score={1 - val / y_test.var(unbiased=False).item():.4f}")
