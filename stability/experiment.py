"""What an experiment is, and what a run depends on besides its options."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from stability.claims import Claim

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure as MatplotlibFigure

Key = str | int | float | bool | np.generic | None


def stream(seed: int, *key: Key) -> int:
    """The 63-bit seed of the stream of random numbers named by (seed, key), by value.

    numpy scalars count as the Python numbers they equal; 1 and 1.0 and True are different keys.
    Independent of position, order and process: SHA-256 of the canonical text.
    """
    plain = [item.item() if isinstance(item, np.generic) else item for item in (seed, *key)]
    digest = hashlib.sha256(repr(tuple(plain)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _silent(_done: float) -> None:
    """No progress display."""


@dataclass(frozen=True)
class Context:
    """All that a run depends on besides its experiment.

    ``progress`` is told the finished share of the run, 0 to 1.
    """

    seed: int = 0
    device: str = "cpu"
    progress: Callable[[float], None] = field(default=_silent, compare=False)

    def generator(self, *key: Key) -> "torch.Generator":
        """A fresh generator on the device for the stream (seed, key)."""
        import torch

        return torch.Generator(self.device).manual_seed(stream(self.seed, *key))

    def numpy(self, *key: Key) -> np.random.Generator:
        """A fresh numpy generator for the stream (seed, key)."""
        return np.random.default_rng(stream(self.seed, *key))


@dataclass(frozen=True)
class Figure:
    """A drawn figure with the words that go with it.

    ``alt`` says what a reader who can't see the figure should know, with its numbers.
    """

    name: str
    caption: str
    alt: str
    figure: "MatplotlibFigure"


class Experiment(ABC):
    """A question about numerical stability; the fields of a subclass are its options.

    A subclass is a frozen dataclass whose ``__post_init__`` checks the options' ranges and raises
    ``InputError``.  Options that are factors are lists.  Claims, answer and figures see the table
    alone, so that a stored run can be judged and drawn again later.
    """

    title: ClassVar[str]
    question: ClassVar[str]

    @abstractmethod
    def memory(self) -> int:
        """An upper estimate of the memory that ``run`` takes at its peak, in bytes."""

    @abstractmethod
    def run(self, context: Context) -> pd.DataFrame:
        """Measure, predict, and return the tidy table (see ``stability.table``)."""

    @staticmethod
    @abstractmethod
    def claims(table: pd.DataFrame) -> list[Claim]:
        """What the table must show."""

    @staticmethod
    @abstractmethod
    def answer(table: pd.DataFrame) -> str:
        """The answer to the question in one sentence, with the table's numbers."""

    @staticmethod
    @abstractmethod
    def figures(table: pd.DataFrame) -> list[Figure]:
        """The figures that show the answer."""
