"""Normalised and residual stacks against closed forms, sampled spheres and exact one-block laws."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from accuracy import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from stability.catalogue.activations import ACTIVATIONS
from stability.theory import normalization as norm

LAW = settings(deadline=None, max_examples=20)
ATLAS = {
    "linear": 1.0, "relu": 1.46694, "leaky_relu": 1.45337, "prelu": 1.20267, "tanh": 1.17781,
    "sigmoid": 1.03359, "gelu": 1.31884, "silu": 1.21208, "elu": 1.07901, "selu": 1.07157,
    "softsign": 1.24401, "softplus": 1.08053, "erf": 1.22570, "hardtanh": 1.32289,
}  # fmt: skip
"""E phi'^2 / Var phi at q = 1, adaptive quadrature to six digits."""
RELU = {
    4: 3.08406, 8: 1.78819, 16: 1.58995, 32: 1.52195, 64: 1.49306, 128: 1.47968, 256: 1.47323,
    512: 1.47007,
}  # fmt: skip
"""Yang et al. 2019, theorem 8, eq. 25."""


@pytest.mark.parametrize("name", ATLAS)
def test_the_table_of_large_batches(name: str) -> None:
    assert norm.batch_norm_growth(ACTIVATIONS[name]) == pytest.approx(ATLAS[name], abs=6e-6)


@pytest.mark.parametrize("batch", RELU)
def test_the_table_of_relus_batches(batch: int) -> None:
    assert norm.batch_norm_relu_growth(batch) == pytest.approx(RELU[batch], abs=6e-6)


def test_relus_limit_and_the_depth_it_allows() -> None:
    limit = norm.batch_norm_relu_growth(10**9)
    assert limit == pytest.approx(math.pi / (math.pi - 1), rel=1e-8)
    assert math.sqrt(limit) == pytest.approx(1.211174, abs=5e-7)
    assert 16 / math.log(limit) == pytest.approx(41.8, abs=0.05)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_large_batches_neglect_shrinks_like_1_over_batch(name: str) -> None:
    entry = ACTIVATIONS[name]
    limit = norm.batch_norm_growth(entry)
    rest = [batch * (norm.batch_norm_growth(entry, batch) - limit) for batch in (512, 2048)]
    assert rest[0] == pytest.approx(rest[1], abs=0.02)
    assert rest[1] > 0


def sampled(name: str, batch: int, draws: int, seed: int) -> tuple[float, float]:
    """The growth from B (B - 1) / ((B - 3) (B - 1)) E|P D G|^2, P the projection that batch
    normalization's Jacobian is, of sampled spheres; and its standard error.
    """
    rng, entry = np.random.default_rng(seed), ACTIVATIONS[name]
    z = rng.standard_normal((draws, batch))
    z -= z.mean(1, keepdims=True)
    u = z / np.linalg.norm(z, axis=1, keepdims=True)
    centre = np.eye(batch) - 1 / batch
    slopes = entry.dphi(math.sqrt(batch) * u)
    passed = (centre - u[:, :, None] * u[:, None, :]) @ (slopes[:, :, None] * centre)
    top = np.square(passed).sum((1, 2))
    h = entry.phi(math.sqrt(batch) * u)
    spread = h.var(1, ddof=1)
    values = top / (batch - 1) * batch / (batch - 3)
    estimate = values.mean() / spread.mean()
    error = np.std(values / spread.mean() - estimate * spread / spread.mean())
    return float(estimate), float(error / math.sqrt(draws))


@pytest.mark.parametrize(
    ("name", "batch"), [("tanh", 4), ("selu", 7), ("sin", 12), ("hardtanh", 5)]
)
def test_the_growth_is_that_of_sampled_spheres(name: str, batch: int) -> None:
    """Four standard errors: a false alarm in 4e-3 of seeds; this one is fixed."""
    estimate, error = sampled(name, batch, 40_000, 1)
    exact = norm.batch_norm_growth(ACTIVATIONS[name], batch)
    assert abs(estimate - exact) < 4 * error
    assert error < 0.02 * exact


@LAW
@given(batch=st.integers(4, 10**6), name=st.sampled_from(sorted(ACTIVATIONS)))
def test_gradients_never_shrink(batch: int, name: str) -> None:
    assert norm.batch_norm_growth(ACTIVATIONS[name], batch) >= 1


def exact_log_mean(alpha: float, width: int) -> float:
    """E ln of one block's factor: Gauss rules over g_1, the other g, and s by number alive."""
    g, weight = special.roots_hermitenorm(24)
    weight = weight / math.sqrt(2 * math.pi)
    rest, mass = special.roots_genlaguerre(24, (width - 1) / 2 - 1)
    mass = mass / math.gamma((width - 1) / 2)
    total = 0.0
    for alive in range(1, width + 1):
        chance = math.comb(width, alive) / 2**width
        half, share = special.roots_genlaguerre(12, alive / 2 - 1)
        s = 4 * half / width
        square = g[:, None] ** 2 + 2 * rest
        factor = (
            1
            + 2 * alpha * np.sqrt(s / width)[:, None, None] * g[:, None]
            + alpha**2 * s[:, None, None] * square / width
        )
        logs = np.einsum("i,j,k,ijk", share / share.sum(), weight, mass, np.log(factor))
        total += chance * float(logs)
    return total


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_what_the_residual_law_neglects_shrinks_like_1_over_width_squared(alpha: float) -> None:
    rest = [
        width**2 * (exact_log_mean(alpha, width) - norm.residual_log_growth(1, alpha, width).mean)
        for width in (40, 80)
    ]
    assert rest[0] == pytest.approx(rest[1], rel=0.25)


def test_residual_growth_by_depth() -> None:
    assert norm.residual_growth(8, 1.0) == 256
    assert norm.residual_growth(50, 50**-0.5) == pytest.approx(2.692, abs=5e-4)
    assert norm.residual_growth(10**6, 1e-3) == pytest.approx(math.e, rel=1e-6)
    assert norm.residual_growth(100, 0.05) == pytest.approx(1.284, abs=5e-4)
    law = norm.residual_log_growth(16, 1.0, 10**9)
    assert law.mean == pytest.approx(16 * math.log(2), rel=1e-8)
    assert law.variance == -2 * law.shift == pytest.approx(16 * 11 / 4 / 1e9, rel=1e-12)


def test_the_tanh_recursion_by_hand() -> None:
    """x + tanh(W x), sigma_w = 1, 200 layers: p_100 = 84.4; 15.17 in all; 12.53, 7.95, 4.62
    from layers 10, 50 and 100."""
    stream, growth = norm.plain_residual(200, ACTIVATIONS["tanh"], 1.0)
    assert stream[100] == pytest.approx(84.4, abs=0.05)
    exponents = np.log(growth)
    assert exponents[[0, 10, 50, 100]] == pytest.approx([15.17, 12.53, 7.95, 4.62], abs=6e-3)
    assert norm.tanh_residual_exponent(200, 1.0) == pytest.approx(15.05, abs=6e-3)


def test_what_the_tanh_exponent_neglects_grows_like_a_logarithm() -> None:
    rest = []
    for depth in (25, 100, 400, 1600):
        _, growth = norm.plain_residual(depth, ACTIVATIONS["tanh"], 1.5)
        rest.append(math.log(growth[0]) - norm.tanh_residual_exponent(depth, 1.5))
    steps = np.diff(rest) / math.log(4)
    assert np.all(np.abs(steps) < 1)
    assert abs(steps[2] - steps[1]) < abs(steps[1] - steps[0])


def test_a_linear_residual_is_a_power() -> None:
    stream, growth = norm.plain_residual(9, ACTIVATIONS["linear"], 0.7, 2.0)
    layers = np.arange(10)
    assert stream == pytest.approx(2 * 1.49**layers, rel=1e-13)
    assert growth == pytest.approx(1.49 ** (9 - layers), rel=1e-13)


def test_the_streams_of_layer_norm() -> None:
    """Xiong et al. 2020: 1 + l with He's branch, 1 + l / 2 with Xavier's under ReLU."""
    assert [norm.pre_norm_stream(depth) for depth in (1, 10, 25, 50)] == [2, 11, 26, 51]
    assert norm.pre_norm_stream(6, 0.5) == 4
    product = math.prod(1 + 1 / (1 + layer) for layer in range(50))
    assert norm.pre_norm_gradient(50) == pytest.approx(product, rel=1e-13)
    assert norm.last_branch_gradient(7, pre_norm=True) == pytest.approx(1 / 8, rel=1e-15)
    assert norm.last_branch_gradient(7, pre_norm=False) == 0.5


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: norm.batch_norm_growth(ACTIVATIONS["tanh"], 3), "batch"),
        (lambda: norm.batch_norm_growth(ACTIVATIONS["tanh"], math.nan), "batch"),
        (lambda: norm.batch_norm_linear_growth(3), "batch"),
        (lambda: norm.batch_norm_relu_growth(-1), "batch"),
        (lambda: norm.residual_growth(0, 1.0), "depth"),
        (lambda: norm.residual_growth(3, math.nan), "alpha"),
        (lambda: norm.residual_log_growth(3, -1.0, 8), "alpha"),
        (lambda: norm.residual_log_growth(0, 1.0, 8), "depth"),
        (lambda: norm.residual_log_growth(3, 1.0, 0), "width"),
        (lambda: norm.plain_residual(0, ACTIVATIONS["tanh"], 1.0), "depth"),
        (lambda: norm.plain_residual(3, ACTIVATIONS["tanh"], -1.0), "sigma_w"),
        (lambda: norm.plain_residual(3, ACTIVATIONS["tanh"], 1.0, math.inf), "q0"),
        (lambda: norm.tanh_residual_exponent(3, math.nan), "sigma_w"),
        (lambda: norm.pre_norm_stream(-1), "depth"),
        (lambda: norm.pre_norm_gradient(3, -0.5), "branch"),
        (lambda: norm.last_branch_gradient(3, math.inf, pre_norm=False), "branch"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        call()


def closed_form_error() -> float:
    pairs = (("linear", norm.batch_norm_linear_growth), ("relu", norm.batch_norm_relu_growth))
    return max(
        abs(norm.batch_norm_growth(ACTIVATIONS[name], batch) / closed(batch) - 1)
        for name, closed in pairs
        for batch in (5, 8, 64, 4096)
    )


def own_closed_error(name: str, closed: Callable[[int], float]) -> float:
    return max(
        abs(closed(batch) / norm.batch_norm_growth(ACTIVATIONS[name], batch) - 1)
        for batch in (6, 8, 64, 4096)
    )


def recursion_error() -> float:
    """ReLU's branch: q grows by 1 + sigma_w^2 / 2 where its mean is left out, as the map does."""
    stream, growth = norm.plain_residual(30, ACTIVATIONS["relu"], 1.2)
    exact = (1 + 0.72) ** np.arange(31)
    return float(np.max(np.abs(np.stack([stream / exact, growth[::-1] / exact]) - 1)))


def exponent_error() -> float:
    _, growth = norm.plain_residual(4_000, ACTIVATIONS["tanh"], 1.0)
    return abs(norm.tanh_residual_exponent(4_000, 1.0) / math.log(growth[0]) - 1)


YANG, XIONG = "Yang et al. 2019", "Xiong et al. 2020"
ACCURACY = [
    Case("normalization.batch_norm_growth", "growth of a squared gradient, a layer; neglects "
         "O(1 / width)", YANG, "linear and ReLU, batch 5 to 4096", "theorems 7 and 8", 1e-11,
         closed_form_error),
    Case("normalization.batch_norm_linear_growth", "the same without a nonlinearity", YANG,
         "batch 6 to 4096", "integrals over the sphere", 1e-12,
         lambda: own_closed_error("linear", norm.batch_norm_linear_growth)),
    Case("normalization.batch_norm_relu_growth", "the same of ReLU", YANG, "batch 6 to 4096",
         "integrals over the sphere", 1e-11,
         lambda: own_closed_error("relu", norm.batch_norm_relu_growth)),
    Case("normalization.residual_growth", "(1 + alpha^2)^L", "Zhang et al. 2019",
         "50 blocks, alpha 1", "integers", 1e-15,
         lambda: abs(norm.residual_growth(50, 1.0) / 2**50 - 1)),
    Case("normalization.residual_log_growth", "mean of its logarithm; neglects O(L / n^2)",
         "exact law of a block", "alpha 1, width 80", "quadrature of the exact law", 1e-3,
         lambda: abs(norm.residual_log_growth(1, 1.0, 80).mean / exact_log_mean(1.0, 80) - 1)),
    Case("normalization.plain_residual", "stream and gradient of x + phi(W x)",
         "Yang & Schoenholz 2017", "ReLU, 30 layers", "geometric growth", 1e-13, recursion_error),
    Case("normalization.tanh_residual_exponent", "ln of the gradient's growth; neglects O(ln L)",
         "Yang & Schoenholz 2017, theorem 2", "4000 layers", "the recursion itself", 3e-2,
         exponent_error),
    Case("normalization.pre_norm_stream", "mean square of a pre-norm stream", XIONG, "50 blocks",
         "integers", 1e-15, lambda: abs(norm.pre_norm_stream(50) / 51 - 1)),
    Case("normalization.pre_norm_gradient", "gradient's growth; neglects O(ln L / width)", XIONG,
         "50 blocks", "product over blocks", 1e-13,
         lambda: abs(norm.pre_norm_gradient(50)
                     / math.prod(1 + 1 / (1 + k) for k in range(50)) - 1)),
    Case("normalization.last_branch_gradient", "gradient at the last branch; neglects O(1 / width)",
         XIONG, "50 blocks, branch 1/2", "rational arithmetic", 1e-15,
         lambda: max(abs(norm.last_branch_gradient(50, 0.5, pre_norm=True) * 26 - 1),
                     abs(norm.last_branch_gradient(50, 0.5, pre_norm=False) * 1.5 - 1))),
]  # fmt: skip
