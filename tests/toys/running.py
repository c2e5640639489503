"""The type of the fixtures that run the command line."""

import subprocess
from typing import Protocol


class Run(Protocol):
    """Run ``stability`` with these words in a fresh folder."""

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]: ...
