"""An experiment from outside the package: the mean of uniform numbers, fast to run."""

import os
import signal
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stability import Context, Experiment, Figure, claims, table
from stability.errors import check_choice, check_each, check_range


@dataclass(frozen=True)
class Toy(Experiment):
    """The mean of ``samples`` draws of U(0, n) is n/2."""

    title = "Toy"
    question = "Is the mean of uniform numbers one half?"

    n: list[int] = field(default_factory=lambda: [1])
    scale: list[float] = field(default_factory=lambda: [1.0])
    samples: int = 100
    kind: str = "plain"
    gibibytes: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        check_each("experiment.n", self.n)
        for n in self.n:
            check_range("experiment.n", n, at_least=1)
        check_each("experiment.scale", self.scale)
        for scale in self.scale:
            check_range("experiment.scale", scale, above=0)
        check_range("experiment.samples", self.samples, at_least=1)
        check_choice("experiment.kind", self.kind, ["plain", "biased", "crash", "kill"])

    def memory(self) -> int:
        return int(self.gibibytes * 2**30) + 8 * self.samples

    def run(self, context: Context) -> pd.DataFrame:
        if self.kind == "crash":
            raise ZeroDivisionError("a bug")
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        frames = []
        for n in self.n:
            draws = context.numpy("toy", n).random(self.samples)
            for scale in self.scale:
                mean = n * scale * (draws + (0.5 if self.kind == "biased" else 0.0))
                frames.append(table.mean_rows("mean", mean, n * scale / 2, n=n, scale=scale))
            context.progress(1.0)
        return table.concat(frames)

    @staticmethod
    def claims(table: pd.DataFrame) -> list[claims.Claim]:
        return [claims.statistical("mean", "the mean is n/2", "Euclid", table, resolution=np.inf)]

    @staticmethod
    def answer(table: pd.DataFrame) -> str:
        return f"The mean is {table['measured'].iloc[0]:.3f}."

    @staticmethod
    def figures(table: pd.DataFrame) -> list[Figure]:  # noqa: ARG004
        return []
