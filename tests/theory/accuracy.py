"""What the theory's numbers were tested against: ``python tests/theory/accuracy.py`` prints it.

Every ``test_*.py`` beside this file lists its cases in ``ACCURACY``; ``docs/theory.md`` is the
table of all of them, and ``test_accuracy.py`` holds both to what is measured.
"""

import functools
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stability import theory

HERE = Path(__file__).parent
MARKER = "<!-- cases -->"


@dataclass(frozen=True)
class Case:
    """A public function of the theory and how far it is from an independent oracle.

    ``worst`` returns the largest relative error found over ``regime``; ``bound`` is what it may be.
    """

    function: str
    quantity: str
    source: str
    regime: str
    oracle: str
    bound: float
    worst: Callable[[], float]


Call = tuple[Callable[..., Any], inspect.BoundArguments]


def public() -> Iterator[tuple[str, Any, str]]:
    """(name, module, attribute) of every public function of the theory."""
    for found in pkgutil.iter_modules(theory.__path__):
        module = importlib.import_module(f"stability.theory.{found.name}")
        for name, member in inspect.getmembers(module, callable):
            own = getattr(member, "__module__", None) == module.__name__
            if own and not name.startswith("_") and not inspect.isclass(member):
                yield f"{found.name}.{name}", module, name


@contextmanager
def recorded(calls: dict[str, Call]) -> Iterator[None]:
    """While open, a public function that is not in ``calls`` leaves the first call of it there."""
    originals = [(*entry, getattr(*entry[1:])) for entry in public()]
    for key, module, name, function in originals:
        setattr(module, name, _recorder(key, function, calls))
    try:
        yield
    finally:
        for _, module, name, function in originals:
            setattr(module, name, function)


def _recorder(key: str, function: Callable[..., Any], calls: dict[str, Call]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if key not in calls:
            bound = inspect.signature(function).bind(*arguments, **options)
            bound.apply_defaults()
            calls[key] = function, bound
        return function(*arguments, **options)

    return call


def cases() -> Iterator[Case]:
    """All cases of this folder's test files, in the order of file and line."""
    sys.path.insert(0, str(HERE))
    for path in sorted(HERE.glob("test_*.py")):
        if path.stem == "test_accuracy":
            continue
        spec = importlib.util.spec_from_file_location(f"accuracy_of_{path.stem}", path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        yield from getattr(module, "ACCURACY", [])


def documented(found: list[Case]) -> str:
    """The table of ``docs/theory.md``: one row a case."""
    head = "| function | quantity | source | regime tested | oracle | worst error below |"
    lines = [head, "|" + " --- |" * head.count(" | ") + " --- |"]
    for case in found:
        cells = (
            f"`{case.function}`",
            case.quantity,
            case.source,
            case.regime,
            case.oracle,
            f"{case.bound:.0e}",
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rewrite(page: Path) -> None:
    """Replace what follows the marker in ``page`` by the table of all cases."""
    before = page.read_text().partition(MARKER)[0]
    page.write_text(f"{before}{MARKER}\n\n{documented(list(cases()))}")


def main() -> None:
    """Print every case with the worst error found, beside its bound; or rewrite a page."""
    if len(sys.argv) > 1:
        rewrite(Path(sys.argv[1]))
        return
    for case in cases():
        print(f"{case.function:48} {case.worst():8.1e}  of {case.bound:.0e}  {case.regime}")


if __name__ == "__main__":
    main()
