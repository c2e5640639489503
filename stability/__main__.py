"""The command line: the Hydra app, and the verbs.

Answers to --help and to misspelt options come before torch, pandas or seaborn are imported.
"""

import itertools
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stability import config
from stability.errors import InputError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
stability: experiments on numerical stability, every measured number beside its prediction.

Usage
  stability [experiment=NAME] [OPTION=VALUE ...]   run one experiment
  stability suite=NAME [OPTION=VALUE ...]          run a suite and write its report
  stability -m OPTION=VALUE,VALUE ...              sweep: one job for each combination
  stability list                                   the experiments, one line each
  stability report [RUN ...] [--out DIR] [--strict]
                                                   draw stored results again; runs nothing
  stability status SWEEP                           which jobs of a sweep are done, running, failed
  stability bench compare BASE.json NEW.json       benchmarks: faster, slower, or noise
  stability bench pair REF [-k EXPRESSION]         the same for REF and this checkout, run in turn

Examples
  stability experiment=matrix_product experiment.n=8 seed=3
  stability experiment=gradient_flow 'experiment.width=[64,256]'     a grid in one process
  stability -m experiment=gradient_flow experiment.width=64,256      a sweep of jobs
  stability suite=default suite.matrix_product.samples=5000
  stability experiment=gradient_flow --cfg job                       print the config, run nothing
  stability -cd my_conf experiment=mine                              an experiment of your own

Every factor takes one value or a list.  Bad input: one line on stderr, exit code 2.
Completion in bash: eval "$(stability -sc install=bash)".  Hydra's own flags: --hydra-help.

Options of every run
{top}

Suites
{suites}

Experiments and their options, with the defaults
{experiments}"""

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra/launcher/submitit": "slurm",
    "hydra_ray_launcher": "ray",
    "hydra/sweeper/optuna": "optuna",
}
"""What Hydra says it can't find, and the extra that brings it."""

_results: list[Path] = []
_refusals: list[InputError] = []
_searches: list[Path] = []


def main() -> None:
    """Run the command line and exit: 0, 1 for a failing strict report or a bug, 2 for bad input."""
    arguments = sys.argv[1:]
    try:
        code = _main(arguments)
    except InputError as error:
        print(f"stability: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stability: interrupted; finished results are kept", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def _main(arguments: Sequence[str]) -> int:
    if any(word in ("--help", "-h") for word in arguments):
        if arguments[0] == "bench":
            from stability.bench.cli import USAGE

            print(USAGE)
            return 0
        print(_help())
        return 0
    if arguments and not arguments[0].startswith("-") and "=" not in arguments[0]:
        verb = arguments[0]
        if verb[0] not in "+~":
            if verb not in VERBS:
                raise InputError(
                    f"{verb!r}: must be a verb ({', '.join(VERBS)}) or OPTION=VALUE"
                    f"{nearest(verb, VERBS)}"
                )
            return VERBS[verb](arguments[1:])
    if not any(word in ("-sc", "--shell-completion") for word in arguments):
        config.check_overrides(arguments)
    ordered = _flags_first(arguments)
    swept = any(word in ("-m", "--multirun") for word in ordered)
    sweepers = {word for word in ordered if word.startswith("hydra/sweeper=")}
    if swept and sweepers <= {"hydra/sweeper=basic"}:
        return _sweep(ordered)
    if swept and not any(word.startswith("objective=") for word in ordered):
        raise InputError("objective: must be given in a search, a quantity of the table")
    return _hydra(ordered)


def _flags_first(arguments: Sequence[str]) -> list[str]:
    """The same words with the overrides last: Hydra's parser takes no flag between overrides."""
    valued = ("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name",
              "-cd", "--config-dir")  # fmt: skip
    flags: list[str] = []
    overrides: list[str] = []
    before = ""
    for word in arguments:
        loose = not word.startswith("-") and before not in valued
        (overrides if loose else flags).append(word)
        before = word
    return [*flags, *overrides]


def _help() -> str:
    lines = (config.CONF / "config.yaml").read_text().splitlines()
    return HELP.format(
        top="\n".join(f"  {line}" for line in lines if "  # " in line and line[0].isalpha()),
        suites="\n".join(f"  {n}: {config.summary('suite', n)}" for n in config.names("suite")),
        experiments="\n".join(config.help_lines()).rstrip(),
    )


def _list(arguments: Sequence[str]) -> int:
    if arguments:
        raise InputError(f"list: takes no arguments, got {arguments[0]!r}")
    names = config.names("experiment")
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {config.summary('experiment', name)}")
    return 0


def _report(arguments: Sequence[str]) -> int:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            raise InputError(f"report: {message}")

    parser = Parser(prog="stability report", allow_abbrev=False)
    parser.add_argument("run", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--strict", action="store_true")
    wanted = parser.parse_args(arguments)
    paths = wanted.run or [_default_source()]
    out = wanted.out or Path("reports") / (paths[0].resolve().name if len(paths) == 1 else "report")
    from stability.run import report

    return report(paths, out, strict=wanted.strict)


def _default_source() -> Path:
    suite = Path("runs", "suites", "default")
    return suite if suite.exists() else Path("runs")


def _status(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        raise InputError(f"status: takes one folder of a sweep, got {len(arguments)} words")
    from stability.sweep import status

    return status(Path(arguments[0]))


def _bench(arguments: Sequence[str]) -> int:
    from stability.bench.cli import main

    return main(arguments)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "list": _list,
    "report": _report,
    "status": _status,
    "bench": _bench,
}


def _sweep(arguments: Sequence[str]) -> int:
    """A sweep over a grid; ``arguments``: flags first."""
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    known = get_args_parser().parse_args(arguments)
    from stability.sweep import sweep

    command = shlex.join(["stability", *arguments])
    try:
        return sweep(known.overrides, known.config_dir, command)
    except (HydraException, OmegaConfBaseException) as error:
        raise _refusal(error) from None


def _hydra(arguments: Sequence[str]) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    chosen = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv[1:] = arguments
    _results.clear()
    _refusals.clear()
    _searches.clear()
    config.register_workers()
    app = hydra.main(version_base="1.3", config_path=str(config.CONF), config_name="config")(_job)
    try:
        app()
    except InputError:
        assert _refusals
    except (HydraException, OmegaConfBaseException) as error:
        if chosen == "1":
            raise
        raise _refusal(error) from None
    if _refusals:
        for folder in _searches:
            if not (folder / "members").exists():
                shutil.rmtree(folder, ignore_errors=True)
        raise _refusals[0]
    if _results and any(word in ("-m", "--multirun") for word in arguments):
        from stability.run import tally

        print(f"{len(_results)} jobs finished")
        print(tally(list(dict.fromkeys(_results)))[0])
        print(f"best: {_best(_searches[0])}")
    return 0


def _best(search: Path) -> str:
    """The job with the best objective, and it, as Hydra's sweeper left them in its folder."""
    import yaml

    found = yaml.safe_load((search / "optimization_results.yaml").read_text())
    words = shlex.join(f"{key}={value}" for key, value in found["best_params"].items())
    return f"{words} with an objective of {found['best_value']:.4g}"


def _refusal(error: Exception) -> InputError:
    """An error of Hydra's in one line, with the override that it is about or what to install."""
    line = _first(error)
    for missing, extra in EXTRAS.items():
        if missing in line:
            return InputError(f"hydra: {extra} isn't installed; pip install 'stability[{extra}]'")
    override = getattr(error, "override", None)
    return InputError(f"{override}: {line}" if override else line)


def _first(error: Exception) -> str:
    """The first line of an error of Hydra's, with the choices that follow it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    if len(lines) > 1 and lines[1].startswith("Available options"):
        choices = itertools.takewhile(lambda line: not line.startswith("Config search"), lines[2:])
        return f"{lines[0]}; must be one of {', '.join(choices)}"
    return lines[0]


def _job(composed: "DictConfig") -> float | None:
    """One job of Hydra's; in a search, what it found of the objective.

    A refusal is kept for ``main``, which Hydra would wrap in its own.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    state = HydraConfig.get()
    searched = state.mode is RunMode.MULTIRUN
    if searched:
        _searches.append(Path(state.sweep.dir))
    try:
        try:
            plain: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise InputError(_first(error)) from None
        from stability import run

        own = [s.path for s in state.runtime.config_sources if s.provider == "command-line"]
        asked = run.Request(
            words=list(state.overrides.task),
            choices=dict(state.runtime.choices),
            config_dir=own[0] if own else None,
            sweep=Path(state.sweep.dir) if searched else None,
        )
        how = run.settings(plain)
        if searched != (how.objective is not None):
            raise InputError("objective: is for a search; add -m hydra/sweeper=optuna")
        folders = run.job(plain, asked)
        _results.extend(folders)
        return run.objective(folders, how.objective, how.target) if how.objective else None
    except InputError as error:
        _refusals.append(error)
        if searched:
            raise
        return None


if __name__ == "__main__":
    main()
