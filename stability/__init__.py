"""Numerical-stability experiments: every measured number beside its prediction."""

import os
from typing import TYPE_CHECKING, Any

# Threads of torch's that wait for each other in a busy loop make it 40 times slower on a busy
# machine; it reads this when it is imported, and workers inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from stability.experiment import Context, Experiment, Figure
    from stability.store import load

__all__ = ["Context", "Experiment", "Figure", "load"]

_HOMES = {
    "load": "store",
    "Context": "experiment",
    "Experiment": "experiment",
    "Figure": "experiment",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line must answer without torch and pandas."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stability' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"stability.{_HOMES[name]}"), name)
