"""What a machine can do, checked before a study finds out: versions, processor, memory, disk, hub and secrets.

Every check is independent and never raises; torch is imported by the checks that need it, not by this module.
"""

import os
import platform
import re
import shutil
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

import psutil
from packaging.requirements import Requirement

from preflab.core.errors import ConfigError, PreflabError, StudyLocked
from preflab.store.artefacts import committed_folder, verify, write_manifest
from preflab.store.ledger import study_lock

Status = Literal["ok", "warning", "error"]

_GIB = 2**30
_LOW_MEMORY_BYTES = 2 * _GIB
_LOW_DISK_BYTES = 5 * _GIB
_SLOW_COMMIT_S = 1.0
_HUB_TIMEOUT_S = 5.0
_SHOWN_PREFIXES = (
    "CUDA_",
    "HF_",
    "HUGGING_FACE_",
    "MKL_",
    "OMP_",
    "PREFLAB_",
    "TOKENIZERS_",
    "TORCH_",
    "TRANSFORMERS_",
)
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_SECRET_WORDS = {"token", "key", "secret", "password", "credentials"}
_WHY_FLOOR = {
    "torch": "older versions can run code that is hidden in a checkpoint",
    "transformers": "older versions can run code that a model's configuration names",
}


class Check(NamedTuple):
    """One answer of the doctor."""

    name: str
    status: Status
    found: str
    advice: str = ""


def examine(folder: Path, *, online: bool = False) -> tuple[Check, ...]:
    """Check everything a study in this folder depends on.

    Args:
        folder: where studies are going to be written.
        online: whether to call the model hub; otherwise nothing leaves the machine.

    Raises:
        ConfigError: the folder does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; name an existing folder to test writing in.")
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("torch", lambda: _floor("torch")),
        ("transformers", lambda: _floor("transformers")),
        ("accelerator", _accelerator),
        ("processor", _processor),
        ("threads", _threads),
        ("memory", _memory),
        ("disk", lambda: _disk(folder)),
        ("store", lambda: _store(folder)),
        ("hub", lambda: _hub(online)),
        ("caches", _caches),
        ("environment", _environment),
    )
    return tuple(_guarded(name, check) for name, check in checks)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """Turn a check that breaks into an answer: a doctor that crashes on a sick machine is of no use."""
    try:
        answer = check()
    except Exception as error:
        answer = Check(name, "error", f"{type(error).__name__}: {error}")
    return answer._replace(found=mask(answer.found), advice=mask(answer.advice))


def mask(text: str) -> str:
    """Return a text without the values of secret environment variables and without passwords inside addresses."""
    for name, value in os.environ.items():
        if _is_secret(name) and len(value) >= 6:
            text = text.replace(value, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def _is_secret(name: str) -> bool:
    return not _SECRET_WORDS.isdisjoint(name.lower().split("_"))


def _python() -> Check:
    found = f"{platform.python_version()} at {sys.executable}, {platform.platform()}"
    return Check("python", "ok", found)


def _requirements() -> dict[str, Requirement]:
    parsed = (Requirement(line) for line in requires("preflab") or ())
    return {r.name: r for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})}


def _problem(requirement: Requirement) -> str:
    """Return what is wrong with an installed requirement; empty when nothing is."""
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement} is missing"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} {installed} does not satisfy {requirement.specifier}"


def _packages() -> Check:
    requirements = _requirements()
    problems = [text for text in map(_problem, requirements.values()) if text]
    if problems:
        return Check("packages", "error", "; ".join(problems), "Run: pip install --upgrade preflab")
    return Check("packages", "ok", f"preflab {version('preflab')} and its {len(requirements)} requirements")


def _floor(name: str) -> Check:
    requirement = _requirements()[name]
    problem = _problem(requirement)
    if problem:
        return Check(name, "error", f"{problem}; {_WHY_FLOOR[name]}", f"Run: pip install '{requirement}'")
    return Check(name, "ok", f"{version(name)}, at or above the security floor {requirement.specifier}")


def _accelerator() -> Check:
    import torch

    build = f"torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        bf16 = "with" if torch.cuda.is_bf16_supported() else "without"
        return Check("accelerator", "ok", f"{build}; {', '.join(names)}, {bf16} bfloat16")
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        advice = "Install the build of torch for your driver (https://pytorch.org/get-started) to use the GPU."
        return Check("accelerator", "warning", f"{build} finds no GPU, but this machine has an NVIDIA driver", advice)
    if torch.version.cuda:
        advice = "A CPU build is smaller: pip install torch --index-url https://download.pytorch.org/whl/cpu"
        return Check("accelerator", "ok", f"{build} (CUDA build), no GPU; studies run on the CPU", advice)
    return Check("accelerator", "ok", f"{build}, no GPU; studies run on the CPU")


def _processor() -> Check:
    import torch

    flags = _cpu_flags()
    bf16 = bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)
    capability = torch.backends.cpu.get_cpu_capability()
    shown = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16") if name in flags]
    found = f"{_cpu_model()}; kernels for {capability}; {', '.join(shown) or 'flags unknown'}"
    if capability in ("DEFAULT", "NO AVX"):
        return Check(
            "processor", "warning", found, "No vector units that torch can use: training is several times slower."
        )
    if not bf16:
        return Check("processor", "ok", found, "No bfloat16 units: keep float32, bfloat16 is far slower here.")
    return Check(
        "processor", "ok", found, "bfloat16 units present; float32 stays the default on CPUs, for exact repeats."
    )


def _cpu_flags() -> set[str]:
    """Return the processor's feature flags where Linux tells them (x86 says `flags`, ARM `Features`)."""
    return set(_cpuinfo(r"flags|Features").split())


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(rf"^(?:{key})\s*:\s*(.*)$", text, re.MULTILINE)
    return match.group(1).strip() if match else ""


def _threads() -> Check:
    import torch

    logical = os.cpu_count() or 1
    usable = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else logical)
    quota = _cpu_quota()
    usable = min(usable, quota) if quota else usable
    used = torch.get_num_threads()
    setting = os.environ.get("OMP_NUM_THREADS", "not set")
    found = f"{usable:g} of {logical} logical CPUs usable; torch uses {used} threads; OMP_NUM_THREADS {setting}"
    if used > usable:
        advice = f"More threads than CPUs slow torch down many times: export OMP_NUM_THREADS={max(1, int(usable))}"
        return Check("threads", "warning", found, advice)
    return Check("threads", "ok", found)


def _cpu_quota() -> float | None:
    """Return the CPUs that the container grants, or None without a limit (cgroup version 2)."""
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _cgroup(name: str) -> str:
    try:
        return Path("/sys/fs/cgroup", name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _memory() -> Check:
    memory = psutil.virtual_memory()
    available, source = memory.available, "available"
    limit, current = _cgroup("memory.max"), _cgroup("memory.current")
    if limit.isdigit() and current.isdigit():
        room = int(limit) - int(current)
        available, source = min((available, source), (room, "left in this container"))
    found = f"{available / _GIB:.1f} GiB {source} of {memory.total / _GIB:.1f} GiB"
    if available < _LOW_MEMORY_BYTES:
        return Check("memory", "warning", found, "Enough for the pocket world with few workers, not for larger models.")
    return Check("memory", "ok", found)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    found = f"{free / _GIB:.1f} GiB free at {folder.resolve()}"
    if free < _LOW_DISK_BYTES:
        return Check("disk", "warning", found, "A study keeps the weights or the adapter of every cell.")
    return Check("disk", "ok", found)


def _store(folder: Path) -> Check:
    """Do once what a study does all the time: lock, write, fsync, rename, verify."""
    try:
        with tempfile.TemporaryDirectory(prefix=".preflab-doctor-", dir=folder) as name:
            place = Path(name)
            if not _lock_excludes(place / "study"):
                return Check("store", "error", f"locks do not exclude each other in {folder.resolve()}", _OTHER_FOLDER)
            started = time.monotonic()
            with committed_folder(place / "artefact") as temporary:
                (temporary / "data.bin").write_bytes(os.urandom(2**20))
                write_manifest(temporary, {}, {})
            verify(place / "artefact")
            took_s = time.monotonic() - started
    except (OSError, PreflabError) as error:
        return Check("store", "error", f"cannot write safely in {folder.resolve()}: {error}", _OTHER_FOLDER)
    found = f"lock, write, fsync, rename and verify work in {folder.resolve()} ({took_s * 1000:.0f} ms for 1 MiB)"
    if took_s > _SLOW_COMMIT_S:
        return Check("store", "warning", found, "A slow file system; a local disk makes studies of many cells faster.")
    return Check("store", "ok", found)


_OTHER_FOLDER = "Keep studies in another folder, on a local disk."


def _lock_excludes(study: Path) -> bool:
    with study_lock(study):
        try:
            with study_lock(study):
                return False
        except StudyLocked:
            return True


def _hub(online: bool) -> Check:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        found = "offline by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE"
        return Check("hub", "ok", found, "Local folders, cached models and pocket:* work; Hub ids do not.")
    if not online:
        return Check("hub", "ok", f"{constants.ENDPOINT}, not tested", "Test it with: preflab doctor --online")
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_S):
            return Check("hub", "ok", f"{constants.ENDPOINT} answers")
    except urllib.error.HTTPError as error:
        return Check("hub", "warning", f"{constants.ENDPOINT} answers with status {error.code}")
    except OSError as error:
        advice = "Without it, use local folders or pocket:*; HF_ENDPOINT names a mirror, HF_HUB_OFFLINE=1 stops trying."
        return Check("hub", "error", f"{constants.ENDPOINT} cannot be reached: {error}", advice)


def _caches() -> Check:
    from huggingface_hub import constants

    from preflab.core.cache import cache_root

    folders = {"models and data": Path(constants.HF_HUB_CACHE), "preflab": cache_root()}
    found = "; ".join(f"{what}: {path}" for what, path in folders.items())
    closed = [str(path) for path in folders.values() if not _writable(path)]
    if closed:
        advice = "Set HF_HOME and PREFLAB_CACHE to folders that you may write to."
        return Check("caches", "error", f"{found}; not writable: {', '.join(closed)}", advice)
    return Check("caches", "ok", found)


def _writable(folder: Path) -> bool:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(existing, os.W_OK | os.X_OK)


def _environment() -> Check:
    from huggingface_hub import constants

    shown = [
        f"{name}={'***' if _is_secret(name) else value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(_SHOWN_PREFIXES) or name.lower() in _PROXIES
    ]
    if Path(constants.HF_TOKEN_PATH).exists():
        shown.append("a stored hub token")
    return Check("environment", "ok", ", ".join(shown) or "no variable that matters is set")
