"""`preflab pocket`: the built-in world and how to make it again."""

import json
import sys
from pathlib import Path

from cyclopts import App

from preflab.cli.study import Json, Out, Overrides

app = App(name="pocket", help="Build and inspect the built-in world.")


@app.command
def build(
    out: Path,
    /,
    *,
    seed: int = 0,
    steps: int | None = None,
    instruct_steps: int | None = None,
    pairs: int | None = None,
    json_: Json = False,
) -> None:
    """Make the pocket world from nothing: corpus, tokenizer, two models and preference data.

    With the defaults it repeats the assets that ship with the package, in about half an hour on one core; on the
    same machine and versions it writes the same bytes.

    Examples:
        preflab pocket build my-pocket
        preflab pocket build smoke --steps 20 --instruct-steps 5 --pairs 12

    Args:
        out: folder to make; it must not exist yet, or be empty.
        seed: of models, texts and pairs. The facts of the world and its splits have their own fixed seeds.
        steps: optimizer steps of the base model; fewer make a quick, poor model.
        instruct_steps: further steps of the instruct model.
        pairs: prompts for on-policy pairs, and as many for off-policy ones.
        json_: print the manifest as one JSON document.
    """
    from preflab.core.errors import ConfigError
    from preflab.pocket.build import BuildSettings
    from preflab.pocket.build import build as make

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: already there and not an empty folder. Name a new one.")
    chosen = {"base_steps": steps, "instruct_steps": instruct_steps, "pairs": pairs}
    given = {name: value for name, value in chosen.items() if value is not None}
    for name, value in given.items():
        if value < 1:
            raise ConfigError(f"--{name.replace('base_', '').replace('_', '-')}: must be at least 1; got {value}.")
    settings = BuildSettings(seed=seed, **given)
    make(out, settings, lambda line: print(line, file=sys.stderr, flush=True))
    manifest = json.loads((out / "manifest.json").read_text())
    if json_:
        print(json.dumps(manifest, indent=1))
        return
    for name, splits in manifest["start_points"].items():
        right = {family: f"{100 * row['right']:.0f} %" for family, row in splits["test"].items()}
        print(f"{name}: right {', '.join(f'{family} {share}' for family, share in right.items())}")
    print(out)


@app.command
def toy(
    file: Path | None = None,
    /,
    *,
    set_: Overrides = [],  # noqa: B006
    out: Out = None,
    json_: Json = False,
) -> None:
    """Train the toy model of "3D-Properties", in which every probability is known, and judge the paper's claims.

    Four prompts, ten answers, any method of the library: what happens to chosen, rejected and unseen answers, to the
    gradients of both sides, and where the lost probability goes. Without a file: six methods from four start points
    with ten seeds, in under a minute. The same command continues a run that was stopped.

    Examples:
        preflab pocket toy
        preflab pocket toy --set seeds=3 --set widths=[64,256]
        preflab pocket toy recipes/3d-toy.yaml --out runs/3d-toy

    Args:
        file: what to run; default: the built-in study.
        set_: values that replace those of the file.
        out: folder of the study.
        json_: print the claims and the report's path as one JSON document.
    """
    import shlex
    from dataclasses import asdict

    from preflab.studies.processes import warm_up

    warm_up()  # workers import their libraries while this process does
    from preflab.studies.toy import load_toy, run_toy

    config = load_toy(file, set_)
    folder = out or Path("runs") / config.toy
    path, claims = run_toy(config, folder, command=shlex.join(["preflab", *sys.argv[1:]]), watch=_progress)
    if json_:
        print(json.dumps({"report": str(path), "claims": [asdict(claim) for claim in claims]}, indent=1))
        return
    for claim in claims:
        print(f"{claim.verdict}: {claim.text}\n    {claim.found}")
    print(path)


def _progress(done: int, total: int) -> None:
    print(f"{done} of {total} runs", file=sys.stderr, flush=True)
