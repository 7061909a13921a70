"""The same training by other libraries, as their own documentation writes it; one not installed is left out.

pip install -c constraints.txt -e '.[bench]'
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

Part = tuple[torch.Tensor, torch.Tensor]
Make = Callable[[], nn.Module]


def _loader(part: Part, *, shuffle: bool) -> DataLoader:
    return DataLoader(TensorDataset(*part), batch_size=64, shuffle=shuffle)


def plain(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """A loop by hand with a DataLoader: no history, no validation, nothing kept."""
    del valid
    torch.manual_seed(0)
    model, objective = make(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = _loader(train, shuffle=True)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = objective(model(x), y)
            loss.backward()
            optimizer.step()


def skorch(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """With its history and its validation of every epoch, without the printed table."""
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    net = NeuralNetClassifier(
        make,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=epochs,
        batch_size=64,
        iterator_train__shuffle=True,
        train_split=predefined_split(Dataset(*valid)),
        verbose=0,
    )
    net.fit(*train)


def accelerate(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """The loop of its quick tour: no history, no validation, nothing kept."""
    from accelerate import Accelerator

    del valid
    accelerator = Accelerator(cpu=True)
    model, objective = make(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model, optimizer, loader = accelerator.prepare(model, optimizer, _loader(train, shuffle=True))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = objective(model(x), y)
            accelerator.backward(loss)
            optimizer.step()


def fabric(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """The loop of its documentation: no history, no validation, nothing kept."""
    from lightning.fabric import Fabric

    del valid
    fabric = Fabric(accelerator="cpu", devices=1)
    model, objective = make(), nn.CrossEntropyLoss()
    model, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    loader = fabric.setup_dataloaders(_loader(train, shuffle=True))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = objective(model(x), y)
            fabric.backward(loss)
            optimizer.step()


def lightning(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """Bare: without bar, logger, checkpoints and validation."""
    _lightning(make, train, None, epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    del valid


def lightning_whole(make: Make, train: Part, valid: Part, epochs: int) -> None:
    """With bar, logger, checkpoints and validation: what `fit` does."""
    from lightning.pytorch.loggers import CSVLogger

    with tempfile.TemporaryDirectory() as room:
        _lightning(make, train, valid, epochs, logger=CSVLogger(room), default_root_dir=room)


def _lightning(make: Make, train: Part, valid: Part | None, epochs: int, **options: object) -> None:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.objective = make(), nn.CrossEntropyLoss()

        def training_step(self, batch: Part, _: int) -> torch.Tensor:
            loss = self.objective(self.model(batch[0]), batch[1])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: Part, _: int) -> None:
            self.log("valid_loss", self.objective(self.model(batch[0]), batch[1]))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.model.parameters(), lr=1e-3)

    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, enable_model_summary=False, **options
    )
    parts = [_loader(train, shuffle=True)] + ([] if valid is None else [_loader(valid, shuffle=False)])
    trainer.fit(Module(), *parts)


_NEEDS = {
    "skorch": ("skorch", skorch),
    "Accelerate": ("accelerate", accelerate),
    "Fabric": ("lightning", fabric),
    "Lightning, bare": ("lightning", lightning),
    "Lightning, bar, logger, checkpoints": ("lightning", lightning_whole),
}


def installed() -> dict[str, Callable[[Make, Part, Part, int], None]]:
    """The peers that can be imported, by name."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return {name: act for name, (needs, act) in _NEEDS.items() if importlib.util.find_spec(needs)}


def missing() -> list[str]:
    """The peers that are not installed."""
    return [name for name in _NEEDS if name not in installed()]
