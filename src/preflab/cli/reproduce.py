"""`preflab reproduce`: a paper's study in one command, and its claims beside what came out."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preflab.cli.study import Json, Out, Overrides

_Flag = Parameter(negative=())


def reproduce(
    recipe: str,
    *,
    smoke: Annotated[bool, _Flag] = False,
    pocket: Annotated[bool, _Flag] = False,
    small: Annotated[bool, _Flag] = False,
    paper: Annotated[bool, _Flag] = False,
    plan: Annotated[bool, _Flag] = False,
    other: str | None = None,
    prompts: int | None = None,
    set_: Overrides = [],  # noqa: B006
    out: Out = None,
    json_: Json = False,
) -> int:
    """Run the study of a paper and judge the paper's claims by it; the same command continues it.

    insights: alignment methods over start points and sizes (arXiv:2404.14723). starpo: robustness over settings
    (arXiv:2407.15229). threed: what DPO does to likelihoods, on- and off-policy pairs, PPO (arXiv:2406.07327).

    Examples:
        preflab reproduce starpo --pocket
        preflab reproduce insights --small --set models.base=models/smollm2 --plan
        preflab reproduce threed --paper

    Args:
        recipe: insights, starpo or threed.
        smoke: seconds, to see that it works; its numbers say nothing.
        pocket: minutes on a processor, in the built-in world; the default.
        small: a model of 135 million parameters, hours.
        paper: models and data of the paper, or public stand-ins; GPUs and days.
        plan: show what would run and for how long, and run nothing.
        other: threed --small and --paper: the model whose answers are the off-policy ones.
        prompts: threed: how many prompts pairs are made from.
        set_: values that replace those of the recipe's study file.
        out: folder of the study; default: runs/RECIPE-SIZE.
        json_: print the claims as JSON.
    """
    from preflab.cli.console import execute_and_print, print_plan
    from preflab.core.errors import ConfigError
    from preflab.studies.execute import plan_json
    from preflab.studies.index import command_line
    from preflab.studies.plan import make_plan
    from preflab.studies.reproduce import Size, steps, study_file, write_findings

    flags: dict[Size, bool] = {"smoke": smoke, "pocket": pocket, "small": small, "paper": paper}
    asked = [size for size, given in flags.items() if given]
    if len(asked) > 1:
        raise ConfigError("preflab reproduce: name one size, of --smoke, --pocket, --small and --paper.")
    size = asked[0] if asked else "pocket"
    folder = out or Path("runs") / f"{recipe}-{size}"
    print(f"Study file: {study_file(recipe, size)}", file=sys.stderr)
    todo = steps(
        recipe,
        size,
        folder,
        set_,
        other=other,
        prompts=prompts,
        command=command_line(),
        say=lambda text: print(text, file=sys.stderr),
    )
    if plan:
        for step in todo:
            print_plan(plan_json(make_plan(step.config, step.folder)))
        return 0
    code = 0
    for step in todo:
        code = max(code, execute_and_print(step.config, step.folder, as_json=False, quiet=True))
    page, findings = write_findings(recipe, folder)
    if json_:
        print((folder / "claims.json").read_text(encoding="utf-8"))
        return code
    for finding in findings:
        print(f"{finding.verdict:>13}  {finding.claim.text}", file=sys.stderr)
    print(page)
    return code
