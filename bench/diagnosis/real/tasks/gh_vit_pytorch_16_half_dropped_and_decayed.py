"""https://github.com/lucidrains/vit-pytorch/issues/16

A vision transformer for 180 classes: dropout=0.5, emb_dropout=0.5, Adam with a rate of 5e-3 and weight_decay=0.1.
The loss does not descend.
Answers: the dropout is way too high, 0.1 at most; a rate of 3e-4. (A small one on digits of 8 x 8 here. Adam's
weight_decay is an L2 penalty, of which 0.1 is very much; the twin has none, and a rate of 1e-3.)
Root: over-regularised, learning-rate-too-high
"""

import torch
from torch import nn

import downslope as ds

FAULTY = True


class ViT(nn.Module):
    def __init__(self, dim, depth, heads, mlp_dim, dropout, emb_dropout):
        super().__init__()
        self.to_patch_embedding = nn.Linear(4, dim)
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(emb_dropout)
        layer = nn.TransformerEncoderLayer(
            dim, heads, mlp_dim, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 10))

    def forward(self, img):
        patches = img.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        x = self.to_patch_embedding(patches)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer(self.dropout(x))[:, 0])


def vit():
    dropped = 0.5 if FAULTY else 0.1
    return ViT(dim=24, depth=2, heads=4, mlp_dim=48, dropout=dropped, emb_dropout=dropped)


def problem():
    digits = ds.data.digits(scale=16)
    return ds.Problem(
        model=vit, objective="cross_entropy", train=digits.train, valid=digits.valid, metric="accuracy"
    )


def recipe():
    rate, decay = (5e-3, 0.1) if FAULTY else (1e-3, 0.0)
    return ds.Recipe(
        optimizer=lambda params: torch.optim.Adam(params, lr=rate, weight_decay=decay),
        batch_size=32,
        epochs=12,
    )
