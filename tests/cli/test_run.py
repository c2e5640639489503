"""Runs, sweeps and verbs from the command line."""

import json
import sys
from pathlib import Path

import pandas as pd
from running import Run

import stability as package


def one(folder: Path) -> Path:
    (found,) = folder.glob("toys/*/table.parquet")
    return found


def test_a_run_stores_its_table_claims_and_provenance(toy: Run, tmp_path: Path) -> None:
    done = toy("seed=3", "experiment.samples=50")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1 of 1 claims hold"
    table = one(tmp_path / "runs")
    provenance = json.loads((table.parent / "provenance.json").read_text())
    assert provenance["config"]["samples"] == 50
    assert provenance["seed"] == 3
    assert provenance["device"] == "cpu"
    assert provenance["threads"] == 1
    assert provenance["versions"]["torch"]
    assert provenance["cpu"]
    assert provenance["arithmetic"]["matmul"] in ("torch", "numpy")
    assert provenance["arithmetic"]["float32"] == "highest"
    assert provenance["environment"]["OMP_WAIT_POLICY"]
    assert provenance["seconds"] > 0
    assert len(pd.read_parquet(table)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_the_stored_command_repeats_the_run(toy: Run, stability: Run, tmp_path: Path) -> None:
    import shlex

    toy("seed=3", "experiment.n=[2,3]", "experiment.scale=0.5")
    table = one(tmp_path / "runs")
    before = table.read_bytes()
    provenance = json.loads((table.parent / "provenance.json").read_text())
    words = shlex.split(provenance["command"])
    assert words[0] == "stability"
    again = stability(*words[1:], "rerun=true")
    assert again.returncode == 0, again.stderr
    assert one(tmp_path / "runs") == table
    assert table.read_bytes() == before


def test_a_finished_run_is_reused_and_rerun_forces(toy: Run, tmp_path: Path) -> None:
    toy()
    stamp = one(tmp_path / "runs").stat().st_mtime_ns
    again = toy()
    assert "stored result reused" in again.stdout
    assert one(tmp_path / "runs").stat().st_mtime_ns == stamp
    forced = toy("rerun=true")
    assert "reused" not in forced.stdout
    assert one(tmp_path / "runs").stat().st_mtime_ns > stamp


def test_a_failing_claim_is_told_last_and_exits_0_unless_strict(
    toy: Run, stability: Run, tmp_path: Path
) -> None:
    done = toy("experiment.kind=biased")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "0 of 1 claims hold (1 failing): mean"
    lenient = stability("report", "runs", "--out", "page")
    assert lenient.returncode == 0, lenient.stderr
    assert (tmp_path / "page" / "index.html").exists()
    strict = stability("report", "runs", "--out", "page", "--strict")
    assert strict.returncode == 1


def test_a_sweep_gives_the_rows_of_the_grid(toy: Run, tmp_path: Path) -> None:
    swept = toy("-m", "experiment.n=1,2,5", "runs=swept")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.splitlines()[-1] == "3 of 3 claims hold"
    assert toy("experiment.n=[5,2,1]", "runs=grid").returncode == 0
    (sweep,) = (tmp_path / "swept" / "sweeps").iterdir()
    keys = ["n", "scale", "quantity"]
    rows = [
        package.load(path).sort_values(keys, ignore_index=True)[
            [*keys, "measured", "predicted", "stderr", "n_samples"]
        ]
        for path in (sweep, tmp_path / "grid")
    ]
    pd.testing.assert_frame_equal(rows[0], rows[1], check_exact=True)


def test_cfg_job_prints_the_config_and_runs_nothing(toy: Run, tmp_path: Path) -> None:
    shown = toy("--cfg", "job", "experiment.n=7")
    assert "'n': 7" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_help_explains_every_experiment_and_option(stability: Run) -> None:
    from stability import config

    text = stability("--help").stdout
    for name in config.names("experiment"):
        assert f"  {name}: " in text
    assert "suite=default" in text
    assert "-m" in text


def test_the_shell_completes_experiments_and_options(tmp_path: Path) -> None:
    import os
    import subprocess

    script = Path(sys.executable).with_name("stability")
    installed = subprocess.run(
        [script, "-sc", "install=bash"], capture_output=True, text=True, cwd=tmp_path
    )
    assert installed.returncode == 0, installed.stderr
    assert "complete" in installed.stdout
    for line, word in (
        ("stability experiment=instru", "experiment=instrument"),
        ("stability experiment.sam", "experiment.samples="),
    ):
        asked = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_CWORD": "1"}
        told = subprocess.run(
            [script, "-sc", "query=bash"], capture_output=True, text=True, env=asked, cwd=tmp_path
        )
        assert word in told.stdout.split(), told


def test_list_names_the_experiments(stability: Run) -> None:
    from stability import config

    lines = stability("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == config.names("experiment")
    assert all(len(line.split()) > 3 for line in lines)


def test_help_and_misspelt_options_import_nothing_heavy(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; sys.argv = ['stability', *sys.argv[1:]]\n"
        "from stability.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'seaborn', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    for words in (["--help"], ["experiment.widht=3"], ["list"], ["reprot"], ["sed=1"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.stdout.splitlines()[-1] == "HEAVY []", (words, done.stdout, done.stderr)
