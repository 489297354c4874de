"""The section on learning from rewards."""

import dataclasses

import numpy as np
import pandas as pd
from tests.report.test_points import marks

from preflab.report.analysis import analyse
from preflab.report.rewards import judges_figure, overoptimisation_figure, reliability_table
from preflab.report.wording import MISSING, percent


def test_reliability_is_read_from_the_last_scores_of_each_reward_model(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("ppo", "rloo"), starts=("base",), seeds=2, prompts=5))
    cells = tables.cells[tables.cells["method"] != ""]
    # Log-odds 1.0986 say 75 %: three of four pairs are right with seed 0, and all are ties with seed 1.
    margins = {0: np.array([1, 1, 1, -1]) * np.log(3), 1: np.zeros(4)}
    verdicts = [
        pd.DataFrame({"cell": c.cell, "judge": f"judge {c.seed}", "chosen_score": margins[c.seed], "rejected_score": 0})
        for c in cells.itertuples()
    ]
    table = reliability_table(analyse(dataclasses.replace(tables, verdicts=pd.concat(verdicts, ignore_index=True))))
    assert table is not None
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[:4] == ["from base, seed 0", "4", "75.0\u00a0%", "0.0\u00a0%"]
    assert first[6:] == [MISSING, MISSING, "75\u00a0%", MISSING, MISSING]
    assert second[2:6] == ["50.0\u00a0%", "0.0\u00a0%", "0.000", "0.693"]
    assert table.head[8][0] == "Says 70\u00a0%–80\u00a0%" and table.rows[0][8].note == "of 4"


def test_a_study_without_reward_models_has_no_such_table(small):
    assert reliability_table(analyse(small)) is None


def test_marks_of_the_curves_of_rewards_say_run_part_of_training_and_numbers(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("ppo", "rloo"), starts=("base",), seeds=2, prompts=5))
    cells = tables.cells.loc[tables.cells["method"] != "", "cell"]
    rounds = np.repeat(np.arange(20), 3)
    noise = np.tile([-1.0, 0.0, 1.0], 20)  # of deviation 1 in every round
    answers = [pd.DataFrame({"cell": cell, "round": rounds, "reward": noise + rounds // 2, "gold": noise - rounds // 2,
                             "kl_k1": rounds // 2 * 1.5}) for cell in cells]  # fmt: skip
    study = analyse(dataclasses.replace(tables, answers=pd.concat(answers)))
    found, run = marks(overoptimisation_figure(study)), f"{study.title('ppo')} from base, seed 1"
    assert len(found) == 4 * 2 * 10
    last = [m.words for m in found if m.series == run][9]
    deviations = 9 / np.std(np.tile([-1, 0, 1], 2), ddof=1)
    assert last == [run, "Part 10 of 10 of its training",
                    f"Reward trained on: +{deviations:.2f} deviations", "KL 13.50 nats per answer"]  # fmt: skip


def test_marks_of_accuracies_say_the_mean_and_range_over_seeds(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo", "ppo"), starts=("base",), seeds=2, prompts=5))
    own = tables.cells[(tables.cells["method"] == "ppo") & tables.cells["selected"]]
    judges = pd.DataFrame(
        {"cell": own["cell"], "judge": ["a", "b"], "step": 4, "pairs_seen": 32, "accuracy": [0.6, 0.7]}
    )
    answers = pd.DataFrame({"cell": own["cell"], "round": 0, "reward": 0.0, "gold": 0.0, "kl_k1": 0.0})
    found = marks(judges_figure(analyse(dataclasses.replace(tables, judges=judges, answers=answers))))
    [judge] = [m.words for m in found if m.series == "reward model"]
    right = "65.0\u00a0% of the validation pairs in the right order"
    assert judge == ["reward model from base", "After 32 pairs", f"{right}; 60.0\u00a0% to 70.0\u00a0% over seeds"]
    dpo = tables.cells.loc[(tables.cells["method"] == "dpo") & tables.cells["selected"], "cell"]
    mine = tables.dynamics[tables.dynamics["cell"].isin(dpo) & (tables.dynamics["step"] > 0)]
    means = mine.groupby("pairs_seen")["accuracy"].mean()
    said = [m.words[2] for m in found if m.series == "DPO"]
    assert len(said) == len(means) > 1
    assert all(words.startswith(percent(mean, 1)) for words, mean in zip(said, means, strict=True))
