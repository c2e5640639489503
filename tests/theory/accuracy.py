"""What the theory's numbers were tested against: ``python tests/theory/accuracy.py`` prints it.

Every ``test_*.py`` beside this file lists its cases in ``ACCURACY``; ``docs/theory.md`` is the
table of all of them, and ``test_accuracy.py`` holds both to what is measured.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

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
