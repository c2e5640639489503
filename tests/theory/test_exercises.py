"""The closed forms behind the exercises, against direct computation."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from accuracy import Case

from stability.theory import exercises as theory

RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, 5))
LABELS = RNG.integers(0, 3, 40)


def worst_contraction() -> float:
    """Against 30 steps by hand, with a rate at which the loss even diverges."""
    hessian = X.T @ X / 40
    start = RNG.standard_normal(5)
    errors = []
    for rate in (0.01, 0.3, 1.5):
        gap = start
        for _ in range(30):
            gap = gap - rate * hessian @ gap
        by_hand = np.linalg.norm(gap) / np.linalg.norm(start)
        errors.append(abs(theory.descent_contraction(hessian, rate, 30, start) / by_hand - 1))
    return float(max(errors))


def loss(weights: np.ndarray) -> float:
    logits = X @ weights
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-logs[np.arange(40), LABELS].mean())


def worst_step() -> float:
    """Against central differences of the cross-entropy at equal weights; their own error 1e-9."""
    told = theory.constant_softmax_step(X, LABELS, 3, 0.2)
    flat = np.full((5, 3), 0.7)
    found = np.zeros_like(flat)
    for at in np.ndindex(flat.shape):
        step = np.zeros_like(flat)
        step[at] = 1e-5
        found[at] = -0.2 * (loss(flat + step) - loss(flat - step)) / 2e-5
    return float(np.abs(told - found).max() / np.abs(told).max())


def worst_gap() -> float:
    """A quadratic mu |x|^2 / 2 attains the bound at points on opposite sides of its minimum."""
    return max(abs(theory.strongly_convex_gap(mu * 2.0, mu * 3.0, mu) / 5.0 - 1) for mu in (0.1, 9))


def pieces_by_hand(width: int) -> int:
    rng = np.random.default_rng(width)
    w, b, v = rng.standard_normal((3, width))
    bends = np.sort(-b / w)
    points = np.concatenate([[bends[0] - 1], (bends[1:] + bends[:-1]) / 2, [bends[-1] + 1]])
    slopes = ((points[:, None] * w + b > 0) * w) @ v
    return len(np.unique(np.round(slopes, 12)))


ACCURACY = [
    Case("exercises.linear_pieces", "pieces of a ReLU network of one input", "one bend a unit",
         "1 to 40 units", "slopes between the bends", 0.0,
         lambda: float(any(theory.linear_pieces(n) != pieces_by_hand(n) for n in range(1, 41)))),
    Case("exercises.descent_contraction", "what gradient descent leaves of a difference of starts",
         "(I - rate H)^t", "30 steps, 5 dimensions, contracting and diverging", "the steps by hand",
         1e-12, worst_contraction),
    Case("exercises.constant_softmax_step", "first step from equal weights",
         "rate X^T (Y - 1/K) / N", "40 samples, 3 classes", "central differences", 1e-8,
         worst_step),
    Case("exercises.strongly_convex_gap", "distance of two points of a strongly convex function",
         "Nesterov 2004, theorem 2.1.10", "attained by a quadratic", "closed form", 1e-15,
         worst_gap),
    Case("exercises.layerwise_ratio", "share by which a layer moves", "You et al. 2017, eq. 6",
         "rate 0.1, trust 0.01", "definition", 1e-15,
         lambda: abs(theory.layerwise_ratio(0.1, 0.01) / 1e-3 - 1)),
]  # fmt: skip


def test_the_fastest_rate_forgets_one_direction_at_once() -> None:
    hessian = np.diag([1.0, 4.0])
    assert theory.descent_contraction(hessian, 0.25, 1, [0.0, 1.0]) == 0.0
    assert theory.descent_contraction(hessian, 0.25, 0, [3.0, 1.0]) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.linear_pieces(0), "width=0"),
        (lambda: theory.descent_contraction([1.0], 0.1, 1, [1.0]), "hessian"),
        (lambda: theory.descent_contraction([[math.nan]], 0.1, 1, [1.0]), "hessian"),
        (lambda: theory.descent_contraction([[1.0]], 0.0, 1, [1.0]), "rate=0.0"),
        (lambda: theory.descent_contraction([[1.0]], 0.1, -1, [1.0]), "steps=-1"),
        (lambda: theory.descent_contraction([[1.0]], 0.1, 1, [0.0]), "start"),
        (lambda: theory.constant_softmax_step([1.0], [0], 2, 0.1), "inputs"),
        (lambda: theory.constant_softmax_step([[1.0]], [0], 1, 0.1), "classes=1"),
        (lambda: theory.strongly_convex_gap(-1.0, 0.0, 1.0), "first=-1.0"),
        (lambda: theory.strongly_convex_gap(1.0, 0.0, 0.0), "convexity=0.0"),
        (lambda: theory.layerwise_ratio(0.0, 1.0), "rate=0.0"),
        (lambda: theory.layerwise_ratio(1.0, math.nan), "trust=nan"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
