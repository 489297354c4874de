"""What a reader must know before believing a comparison; printed by `plan` and in the report."""

from collections.abc import Mapping
from typing import Any

from preflab.data.examples import RANKED
from preflab.methods.needs import roles_of
from preflab.studies.cells import MethodGrid
from preflab.studies.config import StudyConfig


def fairness_notes(config: StudyConfig, grids: Mapping[str, MethodGrid], data: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one sentence for everything that limits the comparison.

    Args:
        config: the study.
        grids: its methods by name.
        data: info of the data artefact.
    """
    notes = []
    budgets = {name: len(grid.settings) for name, grid in grids.items()}
    if len(set(budgets.values())) > 1:
        listed = ", ".join(f"{name} {n}" for name, n in budgets.items())
        notes.append(f"Tuning budgets differ (settings tried: {listed}); a larger grid has more chances to look best.")
    defaulted = {name: grid.settings[0].learning_rate for name, grid in grids.items() if grid.learning_rate_is_default}
    if defaulted:
        listed = ", ".join(f"{name} {rate:g}" for name, rate in defaulted.items())
        notes.append(
            f"No learning rate was given; the first published one is used, which suits models of 7 billion parameters"
            f"{', times 10 for LoRA' if config.train.lora else ''}: {listed}. Small models may hardly move; set "
            "methods.NAME.learning_rate."
        )
    if config.train.schedule == "wsd" and len(config.sizes) > 1:
        notes.append(
            "Cells of different sizes share their steps up to the decay of the smaller one (schedule wsd); training "
            "times count shared steps for every cell that passed through them."
        )
    if config.tune is not None and max(budgets.values()) > 1:
        factor, rungs = config.tune.factor, config.tune.rungs
        parts = " and ".join(f"1/{factor**left}" for left in range(rungs, 0, -1))
        notes.append(
            f"Settings are searched by successive halving: after {parts} of the steps, one in {factor} of a method's "
            "settings goes on, by validation in the middle of the schedule. What stopped ones would have reached is "
            "not known; the best may be among them, and the spread over settings says less."
        )
    if stopped := [name for name, grid in grids.items() if grid.stops]:
        notes.append(_stopping(config, stopped))
    rates = {rate for grid in grids.values() for rate in grid.axes["learning_rate"]}
    if len(grids) > 1 and len(rates) == 1:
        notes.append(
            f"Every method trains at one learning rate ({next(iter(rates)):g}); methods differ in the rate they need."
        )
    if own := [name for name, grid in grids.items() if grid.method.is_online]:
        judge = "a reward model trained on the same pairs" if config.online_reward == "model" else config.online_reward
        notes.append(
            f"{', '.join(own)}: learn from {config.online.samples} answers of their own to each prompt, rewarded by "
            f"{judge}; the other methods learn from the responses in the data. All see the same prompts in the same "
            "order; what the answers cost is in the table of costs."
        )
    if len(config.seeds) == 1:
        notes.append("One seed: intervals cover held-out items only, not what another seed would give.")
    if "sft" in config.starts and config.sft.seeds == 1 and len(config.seeds) > 1:
        notes.append(
            "One SFT run stands behind the sft start point; intervals exclude its variance (sft.seeds: per_seed)."
        )
    if "sft" in config.starts and config.sft.data is None:
        notes.append("SFT uses the chosen responses of the training pairs: start point sft has seen them before.")
    if data.get("kind") == "unpaired":
        notes.append(
            "The data is unpaired: preference accuracy compares desirable with undesirable responses to other prompts "
            "(area under the ROC curve), not two responses to one prompt."
        )
    given = data["given"]["train"]
    lists = [name for name, grid in grids.items() if "rank_2" in roles_of(grid.method)]
    if "rank_2" in given and lists and len(lists) < len(grids):
        notes.append(
            f"Training rows have up to {sum(role in RANKED for role in given)} responses: {', '.join(lists)} see all "
            "of them, the other methods the best and the worst."
        )
    if lists and 0 < given["score"] < given["chosen"]:
        notes.append(
            f"{given['chosen'] - given['score']} of {given['chosen']} training rows have no scores that agree with "
            f"their order; for {', '.join(lists)} their places count instead."
        )
    if unstable := sum(data.get("unstable_template", {}).values()):
        notes.append(f"The chat template changes under {unstable} responses; they are their bare text and one EOS.")
    truncated = {role: n for role, n in data["truncated"].get("train", {}).items() if n}
    if truncated:
        listed = ", ".join(f"{n} {role}" for role, n in truncated.items())
        notes.append(f"Training responses cut at data.max_tokens={config.data.max_tokens}: {listed}.")
    if data["excluded"]:
        listed = ", ".join(f"{n} {code}" for code, n in data["excluded"].items())
        notes.append(f"Rows left out as declared, alike for every method: {listed}.")
    return tuple(notes)


def _stopping(config: StudyConfig, names: list[str]) -> str:
    train = config.train
    end = "at the last step" if train.patience is None else f"{train.patience} evaluations after the best one"
    return (
        f"{', '.join(names)} keep the weights of the evaluation at which held-out chosen responses were likeliest "
        f"(validation, {train.monitor_points - 1} evaluations after the first step) and end {end}: they learn from "
        "fewer tokens than the other methods, mostly at learning rates that had not come down yet."
    )
