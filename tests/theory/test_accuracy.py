"""Every public function of the theory is as accurate as ``docs/theory.md`` says."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
from accuracy import Case, cases, documented

from stability import theory

CASES = list(cases())
DOCS = Path(__file__).parents[2] / "docs" / "theory.md"


@pytest.mark.parametrize("case", CASES, ids=[f"{case.function}-{case.regime}" for case in CASES])
def test_the_worst_error_is_below_its_bound(case: Case) -> None:
    assert 0 <= case.worst() <= case.bound


def test_the_page_is_the_table_of_the_cases() -> None:
    assert documented(CASES) in DOCS.read_text()


def test_every_public_function_has_a_case() -> None:
    public = set()
    for found in pkgutil.iter_modules(theory.__path__):
        module = importlib.import_module(f"stability.theory.{found.name}")
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if member.__module__ == module.__name__ and not name.startswith("_"):
                public.add(f"{found.name}.{name}")
    assert public <= {case.function for case in CASES}
