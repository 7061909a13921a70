"""Examples of a user's Dataset as batches, and one line for what fails on the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from downslope.core.batches import signed
from downslope.core.errors import DataError, DownslopeError, told


def example(dataset: Dataset[Any], place: int) -> Any:
    """One example of a dataset.

    Raises:
        DataError: it raises, naming the index.
    """
    try:
        return dataset[place]
    except DownslopeError:
        raise
    except Exception as error:
        raise DataError(f"example {place} of the dataset cannot be read: {told(error)}") from error


def collated(examples: Sequence[Any], places: Sequence[int] | None = None) -> Any:
    """Examples as one batch.

    Raises:
        DataError: they are not alike, naming the first that differs; or hold what makes no batch.
    """
    examples = [_dense(each) for each in examples]
    try:
        return plain_batch(default_collate(examples))
    except Exception as error:
        forms = [_form(each) for each in examples]
        odd = next((i for i, form in enumerate(forms) if form != forms[0]), None)
        if odd is None:
            raise DataError(
                f"an example {forms[0] if forms else '()'} makes no batch: {told(error)}; give tensors, "
                "arrays or numbers, in tuples or dicts"
            ) from error
        at = (0, odd) if places is None else (places[0], places[odd])
        raise DataError(
            f"example {at[1]} is {forms[odd]} and example {at[0]} {forms[0]}: the examples of a batch need "
            "the same form; pad or cut them in the Dataset, or give a DataLoader whose collate_fn does"
        ) from error


def _dense(one: Any) -> Any:
    """An example whose lists of numbers are tensors: tokens, or a row, as other libraries give them."""
    if isinstance(one, Mapping):
        return {key: _dense(each) for key, each in cast("Mapping[Any, Any]", one).items()}
    if isinstance(one, tuple) and not hasattr(cast("Any", one), "_fields"):
        return tuple(_dense(each) for each in cast("tuple[Any, ...]", one))
    if (
        isinstance(one, list)
        and one
        and all(isinstance(each, (int, float)) for each in cast("list[Any]", one))
    ):
        return torch.tensor(one)
    return one


def _form(one: Any) -> str:
    """The structure of an example with the shapes in it."""
    if isinstance(one, Mapping):
        pairs = cast("Mapping[Any, Any]", one).items()
        return "{" + ", ".join(f"{key}: {_form(each)}" for key, each in pairs) + "}"
    if isinstance(one, (tuple, list)):
        return f"({', '.join(_form(each) for each in cast('Sequence[Any]', one))})"
    shape: Any = getattr(one, "shape", None)
    return type(one).__name__ if shape is None else f"{type(one).__name__}{tuple(shape)}"


def plain_batch(batch: Any) -> Any:
    """A batch as a pytree: a library's own mapping (a tokeniser's encoding) is none, the dict in it is."""
    return signed(_plain(batch))


def _plain(batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return {key: _plain(each) for key, each in cast("Mapping[str, Any]", batch).items()}
    if type(batch) in (tuple, list):
        return type(batch)([_plain(each) for each in cast("Sequence[Any]", batch)])
    return batch


def counted(dataset: Any, batch_size: int) -> DataLoader[Any]:
    """An IterableDataset in batches; an example of it that fails is named by its place."""
    return DataLoader(_Counted(dataset), batch_size, collate_fn=_collated)


class _Counted(IterableDataset[Any]):
    """An IterableDataset whose examples come with their place, so that an error can name it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        iterator: Iterator[Any] = iter(self.dataset)
        for place in itertools.count():
            try:
                found = next(iterator)
            except StopIteration:
                return
            except DownslopeError:
                raise
            except Exception as error:
                raise DataError(f"example {place} of the dataset cannot be read: {told(error)}") from error
            yield place, found


def _collated(examples: list[tuple[int, Any]]) -> Any:
    return collated([each for _, each in examples], [place for place, _ in examples])


def cause(error: Exception) -> str:
    """What a DataLoader raised; of one from another process the line that its worker ended with."""
    text = str(error).strip()
    if not text.startswith("Caught ") or "Traceback" not in text:
        return told(error)
    return text.splitlines()[-1].strip()
