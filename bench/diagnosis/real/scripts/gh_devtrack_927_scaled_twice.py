"""https://github.com/Priyanshu-byte-coder/devtrack/issues/927

Inference gives poor predictions from models that trained well. preprocess_image_array() divides the pixels by
255, but the models begin with a Rescaling(1/255) layer of their own: the net sees 0..0.0039 where it was
trained on 0..1.
Remedy: the pixels are handed over raw, the model scales them.
(Digits taken to 0..255; the held-out ones go through the preprocessing.)
Root: dataset-shift
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

FAULTY = True


class Rescaling(nn.Module):
    def __init__(self, scale, offset=0.0):
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x):
        return x * self.scale + self.offset


def build_model(n_classes):
    return nn.Sequential(
        Rescaling(1.0 / 255),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, n_classes),
    )


def preprocess_image_array(image_array):
    """From a picture of whole numbers to what the model takes."""
    image_array = np.asarray(image_array, dtype=np.float32)
    if FAULTY:
        image_array = image_array / 255.0
    return torch.from_numpy(image_array).unsqueeze(1)


def main():
    torch.manual_seed(1)
    digits = load_digits()
    pictures = (digits.images * 255 / 16).astype(np.uint8)
    order = torch.randperm(len(pictures)).numpy()
    pictures, labels = pictures[order], torch.tensor(digits.target[order])
    train_images = torch.tensor(pictures[:1350], dtype=torch.float32).unsqueeze(1)
    train_labels, test_labels = labels[:1350], labels[1350:]
    print(f"constant={test_labels.bincount().max().item() / len(test_labels):.4f}")

    model = build_model(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_function = nn.CrossEntropyLoss()
    for epoch in range(12):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(train_images)).split(32):
            optimizer.zero_grad()
            loss = loss_function(model(train_images[rows]), train_labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows) / len(train_images)
        model.eval()
        with torch.no_grad():
            logits = model(preprocess_image_array(pictures[1350:]))
            val_loss = loss_function(logits, test_labels).item()
        accuracy = (logits.argmax(1) == test_labels).float().mean().item()
        print(f"Epoch {epoch + 1}: loss {total:.4f} - val_loss {val_loss:.4f} - val_accuracy {accuracy:.4f}")
    print(f"score={accuracy:.4f}")


main()
