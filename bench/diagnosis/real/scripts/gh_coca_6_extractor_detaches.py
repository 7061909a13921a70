"""https://github.com/lucidrains/CoCa-pytorch/issues/6

An image encoder is wrapped in an Extractor, a hook that keeps the tokens before the head, and a decoder
writes captions by attending to them.
Cause: the hook keeps layer_output.clone().detach(), so no gradient goes back to the image encoder, which
stays as it was drawn. Confirmed and mended by the author.
Root: frozen-parameters
"""

import numpy as np
import torch
from torch import nn

FAULTY = True


class Extractor(nn.Module):
    """Runs an encoder and hands out what its transformer gave."""

    def __init__(self, vit):
        super().__init__()
        self.vit = vit
        self.latents = None
        self.vit.transformer.register_forward_hook(self._hook)

    def _hook(self, _module, _inputs, output):
        self.latents = output.clone().detach() if FAULTY else output.clone()

    def forward(self, img):
        self.vit(img)
        return self.latents


class ViT(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.to_patch = nn.Conv2d(1, dim, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 8, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, 2, 2 * dim, 0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.mlp_head = nn.Linear(dim, 10)

    def forward(self, img):
        x = self.to_patch(img).flatten(2).transpose(1, 2) + self.position
        return self.mlp_head(self.transformer(x).mean(1))


class CoCa(nn.Module):
    """Captions of two words (what is left, what is right) from image tokens."""

    def __init__(self, words, dim=24):
        super().__init__()
        self.img_encoder = Extractor(ViT(dim))
        self.token_emb = nn.Embedding(words + 1, dim)
        self.place = nn.Parameter(torch.randn(1, 2, dim) * 0.02)
        self.cross = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.to_logits = nn.Linear(dim, words)

    def forward(self, text, images):
        tokens = self.img_encoder(images)
        start = torch.full_like(text[:, :1], self.token_emb.num_embeddings - 1)
        x = self.token_emb(torch.cat([start, text[:, :1]], dim=1)) + self.place
        return self.to_logits(self.norm(x + self.cross(x, tokens, tokens)[0]))


def pictures(n, rng):
    """8 x 16 pixels: one of six signs on each side, shifted, in noise."""
    signs = np.zeros((6, 5, 5))
    signs[0, 2, :] = signs[1, :, 2] = 1
    signs[2, range(5), range(5)] = signs[3, range(5), range(4, -1, -1)] = 1
    signs[4, [0, 0, 4, 4, 2], [0, 4, 0, 4, 2]] = signs[5, [0, 2, 2, 4, 2], [2, 0, 4, 2, 2]] = 1
    text = rng.integers(0, 6, (n, 2))
    img = rng.normal(0, 0.3, (n, 8, 16))
    for i in range(n):
        for side in (0, 1):
            a, b = rng.integers(0, 4, 2)
            img[i, a : a + 5, 8 * side + b : 8 * side + b + 5] += signs[text[i, side]]
    return torch.tensor(img[:, None]).float(), torch.tensor(text)


torch.manual_seed(1)
rng = np.random.default_rng(1)
images, text = pictures(1600, rng)
test_images, test_text = pictures(400, rng)
print(f"constant={(test_text == text.flatten().mode().values).float().mean().item():.4f}")

coca = CoCa(words=6)
opt = torch.optim.Adam(coca.parameters(), lr=2e-3)
for epoch in range(24):
    for rows in torch.randperm(len(images)).split(32):
        logits = coca(text[rows], images[rows])
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), text[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 4 == 3:
        print(f"{epoch + 1} caption loss {loss.item():.4f}")
coca.eval()
with torch.no_grad():
    right = coca(test_text, test_images).argmax(-1) == test_text
print(f"score={right.float().mean().item():.4f}")
