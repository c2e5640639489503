"""Timing: clocks, the machine's limits, and a benchmark beside its naive peer, interleaved.

Timers: process time on one CPU thread, wall time on more, CUDA events on a GPU.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from stability.store import machine

CALL = 5e-3
"""Seconds that a round takes at least: shorter functions are called several times a round."""

REAL = ("float64", "float32", "tf32", "bfloat16", "float16")
"""The names of dtypes that a benchmark may state; tf32 is float32 with its products in TF32."""


class Versus(Protocol):
    """Check ``ours()`` against ``naive()``, then time both, round by round in turn.

    ``check(ours_result, naive_result)`` raises AssertionError on a wrong result.  ``flop`` and
    ``bytes_``: what one call of ``ours`` must compute and move.  ``dtype``: one of REAL.
    Both must do the same work.  Returns the result of ``ours()``.
    """

    def __call__(
        self,
        ours: Callable[[], Any],
        naive: Callable[[], Any],
        *,
        dtype: str,
        check: Callable[[Any, Any], None] | None = None,
        flop: float | None = None,
        bytes_: float | None = None,
        device: str = "cpu",
        threads: int = 1,
        rounds: int = 21,
    ) -> Any: ...


class Alone(Protocol):
    """As Versus without a peer: ``check(result)``."""

    def __call__(
        self,
        ours: Callable[[], Any],
        *,
        dtype: str,
        check: Callable[[Any], None] | None = None,
        flop: float | None = None,
        bytes_: float | None = None,
        device: str = "cpu",
        threads: int = 1,
        rounds: int = 21,
    ) -> Any: ...


class Tick:
    """A CUDA event; the difference of two is in seconds and waits for the later one."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def __sub__(self, earlier: "Tick") -> float:
        self.event.synchronize()
        return float(earlier.event.elapsed_time(self.event)) / 1e3


def cuda_event_time() -> Tick:
    """The clock of the current CUDA device."""
    return Tick()


def clock(device: str, threads: int) -> Callable[[], Any]:
    """The timer of a computation: what it returns can be subtracted, to give seconds."""
    if device.startswith("cuda"):
        return cuda_event_time
    return time.process_time if threads == 1 else time.perf_counter


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Torch and the BLAS libraries use ``threads`` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """In the block float32 products on CUDA are in TF32 if ``dtype`` is tf32, else in float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def torch_dtype(dtype: str) -> torch.dtype:
    """The dtype of the tensors of a benchmark in ``dtype``, one of REAL."""
    found: torch.dtype = getattr(torch, "float32" if dtype == "tf32" else dtype)
    return found


def timed(call: Callable[[], object], timer: Callable[[], Any], number: int = 1) -> float:
    """Seconds of one of ``number`` calls."""
    start = timer()
    for _ in range(number):
        call()
    return float(timer() - start) / number


def fastest(call: Callable[[], object], timer: Callable[[], Any], rounds: int = 7) -> float:
    """Seconds of a call in the fastest round, each of CALL seconds or one call."""
    number = calls(call, timer)
    return min(timed(call, timer, number) for _ in range(rounds))


def calls(call: Callable[[], object], timer: Callable[[], Any]) -> int:
    """How many calls take at least CALL seconds; warms up on the way."""
    number = 1
    while (taken := timed(call, timer, number) * number) < CALL and number < 1_000_000:
        number = max(number + 1, min(10 * number, int(1.2 * number * CALL / max(taken, 1e-9))))
    return number


@cache
def peak_flops(dtype: str, device: str, threads: int) -> float:
    """FLOP/s of the fastest product of two square matrices, by torch or (on CPU) numpy."""
    timer, best = clock(device, threads), 0.0
    with limited(threads), precision(dtype):
        for n in _peak_sizes(dtype, device):
            a = torch.randn(n, n, device=device).to(torch_dtype(dtype))
            product = partial(torch.mm, a, a, out=torch.empty_like(a))
            best = max(best, 2 * n**3 / fastest(product, timer))
    if device == "cpu" and dtype in ("float32", "float64"):
        best = max(best, _numpy_flops(dtype, threads))
    return best


def _peak_sizes(dtype: str, device: str) -> tuple[int, ...]:
    if device.startswith("cuda"):
        return 2048, 4096, 8192
    # torch multiplies float16 on CPU by a plain loop.
    return (64, 128) if dtype == "float16" else (256, 512, 1024)


def _numpy_flops(dtype: str, threads: int) -> float:
    """FLOP/s of numpy's product, in a process where OpenBLAS chooses its kernels itself."""
    code = (
        "import time, numpy as np\n"
        f"n, timer = 1024, time.{clock('cpu', threads).__name__}\n"
        f"a = np.random.default_rng(0).standard_normal((n, n)).astype('{dtype}')\n"
        "best = 1e9\n"
        "for _ in range(9):\n"
        "    start = timer(); a @ a; best = min(best, timer() - start)\n"
        "print(2 * n**3 / best)\n"
    )
    free = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    pinned = {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=free | pinned, capture_output=True, text=True, check=True
    )
    return float(ran.stdout)


@cache
def peak_bytes(device: str, threads: int) -> float:
    """Bytes/s of the triad a = b + s c (McCalpin 1995) on arrays far larger than the caches.

    24 bytes an element of float64: two reads and a write, as STREAM counts them.
    """
    n = 2**27 if device.startswith("cuda") else 2**24
    b, c = (torch.full((n,), value, dtype=torch.float64, device=device) for value in (1.0, 2.0))
    a = torch.empty_like(b)
    with limited(threads):
        return 24 * n / fastest(lambda: torch.add(b, c, alpha=3.0, out=a), clock(device, threads))


def median_interval(values: Any, level: float = 0.95) -> tuple[float, float, float]:
    """The median, and the order statistics that hold the true one with probability >= ``level``.

    Distribution-free for independent values (David & Nagaraja 2003, Order Statistics, 7.1);
    (median, nan, nan) when there are too few of them.
    """
    x = np.sort(np.asarray(values, dtype=float))
    rank = int(binom.ppf((1 - level) / 2, len(x), 0.5))
    middle = float(np.median(x))
    if rank < 1:
        return middle, float("nan"), float("nan")
    return middle, float(x[rank - 1]), float(x[len(x) - rank])


def measure(
    benchmark: Any,
    ours: Callable[[], Any],
    naive: Callable[[], Any] | None,
    *,
    dtype: str,
    check: Callable[..., None] | None = None,
    flop: float | None = None,
    bytes_: float | None = None,
    device: str = "cpu",
    threads: int = 1,
    rounds: int = 21,
    quick: bool = False,
) -> Any:
    """Benchmark ``ours``, each round followed by one of ``naive``; see Versus and Alone.

    ``quick``: for a comparison of commits, which needs neither the peer nor the machine's limits.
    """
    if dtype not in REAL:
        raise ValueError(f"dtype={dtype!r}: must be one of {', '.join(REAL)}")
    timer = clock(device, threads)
    with limited(threads), precision(dtype):
        result = ours()
        if check is not None:
            check(result, naive()) if naive is not None else check(result)
        if benchmark.disabled:
            return benchmark.pedantic(lambda: result)
        if quick:
            naive = flop = bytes_ = None
        return _timed(benchmark, timer, ours, naive, rounds, flop, bytes_, dtype, device, threads)


def _timed(
    benchmark: Any,
    timer: Callable[[], Any],
    ours: Callable[[], Any],
    naive: Callable[[], Any] | None,
    rounds: int,
    flop: float | None,
    bytes_: float | None,
    dtype: str,
    device: str,
    threads: int,
) -> Any:
    peer: list[float] = []
    number = calls(ours, timer)
    peer_number = calls(naive, timer) if naive is not None else 0

    def after() -> None:
        if naive is not None:
            peer.append(timed(naive, timer, peer_number))

    # pytest-benchmark chooses its timer before a test can say on which device it runs.
    benchmark._timer = timer
    warm = 3 if device.startswith("cuda") else 1
    result = benchmark.pedantic(
        ours, teardown=after, rounds=rounds, warmup_rounds=warm, iterations=number
    )
    own = np.asarray(benchmark.stats.stats.data)
    info = benchmark.extra_info
    info |= {"device": device, "device_name": device_name(device), "threads": threads,
             "dtype": dtype, "versions": versions()}  # fmt: skip
    middle = float(np.median(own))
    limits = []
    if flop is not None:
        peak = peak_flops(dtype, device, threads)
        info |= {"flop": flop, "gflops": flop / middle / 1e9, "peak_gflops": peak / 1e9}
        limits.append(flop / peak)
    if bytes_ is not None:
        bandwidth = peak_bytes(device, threads)
        info |= {"bytes": bytes_, "gbytes_per_s": bytes_ / middle / 1e9,
                 "peak_gbytes_per_s": bandwidth / 1e9}  # fmt: skip
        limits.append(bytes_ / bandwidth)
    if limits:
        info["share_of_limit"] = max(limits) / middle
    if naive is not None:
        paired = np.asarray(peer[warm : warm + rounds])
        speedup, low, high = median_interval(paired / own)
        info |= {"peer_median": float(np.median(paired)), "speedup": speedup,
                 "speedup_low": low, "speedup_high": high}  # fmt: skip
    return result


def device_name(device: str) -> str:
    """The device in words."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu()


@cache
def _cpu() -> str:
    return str(machine()["cpu"])


@cache
def versions() -> dict[str, str]:
    """Of what computes."""
    return {"python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__}  # fmt: skip
