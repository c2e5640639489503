"""Activations: value and derivative, in torch for measuring and in numpy for predicting.

The two are written apart on purpose: where they agree, they confirm each other.
At a kink the derivative is the subgradient that torch's autograd takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn import functional

Array = np.ndarray[Any, np.dtype[np.float64]]

_LEAK = 0.01
_BELL_END = 30.0
_SOFTPLUS_LINEAR = 40.0  # torch's own 20 leaves out e^-20, far above float64's rounding
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


@dataclass(frozen=True)
class Activation:
    """An activation; all four functions act elementwise on any shape.

    ``forward`` and ``derivative`` take the preactivation as a tensor, ``phi`` and ``dphi`` as a
    float64 array.  ``kinks``: the points where the derivative jumps.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    phi: Callable[[Array], Array]
    dphi: Callable[[Array], Array]
    kinks: tuple[float, ...] = ()


def _gelu_derivative(z: Tensor) -> Tensor:
    density: Tensor = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5
    share: Tensor = torch.special.ndtr(z)
    return share + z * density


def _silu_derivative(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * (1 + z * torch.sigmoid(-z))


def _bell(z: Array) -> Array:
    """exp(-z^2), of z cut where that is 0, so that no square overflows."""
    return np.exp(-np.square(np.clip(z, -_BELL_END, _BELL_END)))


def _dsigmoid(z: Array) -> Array:
    return special.expit(z) * special.expit(-z)


_ENTRIES = (
    Activation("linear", lambda z: z, torch.ones_like, lambda z: z, np.ones_like),
    Activation(
        "relu",
        torch.relu,
        lambda z: (z > 0).to(z.dtype),
        lambda z: np.maximum(z, 0.0),
        lambda z: np.where(z > 0, 1.0, 0.0),
        kinks=(0.0,),
    ),
    Activation(
        "leaky_relu",
        lambda z: functional.leaky_relu(z, _LEAK),
        lambda z: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, _LEAK)),
        lambda z: np.where(z > 0, z, _LEAK * z),
        lambda z: np.where(z > 0, 1.0, _LEAK),
        kinks=(0.0,),
    ),
    Activation(
        "sigmoid",
        torch.sigmoid,
        lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
        special.expit,
        _dsigmoid,
    ),
    Activation(
        "tanh",
        torch.tanh,
        lambda z: 1 / torch.cosh(z) ** 2,
        np.tanh,
        lambda z: 4 * _dsigmoid(2 * z),
    ),
    Activation(
        "erf",
        torch.erf,
        lambda z: 2 / torch.pi**0.5 * torch.exp(-z * z),
        special.erf,
        lambda z: 2 / np.sqrt(np.pi) * _bell(z),
    ),
    Activation(
        "gelu",
        functional.gelu,
        _gelu_derivative,
        lambda z: z * special.ndtr(z),
        lambda z: special.ndtr(z) + z * _bell(z / np.sqrt(2)) / np.sqrt(2 * np.pi),
    ),
    Activation(
        "silu",
        functional.silu,
        _silu_derivative,
        lambda z: z * special.expit(z),
        lambda z: special.expit(z) * (1 + z * special.expit(-z)),
    ),
    Activation(
        "elu",
        functional.elu,
        lambda z: torch.exp(torch.clamp(z, max=0)),
        lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        lambda z: np.exp(np.minimum(z, 0)),
    ),
    Activation(
        "selu",
        torch.selu,
        lambda z: _SELU_SCALE * torch.where(z > 0, 1.0, _SELU_ALPHA * torch.exp(z.clamp(max=0))),
        lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: _SELU_SCALE * np.where(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0))),
        kinks=(0.0,),
    ),
    Activation(
        "softplus",
        lambda z: functional.softplus(z, threshold=_SOFTPLUS_LINEAR),
        torch.sigmoid,
        lambda z: np.logaddexp(0.0, z),
        special.expit,
    ),
    Activation(
        "softsign",
        functional.softsign,
        lambda z: (1 / (1 + z.abs())) ** 2,
        lambda z: z / (1 + np.abs(z)),
        lambda z: (1 / (1 + np.abs(z))) ** 2,
    ),
    Activation(
        "hardtanh",
        functional.hardtanh,
        lambda z: (z.abs() < 1).to(z.dtype),
        lambda z: np.clip(z, -1.0, 1.0),
        lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
        kinks=(-1.0, 1.0),
    ),
)

ACTIVATIONS = {entry.name: entry for entry in _ENTRIES}
