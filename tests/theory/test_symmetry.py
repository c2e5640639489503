"""The transverse dynamics of equal units, against networks of many units trained by hand."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from accuracy import Case

from stability.theory import symmetry as theory
from stability.theory.nonlinearity import Nonlinearity

N, D, UNITS = 9, 3, 4
RNG = np.random.default_rng(11)
X, Y = RNG.standard_normal((N, D)), RNG.standard_normal(N)
TANH = Nonlinearity(
    phi=np.tanh, dphi=lambda z: 1 - np.tanh(z) ** 2,
    d2phi=lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2),
)  # fmt: skip
DATA = theory.Data(X, Y, TANH, UNITS)
RATES = {"sgd": 0.1, "momentum": 0.02, "adam": 0.02}
MARKS = [0, 1, 2, 5, 20, 80]


def high(steps: int, name: str, shift: Any) -> list[Any]:
    """Units (w, v) after each step in 40 digits, two of them shifted apart; mpmath alone."""
    with mpmath.workdps(40):
        x, y, rate = mpmath.matrix(X.tolist()), list(map(mpmath.mpf, Y)), mpmath.mpf(RATES[name])
        theta = [[mpmath.mpf("0.5")] * (D + 1) for _ in range(UNITS)]
        for sign, unit in ((1, 0), (-1, 1)):
            theta[unit] = [p + sign * shift for p in theta[unit][:-1]] + theta[unit][-1:]
        m = [[mpmath.mpf(0)] * (D + 1) for _ in range(UNITS)]
        s = [[mpmath.mpf(0)] * (D + 1) for _ in range(UNITS)]
        first, second, path = mpmath.mpf(9) / 10, mpmath.mpf(999) / 1000, [theta]
        for step in range(1, steps + 1):
            h = [[mpmath.tanh(sum(x[i, j] * u[j] for j in range(D))) for u in theta]
                 for i in range(N)]  # fmt: skip
            r = [(sum(a * u[-1] for a, u in zip(row, theta, strict=True)) - t) / N
                 for row, t in zip(h, y, strict=True)]  # fmt: skip
            new = []
            for k, u in enumerate(theta):
                back = [r[i] * u[-1] * (1 - h[i][k] ** 2) for i in range(N)]
                g = [sum(back[i] * x[i, j] for i in range(N)) for j in range(D)]
                g.append(sum(r[i] * h[i][k] for i in range(N)))
                if name == "sgd":
                    move = g
                elif name == "momentum":
                    m[k] = [first * a + b for a, b in zip(m[k], g, strict=True)]
                    move = m[k]
                else:
                    m[k] = [first * a + (1 - first) * b for a, b in zip(m[k], g, strict=True)]
                    s[k] = [second * a + (1 - second) * b**2 for a, b in zip(s[k], g, strict=True)]
                    move = [
                        a / (1 - first**step) / (mpmath.sqrt(b / (1 - second**step)) + 1e-8)
                        for a, b in zip(m[k], s[k], strict=True)
                    ]
                new.append([p - rate * d for p, d in zip(u, move, strict=True)])
            theta = new
            path.append(theta)
        return path


def worst_growth() -> float:
    """Against two units 1e-15 apart in 40 digits, whose second order is then 1e-28."""
    errors, steps = [], 20
    for name in RATES:
        shift = mpmath.mpf("1e-15")
        path = high(steps, name, shift)
        told = theory.drift(DATA, 0.5, theory.rule(name, RATES[name]), range(steps + 1)).growth
        for units, predicted in zip(path, told, strict=True):
            apart = max(abs(a - b) for a, b in zip(units[0], units[1], strict=True))
            errors.append(abs(float(apart / (2 * shift)) / predicted - 1))
    return float(max(errors))


def worst_loss() -> float:
    """Against four equal units in 40 digits."""
    errors = []
    for name in RATES:
        path = high(12, name, mpmath.mpf(0))
        told = theory.drift(DATA, 0.5, theory.rule(name, RATES[name]), range(13)).loss
        for units, predicted in zip(path, told, strict=True):
            u = np.array(units, float)
            errors.append(abs(((np.tanh(X @ u[:, :-1].T) @ u[:, -1] - Y) ** 2).mean() / 2
                              / predicted - 1))  # fmt: skip
    return float(max(errors))


def worst_hessian() -> float:
    """Against central differences of the network's loss, second order in 50 digits."""
    w, v = RNG.standard_normal(D), 0.7
    told = theory.transverse_hessian(DATA, w, v).matrix
    with mpmath.workdps(50):
        step = mpmath.mpf("1e-12")

        def loss(a: int, b: int, signs: tuple[int, int]) -> Any:
            total = mpmath.mpf(0)
            for x, y in zip(X, Y, strict=True):
                f = (UNITS - 2) * v * mpmath.tanh(mpmath.fdot(map(mpmath.mpf, w), x))
                for side in (1, -1):
                    p = [*map(mpmath.mpf, w), mpmath.mpf(v)]
                    p[a] += side * signs[0] * step
                    p[b] += side * signs[1] * step
                    f += p[-1] * mpmath.tanh(mpmath.fdot(p[:-1], x))
                total += (f - y) ** 2
            return total / (2 * N)

        found = np.array([
            [float(sum(i * j * loss(a, b, (i, j)) for i in (1, -1) for j in (1, -1))
                   / (4 * step**2)) / 2 for b in range(D + 1)]
            for a in range(D + 1)
        ])  # fmt: skip
    return float(np.abs(found - told).max() / np.abs(told).max())


def worst_orbit() -> float:
    """Signed permutation matrices, counted."""
    for n in range(1, 5):
        seen = {
            tuple((np.eye(n, dtype=int)[list(order)] * np.array(signs)).ravel())
            for order in itertools.permutations(range(n))
            for signs in itertools.product((1, -1), repeat=n)
        }
        if len(seen) != theory.equivalent_networks(n):
            return 1.0
    return 0.0


def worst_head() -> float:
    """The bound in fractions, from its parts: 2 k u / (1 - k u), k = 2 K + N + 16."""
    u, slopes = 2.0**-24, 1 - np.tanh(X.sum(axis=1)) ** 2
    k = 2 * 3 + N + 16
    factor = 2 * Fraction(k) * Fraction(u) / (1 - k * Fraction(u)) / 2 / N
    columns = [sum(Fraction(s) * abs(Fraction(x)) for s, x in zip(slopes, column, strict=True))
               for column in X.T]  # fmt: skip
    told = theory.constant_head_gradient(X, slopes, 0.5, 3, u)
    return abs(told / float(factor * max(columns)) - 1)


def worst_difference() -> float:
    """2 k u / (1 - k u) in fractions, k = n + D + 3 and more."""
    errors = []
    for units, inputs, more in ((1, 1, 0), (64, 6, 3), (1000, 784, 0)):
        k, u = units + inputs + 3 + more, Fraction(1, 2**24)
        told = theory.output_difference(units, inputs, float(u), more)
        errors.append(abs(told / float(2 * k * u / (1 - k * u)) - 1))
    return max(errors)


def worst_rule() -> float:
    """Against the defaults that PyTorch states."""
    defaults = torch.optim.Adam([torch.zeros(1)]).defaults
    told = theory.rule("adam", defaults["lr"])
    pairs = [(told.first, defaults["betas"][0]), (told.second, defaults["betas"][1]),
             (told.gain, 1 - defaults["betas"][0]), (told.eps, defaults["eps"])]  # fmt: skip
    return float(max(abs((one or 0.0) / other - 1) for one, other in pairs))


def worst_step() -> float:
    """Gradients of all magnitudes, in fractions."""
    errors = []
    for g in (1e-30, -2e-9, 1e-8, 3e-4, -7e5):
        exact = -Fraction(0.01) * Fraction(g) / (abs(Fraction(g)) + Fraction(1e-8))
        errors.append(abs(float(Fraction(float(theory.adam_first_step(g, 0.01))) / exact - 1)))
    return max(errors)


ACCURACY = [
    Case("symmetry.drift", "growth of a difference between equal units", "linearised descent",
         "SGD, momentum, Adam, 20 steps, 4 units of tanh", "40-digit training of two units",
         1e-12, worst_growth),
    Case("symmetry.drift", "loss of equal units", "one unit counted n times",
         "SGD, momentum, Adam, 12 steps", "40-digit training of four units", 1e-12, worst_loss),
    Case("symmetry.rule", "constants of Adam", "Kingma & Ba 2015, algorithm 1", "defaults",
         "PyTorch's defaults", 1e-15, worst_rule),
    Case("symmetry.transverse_hessian", "Hessian across the manifold of equal units",
         "second derivative of the loss", "4 units of tanh", "50-digit differences", 1e-12,
         worst_hessian),
    Case("symmetry.adam_first_step", "Adam's first step", "Kingma & Ba 2015, algorithm 1",
         "|g| from 1e-30 to 7e5", "rational arithmetic", 1e-15, worst_step),
    Case("symmetry.constant_head_gradient", "bound of a gradient that is 0 exactly",
         "Higham 2002, sec. 3.1", "9 samples, 3 classes, float32", "rational arithmetic", 1e-14,
         worst_head),
    Case("symmetry.output_difference", "bound between two sums of one network",
         "Higham 2002, sec. 3.1", "1 to 1000 units, float32", "rational arithmetic", 1e-15,
         worst_difference),
    Case("symmetry.equivalent_networks", "networks of one function", "n! 2^n", "1 to 4 units",
         "signed permutations, counted", 0.0, worst_orbit),
]  # fmt: skip


def rounded_deviation(name: str, steps: int, seed: int) -> list[float]:
    """Deviation of equal units when every sum is taken in float32 in an order of its own."""
    order = np.random.default_rng(seed)
    f = np.float32
    x, y, n = X.astype(f), Y.astype(f), UNITS
    theta = np.full((n, D + 1), f(0.5))
    m, s, out = np.zeros_like(theta), np.zeros_like(theta), [0.0]

    def total(terms: Any) -> Any:
        partial = f(0)
        for term in order.permutation(terms):
            partial = f(partial + term)
        return partial

    for step in range(1, steps + 1):
        z = np.array([[total(row * u[:-1]) for u in theta] for row in x], dtype=f)
        h = np.tanh(z)
        r = (np.array([total(row * theta[:, -1]) for row in h], dtype=f) - y) / f(N)
        back = r[:, None] * theta[:, -1] * (1 - h * h)
        g = np.array([[*(total(back[:, k] * x[:, j]) for j in range(D)), total(h[:, k] * r)]
                      for k in range(n)], dtype=f)  # fmt: skip
        rate = f(RATES[name])
        if name == "sgd":
            theta = theta - rate * g
        elif name == "momentum":
            m = f(0.9) * m + g
            theta = theta - rate * m
        else:
            m = f(0.9) * m + f(0.1) * g
            s = f(0.999) * s + f(0.001) * (g * g)
            scale = np.sqrt(s / f(1 - 0.999**step)) + f(1e-8)
            theta = theta - f(RATES[name] / (1 - 0.9**step)) * m / scale
        out.append(float(np.ptp(theta, axis=0).max()))
    return out


@pytest.mark.parametrize("name", RATES)
def test_any_order_of_summation_stays_below_the_bound(name: str) -> None:
    """And within a thousandth of it at its closest: it is no empty promise."""
    told = theory.drift(DATA, 0.5, theory.rule(name, RATES[name]), range(41)).bound(2.0**-24)
    shares = []
    for seed in range(4):
        found = np.array(rounded_deviation(name, 40, seed))
        assert (found <= told).all()
        assert found[-1] > 0
        shares.append((found[1:] / told[1:]).max())
    assert max(shares) > 1e-3


def test_the_bound_scales_with_the_roundoff() -> None:
    told = theory.drift(DATA, 0.5, theory.rule("sgd", 0.1), [0, 10])
    assert told.bound(2.0**-24)[0] == 0.0
    ratio = told.bound(2.0**-24)[1] / told.bound(2.0**-53)[1]
    assert ratio == pytest.approx(2.0**29, rel=1e-5)
    assert told.roundings == N + D + 12


def test_a_step_is_the_same_whatever_else_is_asked() -> None:
    rule = theory.rule("adam", 0.02)
    alone = theory.drift(DATA, 0.5, rule, [20])
    among = theory.drift(DATA, 0.5, rule, MARKS)
    assert among.growth[MARKS.index(20)] == pytest.approx(alone.growth[0], rel=1e-13)
    assert among.rounding[MARKS.index(20)] == pytest.approx(alone.rounding[0], rel=1e-13)
    assert among.growth[0] == 1.0


def test_a_gradient_makes_a_saddle_and_none_makes_none() -> None:
    """Interlacing: the zero in the corner lies between the extreme eigenvalues."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hessian = theory.transverse_hessian(DATA, rng.standard_normal(D), rng.standard_normal())
        assert np.linalg.eigvalsh(hessian.matrix)[0] < 0
        assert (np.abs(hessian.matrix) <= hessian.size * (1 + 1e-12)).all()
    fitted = DATA._replace(targets=UNITS * 0.5 * np.tanh(X @ np.full(D, 0.5)))
    assert np.abs(theory.transverse_hessian(fitted, [0.5] * D, 0.5).matrix).max() < 1e-15


def test_a_diverging_descent_is_told_without_warnings() -> None:
    linear = Nonlinearity(phi=lambda z: z, dphi=np.ones_like, d2phi=np.zeros_like)
    told = theory.drift(DATA._replace(nonlinearity=linear), 0.5, theory.rule("sgd", 50.0), [60])
    assert not np.isfinite(told.loss).all()


def test_the_gradient_under_a_constant_head_in_every_order() -> None:
    """float32 by hand: the sum of (p - y) c over classes, then over samples, at any order."""
    slopes = 1 - np.tanh(X.sum(axis=1)) ** 2
    bound = theory.constant_head_gradient(X, slopes, 0.5, 3, 2.0**-24)
    f = np.float32
    for seed in range(20):
        order = np.random.default_rng(seed)
        logits = np.full((N, 3), f(1.7))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        wrong = ((p - np.eye(3, dtype=f)[np.arange(N) % 3]) / f(N)).astype(f)
        hidden = np.zeros(N, f)
        for k in order.permutation(3):
            hidden = hidden + wrong[:, k] * f(0.5)
        back = hidden * slopes.astype(f)
        gradient = np.zeros(D, f)
        for i in order.permutation(N):
            gradient = gradient + back[i] * X.astype(f)[i]
        assert np.abs(gradient).max() <= bound
    assert bound < 1e-5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.rule("sgd", 0.0), "rate=0.0"),
        (lambda: theory.rule("lion", 0.1), "name='lion'"),
        (lambda: theory.drift(DATA, 0.5, theory.rule("sgd", 0.1), []), "steps"),
        (lambda: theory.drift(DATA, 0.5, theory.rule("sgd", 0.1), [-1]), "steps"),
        (lambda: theory.transverse_hessian(DATA, [0.5], 0.5), "weights of shape"),
        (lambda: theory.transverse_hessian(DATA._replace(units=0), [0.5] * D, 0.5), "units=0"),
        (lambda: theory.adam_first_step(1.0, 0.0), "rate=0.0"),
        (lambda: theory.adam_first_step(1.0, 0.1, 0.0), "eps=0.0"),
        (lambda: theory.constant_head_gradient(X, Y, 0.5, 1, 1e-8), "classes=1"),
        (lambda: theory.constant_head_gradient(X, [1.0], 0.5, 3, 1e-8), "slopes"),
        (lambda: theory.output_difference(-9, 1, 1e-8), "units=-9"),
        (lambda: theory.equivalent_networks(-1), "units=-1"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_adam_hardly_minds_the_size_of_a_gradient() -> None:
    steps = theory.adam_first_step([1e-8, 1e-5, 1e5, 0.0], 0.1)
    np.testing.assert_allclose(steps, [-0.05, -0.1 / 1.001, -0.1, 0.0], rtol=1e-12)
    assert math.copysign(1, theory.adam_first_step(-1e-9, 0.1)) == 1
