"""Every public function of the theory is as accurate as ``docs/theory.md`` says; nan it refuses."""

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accuracy import Call, Case, cases, documented, public, recorded

CALLS: dict[str, Call] = {}
"""The first call of each function that the cases make: arguments that are valid."""
with recorded(CALLS):
    CASES = list(cases())
DOCS = Path(__file__).parents[2] / "docs" / "theory.md"
MAY_BE_NAN = {
    ("floating_point.round_to", "x"),
    ("initialization.weight_profile", "gradient"),
    ("initialization.weight_profile", "signal"),
    ("meanfield.gradient_rate", "log_chi"),
    ("meanfield.log_gradients", "log_chi"),
    ("perceptron.interval_accuracy", "code"),
    ("perceptron.storage_rounding", "values"),
    ("phase.fixed_correlation", "q"),
}
"""Arguments through which nan passes, as their docstrings say."""
SIZES = (
    "n", "k", "width", "widths", "depth", "factors", "samples", "fan_in", "fan_out", "length",
    "batch", "sigma", "sigma_w", "sigma_b", "q", "q1", "q2", "std", "variance", "eps", "u",
)  # fmt: skip
"""Arguments that are never negative."""


@pytest.mark.parametrize("case", CASES, ids=[f"{case.function}-{case.regime}" for case in CASES])
def test_the_worst_error_is_below_its_bound(case: Case) -> None:
    with recorded(CALLS):
        worst = case.worst()
    assert 0 <= worst <= case.bound
    function, valid = CALLS[case.function]
    for name, wrong in bad_values(case.function, valid):
        valid_value = valid.arguments[name]
        valid.arguments[name] = wrong
        try:
            with pytest.raises(ValueError, match=rf"^{name}\b"):
                function(*valid.args, **valid.kwargs)
        finally:
            valid.arguments[name] = valid_value


def bad_values(key: str, call: inspect.BoundArguments) -> Iterator[tuple[str, Any]]:
    """nan for each number, what is too small for counts and sizes, no such name for each name."""
    for name, value in call.arguments.items():
        if isinstance(value, str):
            yield name, "no such"
        if not plain(value) or (key, name) in MAY_BE_NAN:
            continue
        wrong = [math.nan]
        wrong += [-1.0] if name in SIZES else []
        wrong += [math.inf, 2.5] if call.signature.parameters[name].annotation is int else []
        for number in wrong:
            yield name, number if np.ndim(value) == 0 else np.full(np.shape(value), number)


def plain(value: Any) -> bool:
    """A number, or an array or a list of numbers."""
    if isinstance(value, bool) or hasattr(value, "_fields"):
        return False
    if isinstance(value, np.ndarray):
        return value.size > 0 and value.dtype.kind in "iuf"
    several = value if isinstance(value, list | tuple) else [value]
    return bool(several) and all(isinstance(x, int | float | np.number) for x in several)


def test_the_page_is_the_table_of_the_cases() -> None:
    assert documented(CASES) in DOCS.read_text()


def test_every_public_function_has_a_case() -> None:
    assert {name for name, _, _ in public()} <= {case.function for case in CASES}
