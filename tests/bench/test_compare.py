"""The verb, its console, its page and its exit codes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stability.__main__ import _main
from stability.bench import cli, page
from stability.bench.files import read
from stability.bench.statistics import compare
from stability.errors import InputError

EVIL = "<script>alert(1)</script>"
NAMES = [f"t.py::test_{f}[{n}-{k}]" for f in "xy" for n in (16, 64, 256) for k in ("relu", "tanh")]


@pytest.fixture
def two(write: Any) -> list[str]:
    """Two files; in the second all is 1.2 times slower and the first is twice as fast."""
    g = np.random.default_rng(0)
    times = {
        name: 1e-6 * (i + 1) * np.exp(g.normal(0, 0.02, 30))
        for i, name in enumerate([*NAMES, f"t.py::test_{EVIL}"])
    }
    extra = {"flop": 2e6, "bytes": 1e5, "peak_gflops": 100.0, "peak_gbytes_per_s": 10.0,
             "device": "cpu", "threads": 1, "dtype": f"float32{EVIL}"}  # fmt: skip
    slow = {k: v * (0.5 if k == NAMES[0] else 1.2) for k, v in times.items()}
    return [
        str(write("base.json", {k: list(v) for k, v in times.items()}, extra=extra)),
        str(write("new.json", {k: list(v) for k, v in slow.items()}, extra=extra)),
    ]


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are written without figures: they take a second."""
    monkeypatch.setattr(page, "render", lambda *_: "")


def run(*words: str) -> int:
    return cli.main(["compare", *words])


@pytest.mark.usefixtures("undrawn")
def test_the_console_names_verdicts_ratios_and_the_page(
    two: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*two, "--out", str(tmp_path / "out")) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("note: One run a side:")
    first = next(line for line in lines if line.startswith("test_x[16-relu]"))
    assert first.split()[-1] == "faster"
    assert " 0.500 " in first
    assert sum(line.split()[-1] == "slower" for line in lines) == len(NAMES)
    assert f"{len(NAMES)} slower, 1 faster, 0 indistinguishable" in out
    assert lines[-1] == f"page: {tmp_path / 'out' / 'index.html'}"


def test_machine_differences_come_first(
    write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        str(write(f"{node}.json", {"t::a": [1.0, 1.1, 1.2]}, machine={"node": node}))
        for node in ("one", "two")
    ]
    assert run(*files, "--out", str(tmp_path / "out")) == 0
    assert capsys.readouterr().out.startswith("machines differ: node: one → two\n")
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.index("The machines differ") < text.index("Verdicts</h2>")
    assert "node: one → two" in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("ratio", "code"), [("1.1", 1), ("1.19", 0), ("1.5", 0)])
def test_fail_slower_looks_at_the_interval(
    two: list[str], tmp_path: Path, ratio: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*two, "--out", str(tmp_path), "--fail-slower", ratio) == code
    err = capsys.readouterr().err
    assert err.count(f"slower than {ratio}: t.py::test_") == (len(NAMES) if code else 0)


def test_the_page_is_whole_escaped_and_the_same_twice(two: list[str]) -> None:
    base, new = (read(Path(path)) for path in two)
    result = compare([base], [new])
    text = page.render([base], [new], result, [])
    assert text == page.render([base], [new], result, [])
    assert EVIL not in text
    assert text.count('<svg role="img"') == 3
    for heading in page.HEADINGS.values():
        assert f"<h2>{heading}</h2>" in text
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http-equiv", "")


def test_names_are_short_where_they_stay_different(write: Any) -> None:
    names = ["a/t.py::x[1/2::3]", "b.py::y", "c.py::y"]
    one = read(write("a.json", {name: [1.0, 2.0] for name in names}))
    short = page.short_names(compare([one], [one]))
    assert short == dict(zip(names, ["x[1/2::3]", "b.py::y", "c.py::y"], strict=True))


@pytest.mark.parametrize(
    ("value", "words"),
    [(2.5, "2.5 s"), (0.0123456, "12.35 ms"), (4.2e-6, "4.2 µs"), (3e-10, "0.3 ns")],
)
def test_times_have_their_units(value: float, words: str) -> None:
    assert page.seconds(value) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "bench '': must be one of compare, pair"),
        (["comapre"], "bench 'comapre': must be one of compare, pair; did you mean 'compare'?"),
        (["compare"], "bench compare: the following arguments are required: base, new"),
        (["compare", "a"], "bench compare: the following arguments are required: new"),
        (["compare", "a", "b", "c"], "bench compare: unrecognized arguments: c"),
        (
            ["compare", "a", "b", "--fail-slower", "x"],
            "--fail-slower: invalid float value",
        ),
        (
            ["compare", "a", "b", "--fail-slower", "0.9"],
            "--fail-slower=0.9: must be a finite",
        ),
        (["compare", "a", "b", "--fail-slower", "nan"], "--fail-slower=nan: must be"),
        (["compare", "a", "b", "--level", "1"], "--level=1.0: must be"),
        (["compare", "a", "b"], "a: can't be read: No such file or directory"),
        (["pair"], "bench pair: the following arguments are required: ref"),
        (["pair", "main", "--pairs", "1"], "--pairs=1: must be a finite number, at least 2"),
    ],
)
def test_bad_words_are_told_in_one_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        cli.main(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("undrawn")
def test_a_page_that_cannot_be_written_is_told(two: list[str]) -> None:
    with pytest.raises(InputError, match="--out /proc/nowhere: can't be written"):
        run(*two, "--out", "/proc/nowhere")


def test_the_command_line_needs_no_torch(two: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from stability.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        "    assert 'torch' not in sys.modules; raise"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "bench", "compare", *two], cwd=tmp_path, env=dict(os.environ),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "reports" / "bench" / "index.html").exists()


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(["bench", "--help"]) == 0
    assert "--fail-slower RATIO" in capsys.readouterr().out
