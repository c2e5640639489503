"""Activations: value and two derivatives, in torch for measuring and in numpy for predicting.

The two are written apart on purpose: where they agree, they confirm each other.
At a kink the derivative is the subgradient that torch's autograd takes, and the second one 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn import functional

from stability.theory import closed_forms
from stability.theory.nonlinearity import Nonlinearity
from stability.theory.quadrature import Array

_BELL_END = 30.0
_SOFTPLUS_LINEAR = 40.0  # torch's own 20 leaves out e^-20, far above float64's rounding
_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946
_GELU_BETA = 1.702


@dataclass(frozen=True, kw_only=True)
class Activation(Nonlinearity):
    """An activation; all functions act elementwise on any shape.

    ``forward``, ``derivative`` and ``second_derivative`` take the preactivation as a tensor;
    ``phi``, ``dphi`` and ``d2phi`` as a float64 array.
    ``homogeneous``: phi(a z) = a phi(z) for all a > 0.
    """

    name: str
    forward: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    second_derivative: Callable[[Tensor], Tensor]
    homogeneous: bool = False


def prelu(slope: float = 0.25) -> Activation:
    """``slope`` z below 0, z above (He et al. 2015, arXiv 1502.01852, whose initial slope is 1/4).

    Raises ValueError if the slope is not finite.
    """
    if not math.isfinite(slope):
        raise ValueError(f"slope={slope!r}: must be finite")
    return Activation(
        name="prelu",
        forward=lambda z: functional.leaky_relu(z, slope),
        derivative=lambda z: torch.where(z > 0, torch.ones_like(z), torch.full_like(z, slope)),
        second_derivative=torch.zeros_like,
        phi=lambda z: np.where(z > 0, z, slope * z),
        dphi=lambda z: np.where(z > 0, 1.0, slope),
        d2phi=np.zeros_like,
        kinks=(0.0,),
        closed=closed_forms.leaky(slope),
        homogeneous=True,
    )


def swish(beta: float) -> Activation:
    """z sigmoid(beta z) (Ramachandran et al. 2017, arXiv 1710.05941); SiLU at beta = 1.

    Raises ValueError if beta is not finite and positive.
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta={beta!r}: must be finite and above 0")

    def slope(z: Tensor) -> Tensor:
        t = beta * z
        return torch.sigmoid(t) * (1 + t * torch.sigmoid(-t))

    def bend(z: Tensor) -> Tensor:
        t = beta * z
        up, down = torch.sigmoid(t), torch.sigmoid(-t)
        return beta * up * down * (2 + t * (down - up))

    return Activation(
        name="swish",
        forward=lambda z: z * torch.sigmoid(beta * z),
        derivative=slope,
        second_derivative=bend,
        phi=lambda z: z * special.expit(beta * z),
        dphi=lambda z: special.expit(beta * z) * (1 + beta * z * special.expit(-beta * z)),
        d2phi=lambda z: beta * _dsigmoid(beta * z) * (2 - beta * z * np.tanh(beta * z / 2)),
        scale=1 / beta,
    )


def _gelu_derivative(z: Tensor) -> Tensor:
    density: Tensor = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5
    share: Tensor = torch.special.ndtr(z)
    return share + z * density


def _gelu_second_derivative(z: Tensor) -> Tensor:
    density: Tensor = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5
    return 2 * density - z * (z * density)


def _sigmoid_second_derivative(z: Tensor) -> Tensor:
    up, down = torch.sigmoid(z), torch.sigmoid(-z)
    return up * down * (down - up)


def _exponential(z: Tensor) -> Tensor:
    """e^z below 0, 0 from there."""
    return torch.where(z < 0, torch.exp(z.clamp(max=0)), torch.zeros_like(z))


def _cut(z: Array) -> Array:
    return np.clip(z, -_BELL_END, _BELL_END)


def _bell(z: Array) -> Array:
    """exp(-z^2), of z cut where that is 0, so that no square overflows."""
    return np.exp(-np.square(_cut(z)))


def _dsigmoid(z: Array) -> Array:
    return special.expit(z) * special.expit(-z)


_ENTRIES = (
    Activation(
        name="linear",
        forward=lambda z: z,
        derivative=torch.ones_like,
        second_derivative=torch.zeros_like,
        phi=lambda z: z,
        dphi=np.ones_like,
        d2phi=np.zeros_like,
        closed=closed_forms.leaky(1.0),
        homogeneous=True,
    ),
    Activation(
        name="relu",
        forward=torch.relu,
        derivative=lambda z: (z > 0).to(z.dtype),
        second_derivative=torch.zeros_like,
        phi=lambda z: np.maximum(z, 0.0),
        dphi=lambda z: np.where(z > 0, 1.0, 0.0),
        d2phi=np.zeros_like,
        kinks=(0.0,),
        closed=closed_forms.leaky(0.0),
        homogeneous=True,
    ),
    replace(prelu(0.01), name="leaky_relu"),
    prelu(),
    Activation(
        name="sigmoid",
        forward=torch.sigmoid,
        derivative=lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
        second_derivative=_sigmoid_second_derivative,
        phi=special.expit,
        dphi=_dsigmoid,
        d2phi=lambda z: -_dsigmoid(z) * np.tanh(z / 2),
    ),
    Activation(
        name="tanh",
        forward=torch.tanh,
        derivative=lambda z: 4 * torch.sigmoid(2 * z) * torch.sigmoid(-2 * z),
        second_derivative=lambda z: -2 * torch.tanh(z) / torch.cosh(z) ** 2,
        phi=np.tanh,
        dphi=lambda z: 4 * _dsigmoid(2 * z),
        d2phi=lambda z: -8 * np.tanh(z) * _dsigmoid(2 * z),
    ),
    Activation(
        name="erf",
        forward=torch.erf,
        derivative=lambda z: 2 / torch.pi**0.5 * torch.exp(-z * z),
        second_derivative=lambda z: -4 / torch.pi**0.5 * z * torch.exp(-z * z),
        phi=special.erf,
        dphi=lambda z: 2 / np.sqrt(np.pi) * _bell(z),
        d2phi=lambda z: -4 / np.sqrt(np.pi) * z * _bell(z),
        closed=closed_forms.ERF,
    ),
    Activation(
        name="gelu",
        forward=functional.gelu,
        derivative=_gelu_derivative,
        second_derivative=_gelu_second_derivative,
        phi=lambda z: z * special.ndtr(z),
        dphi=lambda z: special.ndtr(z) + z * _bell(z / np.sqrt(2)) / np.sqrt(2 * np.pi),
        d2phi=lambda z: (2 - np.square(_cut(z))) * _bell(z / np.sqrt(2)) / np.sqrt(2 * np.pi),
        closed=closed_forms.GELU,
    ),
    replace(swish(1.0), name="silu", forward=functional.silu),
    swish(_GELU_BETA),  # where x sigmoid(beta x) stands in for GELU (Hendrycks & Gimpel 2016)
    Activation(
        name="elu",
        forward=functional.elu,
        derivative=lambda z: torch.exp(torch.clamp(z, max=0)),
        second_derivative=_exponential,
        phi=lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        dphi=lambda z: np.exp(np.minimum(z, 0)),
        d2phi=lambda z: np.where(z < 0, np.exp(np.minimum(z, 0)), 0.0),
    ),
    Activation(
        name="selu",
        forward=torch.selu,
        derivative=lambda z: (
            _SELU_SCALE * torch.where(z > 0, 1.0, _SELU_ALPHA * torch.exp(z.clamp(max=0)))
        ),
        second_derivative=lambda z: _SELU_SCALE * _SELU_ALPHA * _exponential(z),
        phi=lambda z: _SELU_SCALE * np.where(z > 0, z, _SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        dphi=lambda z: _SELU_SCALE * np.where(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0))),
        d2phi=lambda z: _SELU_SCALE * _SELU_ALPHA * np.where(z < 0, np.exp(np.minimum(z, 0)), 0.0),
        kinks=(0.0,),
    ),
    Activation(
        name="softplus",
        forward=lambda z: functional.softplus(z, threshold=_SOFTPLUS_LINEAR),
        derivative=torch.sigmoid,
        second_derivative=lambda z: torch.sigmoid(z) * torch.sigmoid(-z),
        phi=lambda z: np.logaddexp(0.0, z),
        dphi=special.expit,
        d2phi=_dsigmoid,
    ),
    Activation(
        name="softsign",
        forward=functional.softsign,
        derivative=lambda z: (1 / (1 + z.abs())) ** 2,
        second_derivative=lambda z: -2 * torch.sign(z) * (1 / (1 + z.abs())) ** 3,
        phi=lambda z: z / (1 + np.abs(z)),
        dphi=lambda z: (1 / (1 + np.abs(z))) ** 2,
        d2phi=lambda z: -2 * np.sign(z) * (1 / (1 + np.abs(z))) ** 3,
    ),
    Activation(
        name="hardtanh",
        forward=functional.hardtanh,
        derivative=lambda z: (z.abs() < 1).to(z.dtype),
        second_derivative=torch.zeros_like,
        phi=lambda z: np.clip(z, -1.0, 1.0),
        dphi=lambda z: np.where(np.abs(z) < 1, 1.0, 0.0),
        d2phi=np.zeros_like,
        kinks=(-1.0, 1.0),
    ),
    Activation(
        name="sin",
        forward=torch.sin,
        derivative=torch.cos,
        second_derivative=lambda z: -torch.sin(z),
        phi=np.sin,
        dphi=np.cos,
        d2phi=lambda z: -np.sin(z),
        frequency=1.0,
        closed=closed_forms.SINE,
    ),
)

ACTIVATIONS = {entry.name: entry for entry in _ENTRIES}
