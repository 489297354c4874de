"""One run at a time: preflab's loop beside DPOTrainer on the same tokens, weights, order and settings."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import preflab
from benchmarks import compare
from benchmarks.arm_preflab import planned_budget
from benchmarks.jobs import BenchmarkError, Job, Result, run_arm
from benchmarks.lengths import Row, from_file, random_ids, summary, synthetic, text_ids, write_rows
from benchmarks.measure import machine, matmul_rate
from benchmarks.models import Cost, cost_of, initial_adapter, model_folder
from preflab.models.policies import LoraSettings

PARITY_BATCH: Final = 2
MICRO_BATCHES: Final = (1, 2, 4, 8)
OURS, DEFAULT = "preflab", "TRL default"
PARTS: Final = {
    "parity": "both arms on the same rows for 20 steps in float32",
    "search": "TRL tuned at every micro-batch, on a few pairs",
    "speed": "preflab and TRL tuned at its fastest micro-batch, in turn",
    "ours": "preflab alone",
    "same": "TRL tuned with the whole batch at once, as preflab computes it",
    "default": "TRL as a user gets it, but in the same dtype",
    "fused": "preflab with several LoRA cells side by side on one base",
}
LORA: Final = LoraSettings(r=16, alpha=32.0, target_modules="all-linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What both arms do: everything that must be equal for two figures to be compared.

    Args:
        model: as the user names it.
        data: name of the file that pairs or tokens come from; empty for random tokens.
        lengths: the distribution of lengths; empty for those of the file.
        n_pairs: pairs of a timed run, a multiple of the batch size.
        lora: an adapter of rank 16 on all linear layers; else all weights.
        batch_size: pairs per optimizer step.
        learning_rate: at the first step.
        max_tokens: of a prompt with one response.
        seed: of lengths, ids and the sample of a file.
        device: `cpu` or `cuda`.
        dtype: of weights and activations.
        threads: of torch.
    """

    model: str
    data: str
    lengths: str
    n_pairs: int
    lora: bool
    batch_size: int
    learning_rate: float
    max_tokens: int
    seed: int
    device: str
    dtype: str
    threads: int


class Bench:
    """A case on this machine: its weights, rows and adapter, made once, and a file that results are added to.

    Args:
        case: what is compared.
        file: pairs, or the texts that tokens come from; None for random tokens.
        work: folder for weights, rows and whatever the arms leave behind.
        out: folder of the results.
        trl_python: the interpreter that has TRL.
        wait_s: how long to wait before each process for other programs to leave the machine alone.
    """

    def __init__(
        self, case: Case, *, file: Path | None, work: Path, out: Path, trl_python: Path, wait_s: float
    ) -> None:
        if case.n_pairs % case.batch_size or case.n_pairs // case.batch_size <= compare.WARMUP:
            raise BenchmarkError(
                f"--pairs {case.n_pairs}: must be a multiple of the batch size, {case.batch_size}, with more than "
                f"{compare.WARMUP} batches: so many warm up and do not count."
            )
        self.case, self.out, self._trl_python, self._wait_s = case, out, trl_python, wait_s
        self._work = Path(tempfile.mkdtemp(prefix="bench-", dir=work))
        self.model = model_folder(case.model, work, dtype=case.dtype, device=case.device)
        self._adapter = ""
        if case.lora:
            adapter = self._work / "adapter"
            initial_adapter(self.model, adapter, settings=LORA, dtype=case.dtype, device=case.device)
            self._adapter = str(adapter)
        self.cost: Cost = cost_of(self.model, lora=case.lora)
        n = max(case.n_pairs, PARITY_BATCH * compare.PARITY_STEPS)
        self._drawn = self._rows(n, file)
        self.rows = self._drawn[: case.n_pairs]
        out.mkdir(parents=True, exist_ok=True)

    def _rows(self, n: int, file: Path | None) -> list[Row]:
        case = self.case
        if file is not None and not case.lengths:
            return from_file(file, self.model, n, seed=case.seed, max_tokens=case.max_tokens)
        if file is not None:
            ids = text_ids(file, self.model, seed=case.seed)
        else:
            vocabulary = json.loads((self.model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
            ids = random_ids(vocabulary, seed=case.seed)
        return synthetic(case.lengths, n, ids, seed=case.seed, max_tokens=case.max_tokens)

    def facts(self) -> dict[str, Any]:
        """Measure the machine and add it, with what the rows need, to the results."""
        case = self.case
        batches = [self.rows[i : i + case.batch_size] for i in range(0, len(self.rows), case.batch_size)]
        work = compare.Work(
            batch_size=case.batch_size,
            useful_tokens=[sum(row.useful_tokens for row in batch) for batch in batches],
            flops=[self.cost.flops(batch) for batch in batches],
            matmul_flop_per_s=matmul_rate(case.dtype, case.device, case.threads),
        )
        lengths = summary(self.rows, case.batch_size)
        return self._record("facts", "", {"work": asdict(work), "lengths": lengths, "machine": machine(case.device)})

    def ours(self, part: str, job: Job, **options: Any) -> Result:
        """Run preflab's arm, at the token budget that a study would plan, and add the result."""
        # Planned here: the probe is a program of its own, and would count as another that disturbs the arm.
        options = {"token_budget": planned_budget(job), **options}
        return self._run("preflab", Path(sys.executable), part, replace(job, options=options))

    def theirs(self, part: str, job: Job, *, tuned: bool, micro_batch: int) -> Result:
        """Run TRL's arm with an empty cache of reference log-probs and add the result."""
        scratch = tempfile.mkdtemp(dir=self._work)
        options = {"tuned": tuned, "micro_batch": micro_batch, "cache": f"{scratch}/cache", "output": f"{scratch}/out"}
        return self._run("trl", self._trl_python, part, replace(job, options=options))

    def job(self, name: str, rows: Sequence[Row] | None = None, **changes: Any) -> Job:
        """Return a job of this case; all of its rows by default."""
        case = self.case
        chosen = self.rows if rows is None else rows
        path = write_rows(chosen, Path(tempfile.mkdtemp(dir=self._work)) / "rows.jsonl")
        job = Job(
            name=name,
            model=str(self.model),
            adapter=self._adapter,
            rows=str(path),
            batch_size=case.batch_size,
            learning_rate=case.learning_rate,
            device=case.device,
            dtype=case.dtype,
            threads=case.threads,
        )
        return replace(job, **changes)

    def parity_job(self, name: str, dtype: str) -> Job:
        """Return a job of many small steps on the first rows drawn."""
        rows = self._drawn[: PARITY_BATCH * compare.PARITY_STEPS]
        return self.job(name, rows, batch_size=PARITY_BATCH, dtype=dtype)

    def _run(self, arm: str, python: Path, part: str, job: Job) -> Result:
        (result,) = run_arm(arm, [job], python=python, wait_s=self._wait_s)
        per_step = statistics.median(result.step_s)
        say(
            f"{part}: {job.name}: {per_step:.2f} s a step, reference {result.reference_s:.1f} s, whole process "
            f"{result.wall_s:.0f} s, {100 * result.others_frac:.0f} % of the processors used by others"
        )
        self._record(part, job.name, asdict(result))
        return result

    def _record(self, part: str, name: str, values: dict[str, Any]) -> dict[str, Any]:
        record = {
            "part": part,
            "name": name,
            "case": asdict(self.case),
            "commit": commit(),
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "load_average": machine("cpu")["load_average"],
            "values": values,
        }
        with (self.out / "engine.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")
        return record


def run(
    bench: Bench, parts: Sequence[str], *, repeats: int, search_pairs: int, micro_batches: Sequence[int], cells: int
) -> None:
    """Measure the parts asked for, in the order of `PARTS`.

    Parity comes first and ends the run where it fails. Repeats alternate the arms, each in a fresh process.

    Args:
        bench: the case.
        parts: keys of `PARTS`.
        repeats: processes of each arm.
        search_pairs: pairs that the search for TRL's micro-batch takes.
        micro_batches: where it looks; those that do not divide the batch are left out.
        cells: how many the part `fused` trains side by side.

    Raises:
        BenchmarkError: the arms did not train the same thing.
    """
    bench.facts()
    size = bench.case.batch_size
    if "parity" in parts:
        _parity(bench)
    if "search" in parts:
        rows = bench.rows[:search_pairs]
        for micro in (m for m in micro_batches if size % m == 0):
            try:
                bench.theirs("search", bench.job(tuned(micro), rows), tuned=True, micro_batch=micro)
            except BenchmarkError as error:  # killed, mostly: too many pairs for the memory
                say(f"search: {tuned(micro)} did not end: {error}")
    best = best_micro_batch(read(bench.out), bench.case) if "speed" in parts else size
    for _ in range(repeats):
        if {"speed", "ours"} & set(parts):
            bench.ours("speed", bench.job(OURS))
        if "fused" in parts:
            bench.ours("speed", bench.job(f"{OURS}, {cells} cells"), cells=cells)
        if "speed" in parts:
            bench.theirs("speed", bench.job(tuned(best)), tuned=True, micro_batch=best)
    if "same" in parts and not ("speed" in parts and best == size):
        bench.theirs("speed", bench.job(tuned(size)), tuned=True, micro_batch=size)
    if "default" in parts:
        bench.theirs("speed", bench.job(DEFAULT), tuned=False, micro_batch=size)


def ablate(bench: Bench, changes: Mapping[str, Mapping[str, Any]], *, repeats: int) -> None:
    """Measure preflab as it is and with each change alone, in turn.

    Args:
        bench: the case.
        changes: name of a change to the options of preflab's arm that make it.
        repeats: processes of each.
    """
    bench.facts()
    for _ in range(repeats):
        bench.ours("speed", bench.job(OURS))
        for name, options in changes.items():
            bench.ours("speed", bench.job(f"{OURS} {name}"), **options)


def _parity(bench: Bench) -> None:
    ours = bench.ours("parity", bench.parity_job(OURS, "float32"))
    theirs = bench.theirs("parity", bench.parity_job("TRL", "float32"), tuned=True, micro_batch=PARITY_BATCH)
    found = compare.parity(ours, theirs)
    say(str(found))
    if not found.holds:
        raise BenchmarkError(f"{found}; nothing is timed.")
    if bench.case.dtype != "float32":
        half = bench.case.dtype
        our_half = bench.ours("parity", bench.parity_job(f"{OURS} {half}", half))
        their_half = bench.theirs("parity", bench.parity_job(f"TRL {half}", half), tuned=True, micro_batch=PARITY_BATCH)
        gaps = compare.half_precision(our_half, their_half, ours)
        say(f"{half} against float32: preflab's curve within {gaps[0]:.1e}, TRL's within {gaps[1]:.1e}")


def tuned(micro_batch: int) -> str:
    """Return the name of TRL's tuned setting with a micro-batch."""
    return f"TRL tuned, {micro_batch} at a time"


def best_micro_batch(records: Sequence[Mapping[str, Any]], case: Case) -> int:
    """Return the fastest micro-batch of the search.

    Raises:
        BenchmarkError: none was searched.
    """
    found = {r["name"]: sum(r["values"]["step_s"]) for r in of_case(records, case) if r["part"] == "search"}
    seconds = {micro: found[tuned(micro)] for micro in MICRO_BATCHES if tuned(micro) in found}
    if not seconds:
        raise BenchmarkError("no micro-batch of TRL was searched for this case; add `search` to --parts.")
    return min(seconds, key=lambda micro: seconds[micro])


def read(out: Path) -> list[dict[str, Any]]:
    """Return all records of a results folder."""
    path = out / "engine.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def of_case(records: Sequence[Mapping[str, Any]], case: Case) -> Iterator[Mapping[str, Any]]:
    """Yield the records of one case; parity and the search use the first of its pairs, however many there are."""
    wanted = asdict(case)
    for record in records:
        sized = wanted if record["part"] in ("facts", "speed") else {**wanted, "n_pairs": record["case"]["n_pairs"]}
        if record["case"] == sized:
            yield record


def commit() -> str:
    """Return the commit of the preflab that is measured, marked when files differ from it."""
    command = ["git", "-C", str(Path(preflab.__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or preflab.__version__


def say(text: str) -> None:
    """Show progress; results go to stdout."""
    print(text, file=sys.stderr, flush=True)
