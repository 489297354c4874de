"""What the machine is, how fast it multiplies, and how much memory a process took. Needs torch and psutil only."""

import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "preflab")


def peak_bytes(device: str) -> int:
    """Return the largest memory of this process so far: the CUDA allocator's on `cuda`, else resident."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    # ru_maxrss survives exec and would show the parent's memory; the kernel's high-water mark starts anew.
    return _status_kib("VmHWM") * 1024


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def seconds_since_start() -> float:
    """Return the age of this process: called behind the imports, what they and the interpreter's start took."""
    return time.time() - psutil.Process().create_time()


def _status_kib(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {key}; memory is measured on Linux only.")


def versions() -> dict[str, str]:
    """Return the versions of those libraries that this interpreter has."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine(device: str) -> dict[str, Any]:
    """Return what the machine is and how busy it is."""
    facts: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }
    if device == "cuda":
        import torch

        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def matmul_rate(dtype: str, device: str, threads: int) -> float:
    """Return the best rate of a large square product of random matrices, FLOP/s, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.measure", dtype, device, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    return float(json.loads(done.stdout)["flop_per_s"])


def _matmul_rate(dtype: str, device: str, threads: int, *, seconds: float = 3.0) -> float:
    import torch

    torch.set_num_threads(threads)
    n = 8192 if device == "cuda" else 2048
    # Random values: on zeros, fewer bits flip and the clock rises above what training ever sees.
    a, b = (torch.randn(n, n, dtype=getattr(torch, dtype), device=device) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < seconds:
        best = min(best, _seconds_of(lambda: a @ b, device))
    return 2 * n**3 / best


def _seconds_of(action: Any, device: str) -> float:
    synchronize(device)
    began = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Usage:
    """Wall time since its making, and how busy other programs kept the machine meanwhile."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.perf_counter(), busy_cpu_s(), _children_cpu_s()

    @property
    def wall_s(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    @property
    def others_frac(self) -> float:
        """Share of the processors that went to anything but this process's children that have ended by now."""
        others_s = (busy_cpu_s() - self._busy) - (_children_cpu_s() - self._own)
        return max(0.0, others_s / self.wall_s / (os.cpu_count() or 1))


def busy_cpu_s() -> float:
    """Return the processor seconds that all programs of the machine have used since it started."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq", "steal")))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_until_idle(limit_s: float) -> None:
    """Wait until other programs leave nine tenths of the machine alone, or the limit has passed."""
    began = time.perf_counter()
    while time.perf_counter() - began < limit_s and psutil.cpu_percent(interval=1.0) > 10:
        time.sleep(1.0)


class StepClock:
    """Seconds between steps. On a GPU events in its queue are read afterwards, so that the clock makes nobody wait."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note the end of a step; the first call notes the beginning of the first."""
        if self._device == "cuda":
            import torch

            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds of every step."""
        synchronize(self._device)
        pairs = pairwise(self._marks)
        if self._device == "cuda":
            return [begin.elapsed_time(end) / 1000 for begin, end in pairs]
        return [end - begin for begin, end in pairs]


@dataclass(frozen=True, slots=True)
class Measured:
    """A command that was run to its end.

    Args:
        wall_s: seconds from start to end.
        peak_bytes: largest sum of the proportional memory of its processes, sampled five times a second.
        others_frac: share of the processors that other programs used.
        output: what it wrote.
        code: exit code.
    """

    wall_s: float
    peak_bytes: int
    others_frac: float
    output: str
    code: int


def run_measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Measured:
    """Run a command and follow the memory and the processor time of the whole process tree."""
    began, busy = time.perf_counter(), busy_cpu_s()
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    tree, done = _Tree(process.pid), threading.Event()

    def follow() -> None:
        while not done.wait(0.2):
            tree.look()

    follower = threading.Thread(target=follow)
    follower.start()
    output, _ = process.communicate()
    wall_s, busy_s = time.perf_counter() - began, busy_cpu_s() - busy
    done.set()
    follower.join()
    return Measured(
        wall_s=wall_s,
        peak_bytes=tree.peak_bytes,
        others_frac=max(0.0, busy_s - tree.cpu_s) / wall_s / (os.cpu_count() or 1),
        output=output.decode(errors="replace"),
        code=process.returncode,
    )


_REST = 50
"""How much longer the rest between two looks at the memory is than a look, so that they take 2 % of one core."""


class _Tree:
    """A process and its descendants, as they were at the last looks."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._pid = pid
        self._cpu_s: dict[int, float] = {}
        self._again = 0.0

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all processes ever seen."""
        return sum(self._cpu_s.values())

    def look(self) -> None:
        """Note the processor times, and add up the memory when it is time again; shared pages count once.

        The kernel takes 10 to 15 ms to add up a process, on a core that the command could have used.
        """
        began, total = time.perf_counter(), 0
        add_up = began >= self._again
        try:
            processes = [psutil.Process(self._pid), *psutil.Process(self._pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in processes:
            try:
                times = process.cpu_times()
                self._cpu_s[process.pid] = times.user + times.system
                if add_up:
                    total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.peak_bytes = max(self.peak_bytes, total)
        if add_up:
            now = time.perf_counter()
            self._again = now + _REST * (now - began)


if __name__ == "__main__":
    rate = _matmul_rate(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(json.dumps({"flop_per_s": rate}))
