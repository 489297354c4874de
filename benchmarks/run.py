"""The driver of the benchmark, run from the root of the repository.

    python -m benchmarks.run                                      random weights, HH-like lengths: minutes
    python -m benchmarks.run engine --model FOLDER --data FILE    a real model on real pairs
    python -m benchmarks.run engine --help

TRL lives in an environment of its own (`make .venv-parity/.ready`), never among preflab's dependencies.
"""

import argparse
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import torch

from benchmarks import engine, report, study
from benchmarks.engine import Bench, Case
from benchmarks.jobs import ROOT, BenchmarkError
from benchmarks.lengths import DISTRIBUTIONS
from benchmarks.levers import WITHOUT
from preflab.core.errors import PreflabError
from preflab.models.load import quiet

COMPARED = ("parity", "search", "speed", "same", "default")


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; `engine` where none is named."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or (given[0].startswith("--") and given[0] != "--help"):
        given = ["engine", *given]
    options = parser().parse_args(given)
    torch.set_num_threads(options.threads)
    quiet()
    try:
        options.function(options)
    except (BenchmarkError, PreflabError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    top = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("engine", help="one training run: preflab's loop beside TRL's DPOTrainer")
    _engine_options(one)
    one.set_defaults(function=_engine)
    change = commands.add_parser("ablation", help="preflab's loop with each lever off alone; TRL is not needed")
    _engine_options(change)
    change.set_defaults(function=_ablation)
    grid = commands.add_parser("study", help="a grid on the pocket model: `preflab run` beside TRL, cell by cell")
    _shared_options(grid)
    grid.add_argument("--parts", default=",".join(study.PARTS), help=f"what to measure, of {', '.join(study.PARTS)}")
    grid.set_defaults(function=_study)
    return top


def _shared_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    command.add_argument("--threads", type=int, default=2, help="of torch, for both arms")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, default=Path("runs/bench"), help="results are added here, as JSON lines")
    command.add_argument("--work", type=Path, help="scratch folder; default: a temporary one")
    command.add_argument("--wait", type=float, default=60.0, help="seconds to wait for other programs, per process")
    command.add_argument("--trl-python", type=Path, default=ROOT / ".venv-parity/bin/python")


def _engine_options(command: argparse.ArgumentParser) -> None:
    _shared_options(command)
    command.add_argument("--model", default="llama-small-random", help="folder, llama-7b-random, or pocket:base")
    command.add_argument("--data", type=Path, help="preference pairs in any format preflab reads")
    command.add_argument(
        "--lengths", choices=DISTRIBUTIONS, help="lengths to draw instead of the file's; without one: hh"
    )
    command.add_argument("--pairs", type=int, default=64)
    command.add_argument("--full", action="store_true", help="train all weights instead of an adapter")
    command.add_argument("--batch-size", type=int, default=8)
    command.add_argument("--learning-rate", type=float, help="default: 5e-5, with --full 5e-6")
    command.add_argument("--max-tokens", type=int, default=1024, help="of a prompt with one response")
    command.add_argument("--parts", default=",".join(COMPARED), help=f"what to measure, of {', '.join(engine.PARTS)}")
    command.add_argument("--micro-batches", default="1,2,4,8", help="of TRL, to search")
    command.add_argument("--cells", type=int, default=8, help="of the part `fused`")
    command.add_argument("--repeats", type=int, default=2, help="fresh processes of each arm, in turn")
    command.add_argument("--search-pairs", type=int, default=16, help="to find TRL's best micro-batch with")
    command.add_argument("--show", action="store_true", help="measure nothing; print what the results folder has")


def _case(options: argparse.Namespace) -> Case:
    return Case(
        model=options.model,
        data=options.data.name if options.data else "",
        lengths=options.lengths or ("" if options.data else "hh"),
        n_pairs=options.pairs,
        lora=not options.full,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate or (5e-6 if options.full else 5e-5),
        max_tokens=options.max_tokens,
        seed=options.seed,
        device=options.device,
        dtype=options.dtype,
        threads=options.threads,
    )


def _bench(options: argparse.Namespace, case: Case, temporary: str) -> Bench:
    work = options.work or Path(temporary)
    work.mkdir(parents=True, exist_ok=True)
    return Bench(
        case, file=options.data, work=work, out=options.out, trl_python=options.trl_python, wait_s=options.wait
    )


def _engine(options: argparse.Namespace) -> None:
    case, parts = _case(options), _parts(options.parts, engine.PARTS)
    with tempfile.TemporaryDirectory() as temporary:
        if not options.show:
            engine.run(
                _bench(options, case, temporary),
                parts,
                repeats=options.repeats,
                search_pairs=options.search_pairs,
                micro_batches=[int(size) for size in options.micro_batches.split(",")],
                cells=options.cells,
            )
    print(report.engine_text(engine.read(options.out), case))
    if case.model.endswith("-random"):
        print('\nA real model on real pairs: make bench ARGS="engine --model FOLDER --data FILE"', file=sys.stderr)


def _ablation(options: argparse.Namespace) -> None:
    case = _case(options)
    with tempfile.TemporaryDirectory() as temporary:
        if not options.show:
            engine.ablate(_bench(options, case, temporary), WITHOUT, repeats=options.repeats)
    print(report.engine_text(engine.read(options.out), case))


def _study(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        grid = study.Grid(folder, out=options.out, trl_python=options.trl_python, wait_s=options.wait)
        study.run(grid, _parts(options.parts, study.PARTS))
    print(report.study_text(study.read(options.out)))


def _parts(given: str, known: Collection[str]) -> list[str]:
    parts = given.split(",")
    if unknown := set(parts) - set(known):
        raise BenchmarkError(f"--parts: unknown {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    return parts


if __name__ == "__main__":
    sys.exit(main())
