"""Every exception that Downslope raises on purpose.

    DownslopeError
    ├── InputError (also a ValueError)      what the user gave cannot be used; exit status 2
    │   ├── UnknownNameError                a name that no table holds; the nearest ones are told
    │   ├── DataError                       empty, mis-shaped, non-finite or unreadable data
    │   ├── ObjectiveError                  the objective does not give one finite-typed scalar
    │   ├── ModelError                      the factory fails, or the model has nothing to train
    │   ├── RecipeError                     a hyper-parameter outside its domain, a misspelt key
    │   ├── EditError                       an edit that does not fit the problem or recipe
    │   └── TaskError                       a task that cannot be found, imported or called
    ├── RunFolderError                      a Run folder that is missing, broken or of another version
    └── NonFiniteError                      training left the finite numbers and was told to raise

A message says what was given, what is allowed, why, and what to do, in one line.
"""

from __future__ import annotations


class DownslopeError(Exception):
    """Root of the tree above. Its message is one line, meant for the user."""


class InputError(DownslopeError, ValueError):
    """Something the user gave cannot be used as it is."""


class UnknownNameError(InputError):
    """A name that no table holds."""


class DataError(InputError):
    """Data that is empty, mis-shaped, non-finite or unreadable."""


class ObjectiveError(InputError):
    """An objective that does not give one scalar for a batch."""


class ModelError(InputError):
    """A model factory that fails, or a model with nothing to train."""


class RecipeError(InputError):
    """A hyper-parameter outside its domain, or a key that no recipe has."""


class EditError(InputError):
    """An edit that does not fit the problem or the recipe it is applied to."""


class TaskError(InputError):
    """A task that cannot be found, imported or called."""


class RunFolderError(DownslopeError):
    """A Run folder that is missing, broken or written by another version."""


class NonFiniteError(DownslopeError):
    """Training left the finite numbers and had been told to raise."""
