"""What TRL configurations become; the values behind are computed with TRL itself by `make parity`."""

import ast
from pathlib import Path

import pytest

from preflab.core.errors import ConfigError
from preflab.methods import find
from preflab.methods.peers import SPELLINGS, spellings_of, table
from preflab.methods.trl import translate

OLD = (0, 24, 0)


def peer_setting(method):
    """The hyper-parameters at which the method's test holds a value of TRL."""
    tree = ast.parse((Path(__file__).parent / f"test_{method}.py").read_text())
    peer = next(n.value for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") == "PEER")
    return ast.literal_eval(peer.elts[1])


# Configurations at which parity/trl_1_16.py runs the trainers.
RUN = [
    ("dpo", {}, "dpo"),
    ("dpo", {"loss_type": "ipo"}, "ipo_mean"),
    ("dpo", {"loss_type": ["sigmoid_norm"], "beta": 5.0}, "ln_dpo"),
    ("dpo", {"loss_type": "robust", "label_smoothing": 0.1}, "robust_dpo"),
    ("dpo", {"loss_type": "hinge"}, "rso_hinge"),
    ("dpo", {"loss_type": "exo_pair", "label_smoothing": 0.001}, "exo"),
    ("dpo", {"loss_type": "sppo_hard", "beta": 0.001}, "sppo_hard"),
    ("dpo", {"loss_type": "discopop", "beta": 0.05}, "discopop"),
    ("dpo", {"loss_type": "apo_zero"}, "apo_zero"),
    ("dpo", {"loss_type": "apo_down"}, "apo_down"),
    ("dpo", {"loss_type": "aot"}, "aot"),
    ("dpo", {"loss_type": "aot_unpaired"}, "aot_unpaired"),
    ("dpo", {"f_divergence_type": "js_divergence"}, "fdpo_js"),
    ("dpo", {"f_divergence_type": "forward_kl"}, "fdpo_forward_kl"),
    ("dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.5}, "fdpo_alpha"),
    ("dpo", {"ld_alpha": 0.5}, "ld_dpo"),
    ("dpo", {"use_weighting": True, "beta": 0.01}, "wpo"),
    ("dpo", {"sync_ref_model": True, "beta": 0.05}, "tr_dpo"),
    ("kto", {"undesirable_weight": 1.33}, "kto"),
    ("cpo", {}, "cpo"),
    ("cpo", {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}, "simpo"),
    ("tpo", {}, "tpo"),
]


@pytest.mark.parametrize(("trainer", "config", "method"), RUN, ids=[row[2] for row in RUN])
def test_translations_are_those_whose_values_agree(trainer, config, method):
    found = translate(trainer, config)
    assert found.method == method
    held = {key: value for key, value in peer_setting(method).items() if key != "clamp"}
    assert found.hyperparameters == pytest.approx(held)


TOLD = [
    ("dpo", {"label_smoothing": 0.1}, None, "dpo", {"beta": 0.1}, "ignores label_smoothing"),
    ("dpo", {"label_smoothing": 0.1}, OLD, "cdpo", {"beta": 0.1, "label_noise": 0.1}, ""),
    ("dpo", {"reference_free": True}, OLD, "cpo", {"beta": 0.1, "alpha": 0.0}, ""),
    ("dpo", {"loss_type": "bco_pair"}, OLD, "bco", {"beta": 0.1}, ""),
    ("dpo", {"loss_type": "aot_pair"}, OLD, "aot_unpaired", {"beta": 0.1}, ""),
    ("dpo", {"loss_type": "exo_pair"}, OLD, "exo", {"beta": 0.1, "label_noise": 0.001}, ""),
    (
        "dpo",
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3},
        OLD,
        "fdpo_alpha",
        {"beta": 0.1, "alpha": 0.3},
        "",
    ),
    ("dpo", {"sync_ref_model": True}, OLD, "tr_dpo", {"beta": 0.1, "alpha": 0.9, "tau": 64}, ""),
    ("dpo", {"rpo_alpha": 0.5}, OLD, "dpo+sft", {"dpo_weight": 1, "dpo_beta": 0.1, "sft_weight": 0.5}, "neither rpo"),
    (
        "dpo",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
        None,
        "dpo+sft",
        {"dpo_weight": 1, "dpo_beta": 0.1, "sft_weight": 0.2},
        "micro-batch",
    ),
    (
        "dpo",
        {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0]},
        None,
        "dpo+eurus+sft",
        {"dpo_weight": 0.6, "dpo_beta": 0.1, "eurus_weight": 0.2, "eurus_beta": 0.1, "sft_weight": 1},
        "",
    ),
    ("dpo", {"loss_type": ["sigmoid", "bco_pair"]}, None, "eurus", {"beta": 0.1}, ""),
    (
        "cpo",
        {"loss_type": "simpo", "beta": 2.0},
        None,
        "cpo_simpo",
        {"beta": 2.0, "gamma_beta_ratio": 0.25, "alpha": 1},
        "Not SimPO",
    ),
    (
        "cpo",
        {"loss_type": "alphapo", "beta": 2.5, "alpha": 0.25},
        None,
        "alpha_po",
        {"beta": 2.5, "gamma_beta_ratio": 0.2, "alpha": 0.25},
        "",
    ),
    ("cpo", {"loss_type": "alphapo"}, None, "alpha_po", {"beta": 0.1, "gamma_beta_ratio": 5, "alpha": 0}, "SimPO"),
    ("cpo", {"loss_type": "hinge", "cpo_alpha": 0}, None, "slic_hf", {"delta": 10, "lambda_ref": 0}, "by 0.1"),
    ("orpo", {"beta": 0.2}, None, "orpo", {"lambda_or": 0.2}, "Not equal"),
    ("kto", {"loss_type": "apo_zero_unpaired"}, None, "apo_zero", {"beta": 0.1}, "by 0.5"),
    ("bco", {}, OLD, "bco_unpaired", {"beta": 0.1}, "pools"),
    ("sft", {}, None, "sft", {}, "completions"),
    ("dpo", {}, (0, 20, 0), "dpo", {"beta": 0.1}, "not against 0.20.0"),
    ("dpo", {"router_aux_loss_coef": 0.01}, None, "dpo", {"beta": 0.1}, "mixture-of-experts"),
]


@pytest.mark.parametrize(("trainer", "config", "version", "method", "values", "note"), TOLD)
def test_meanings_that_changed_and_traps_are_told(trainer, config, version, method, values, note):
    found = translate(trainer, config, **({"version": version} if version else {}))
    assert (found.method, found.hyperparameters) == (method, pytest.approx(values))
    assert note in " ".join(found.notes)
    assert bool(note) or not [n for n in found.notes if not n.startswith("Token means")]


@pytest.mark.parametrize(
    ("trainer", "config", "version", "message"),
    [
        ("ppo", {}, None, "trainer 'ppo': unknown"),
        ("dpo", {"loss_type": "sigmod"}, None, "Did you mean 'sigmoid'"),
        ("dpo", {"loss_type": "kto_pair"}, None, "loss_type: 'kto_pair' is unknown"),
        ("dpo", {"loss_type": "bco_pair"}, None, "Eurus minus DPO"),
        ("dpo", {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [1, 2]}, None, "at least its weight"),
        ("dpo", {"loss_type": ["sigmoid"], "loss_weights": [1, 2]}, None, "as many as loss_type, 1; got 2"),
        ("dpo", {"loss_type": ["ipo", "ipo"]}, None, "'ipo' twice"),
        ("dpo", {"loss_type": "aot", "label_smoothing": 0.1}, None, "aot with smoothing has no counterpart"),
        ("dpo", {"loss_type": "exo_pair"}, None, r"label_noise: must be in \(0, 0.5\); got 0.0"),
        ("dpo", {"loss_type": "robust", "label_smoothing": 0.7}, None, "label_noise: must be in"),
        ("dpo", {"loss_type": "ipo", "ld_alpha": 0.5}, None, "with another loss than sigmoid"),
        ("dpo", {"use_weighting": True, "sync_ref_model": True}, None, "sync_ref_model, use_weighting: together"),
        ("dpo", {"ld_alpha": 0.5}, OLD, "only the policy's tokens"),
        ("dpo", {"use_weighting": True, "rpo_alpha": 1.0}, OLD, "rpo_alpha: together with use_weighting there is no"),
        ("dpo", {"sync_ref_model": True, "label_smoothing": 0.1}, OLD, "label_smoothing: together with sync_ref_model"),
        ("dpo", {"ld_alpha": 0.5, "loss_weights": [2.0]}, None, "loss_weights: together with ld_alpha there is no"),
        ("dpo", {"bta": 0.1}, None, "'bta': no field of the objective. Did you mean 'beta'"),
        ("dpo", {"": 0.1}, None, "'': no field of the objective"),
        ("dpo", {"rpo_alpha": 1.0}, None, "rpo_alpha: gone since TRL 0.29"),
        ("dpo", {"loss_type": 3}, None, "loss_type: must be a name or a list of names; got 3"),
        ("dpo", {"loss_type": []}, None, "loss_type: must name at least one loss"),
        ("dpo", {"loss_type": ["sigmoid"], "loss_weights": ["a"]}, None, "loss_weights: must be numbers"),
        ("dpo", {"reference_free": True, "label_smoothing": 0.1}, OLD, "without a reference has no counterpart"),
        ("dpo", {"loss_type": "aot_unpaired", "label_smoothing": 0.1}, None, "aot_unpaired with smoothing has no"),
        ("sft", {"loss_type": "dft"}, None, "loss_type: 'dft' is unknown"),
        ("dpo", {"loss_type": "hinge", "f_divergence_type": "js_divergence"}, None, "^f_divergence_type: together or"),
        ("dpo", {"loss_type": "hinge", "ld_alpha": 0.5}, None, "^ld_alpha: together or with another loss"),
        ("dpo", {"beta": "a lot"}, None, "beta: must be a number; got 'a lot'"),
        ("dpo", {"f_divergence_type": "kl"}, None, "f_divergence_type: 'kl' is unknown"),
        ("cpo", {"loss_type": "ipo"}, None, "has no counterpart"),
        ("cpo", {"loss_type": "hinge"}, None, "hinge with cpo_alpha 1 has no counterpart"),
        ("cpo", {"alpha": 0.5}, None, "exponentiates sums"),
        ("cpo", {"label_smoothing": 0.1}, None, "with smoothing has no counterpart"),
        ("kto", {"loss_type": "apo_zero_unpaired", "desirable_weight": 2}, None, "with weights has no counterpart"),
        ("tpo", {"loss_type": "tpo-l"}, None, "loss_type: 'tpo-l' is unknown"),
    ],
)
def test_what_has_no_counterpart_is_refused(trainer, config, version, message):
    with pytest.raises(ConfigError, match=message):
        translate(trainer, config, **({"version": version} if version else {}))


def test_every_spelling_names_methods_that_are_here():
    for row in SPELLINGS:
        assert row.peer and row.version and row.asked
        if row.ours:
            assert row in tuple(spellings_of(find(row.ours.split("+")[0])))
            find(row.ours)
        else:
            assert row.note, "says why there is none"
        assert not row.note or row.note.endswith(".")
    assert len(set(SPELLINGS)) == len(SPELLINGS)


def test_the_table_has_a_row_for_each_spelling():
    assert table(SPELLINGS).count("\n") == len(SPELLINGS) + 1
    assert all(line.count("|") == 7 for line in table(SPELLINGS).splitlines())


MICRO = "Token means are over TRL's micro-batch, here over the optimizer batch."
EXACT = [
    ("kto", {"beta": 0.2}, "kto", ["The KL baseline is over TRL's micro-batch, here over the optimizer batch."]),
    (
        "kto",
        {"loss_type": "apo_zero_unpaired"},
        "apo_zero",
        [
            "The same on as many desirable as undesirable examples, here as pairs.",
            "TRL multiplies the loss by 0.5; AdamW hardly sees the difference.",
        ],
    ),
    ("cpo", {"loss_type": "alphapo"}, "alpha_po", ["alpha is 0 by default, which is SimPO."]),
    (
        "cpo",
        {"loss_type": "simpo"},
        "cpo_simpo",
        ["Not SimPO: cpo_alpha is 1.0 by default, a likelihood term. SimPO has cpo_alpha 0."],
    ),
    ("cpo", {"loss_type": "simpo", "cpo_alpha": 1.0}, "cpo_simpo", []),
    ("cpo", {"loss_type": "simpo", "cpo_alpha": 0.0}, "simpo", []),
    ("cpo", {}, "cpo", []),
    (
        "orpo",
        {},
        "orpo",
        ["Not equal: TRL's likelihood term runs over prompt and response, as the token mean of the micro-batch."],
    ),
    ("tpo", {"tpo_alpha": 0.5}, "tpo", []),
    ("bco", {}, "bco_unpaired", ["TRL pools both kinds of examples into one mean; here each kind has its own."]),
    ("sft", {}, "sft", ["The same where only completions are trained on."]),
    ("dpo", {"loss_type": "sft"}, "sft", [MICRO]),
    ("dpo", {"loss_type": ["sigmoid", "ipo"]}, "dpo+ipo_mean", [MICRO]),
    ("dpo", {"use_weighting": True}, "wpo", ["The weight is not bounded by 1 in TRL; it is here."]),
    (
        "dpo",
        {"label_smoothing": 0.1},
        "dpo",
        ["TRL ignores label_smoothing for this loss since 0.29: it is DPO, not cDPO."],
    ),
    (
        "dpo",
        {"router_aux_loss_coef": 0.1},
        "dpo",
        ["router_aux_loss_coef adds a loss on mixture-of-experts models, which are refused here."],
    ),
    ("dpo", {"router_aux_loss_coef": 0.0}, "dpo", []),
    (
        "dpo",
        {"ld_alpha": 0.5, "label_smoothing": 0.1, "loss_weights": [1]},
        "ld_dpo",
        ["TRL ignores label_smoothing for this loss since 0.29: it is DPO, not cDPO."],
    ),
    (
        "dpo",
        {"learning_rate": 5e-7, "max_length": 512, "reference_free": False},
        "dpo",
        ["Not part of the objective here: learning_rate, max_length."],
    ),
    ("dpo", {"loss_weights": [2.0]}, "dpo", ["TRL multiplies the loss by 2; AdamW hardly sees the difference."]),
]


@pytest.mark.parametrize(("trainer", "config", "method", "notes"), EXACT)
def test_notes_are_these_and_no_others(trainer, config, method, notes):
    found = translate(trainer, config)
    assert (found.method, list(found.notes)) == (method, notes)


@pytest.mark.parametrize(
    ("config", "version", "notes"),
    [
        (
            {"rpo_alpha": 0.5},
            OLD,
            ["rpo_alpha adds the token mean of the chosen likelihood: neither rpo nor dpo_nll."],
        ),
        ({"f_divergence_type": "alpha_divergence"}, OLD, []),
        ({"use_weighting": True}, OLD, ["The weight is bounded by 1 in TRL; it is here."]),
        ({}, (1, 16, 3), []),
        ({}, (0, 24), []),
        ({}, (1, 15, 0), ["Checked against TRL 1.16.0 and 0.24, not against 1.15.0."]),
        ({"label_smoothing": 0.1}, (0, 29), None),
    ],
)
def test_notes_on_versions(config, version, notes):
    found = translate("dpo", config, version=version)
    if notes is None:
        assert found.method == "dpo" and "ignores label_smoothing" in found.notes[1]
    else:
        assert list(found.notes) == notes


@pytest.mark.parametrize(
    ("trainer", "config", "values"),
    [
        ("kto", {"beta": 0.2, "desirable_weight": 2, "undesirable_weight": 3}, (0.2, 2, 3)),
        ("kto", {"loss_type": "apo_zero_unpaired", "beta": 0.2}, (0.2,)),
        ("tpo", {"beta": 0.3, "tpo_alpha": 0.7}, (0.3, 0.7)),
        ("orpo", {}, (0.1,)),
        ("bco", {"beta": 0.03}, (0.03,)),
        ("cpo", {"beta": 0.2, "cpo_alpha": 0.4}, (0.2, 0.4)),
        ("cpo", {"loss_type": "simpo", "alpha": 0.5, "beta": 2.0, "simpo_gamma": 1.0}, (2.0, 0.5, 0.5)),
        ("dpo", {"loss_type": "discopop", "discopop_tau": 0.2, "beta": 0.3}, (0.3, 0.2)),
        ("dpo", {"loss_type": "ipo", "beta": 0.3}, (0.3,)),
        ("dpo", {"loss_type": "exo_pair", "label_smoothing": 0.2, "beta": 0.3}, (0.3, 0.2)),
        ("dpo", {"ld_alpha": 0.25, "beta": 0.3}, (0.3, 0.25)),
        ("dpo", {"use_weighting": True, "beta": 0.3}, (0.3,)),
        (
            "dpo",
            {"sync_ref_model": True, "ref_model_mixup_alpha": 0.4, "ref_model_sync_steps": 9, "beta": 0.3},
            (0.3, 0.4, 9),
        ),
        ("dpo", {"f_divergence_type": "js_divergence", "beta": 0.3}, (0.3,)),
        ("dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.25, "beta": 0.3}, (0.3, 0.75)),
    ],
)
def test_values_come_from_their_own_keys(trainer, config, values):
    assert tuple(translate(trainer, config).hyperparameters.values()) == pytest.approx(values)


@pytest.mark.parametrize(
    ("trainer", "config", "message"),
    [
        (
            "dpo",
            {"loss_type": "bco_pair"},
            "loss_type: bco_pair has no reward shift since TRL 0.29: it is Eurus minus DPO, which has a counterpart "
            "only beside sigmoid with at least its weight. BCO itself is bco.",
        ),
        (
            "kto",
            {"loss_type": "apo_zero_unpaired", "undesirable_weight": 2},
            "loss_type: apo_zero_unpaired with weights has no counterpart.",
        ),
        (
            "cpo",
            {"loss_type": "simpo", "label_smoothing": 0.1},
            "label_smoothing: simpo with smoothing has no counterpart.",
        ),
        (
            "cpo",
            {"loss_type": "ipo", "alpha": 0.1},
            "alpha: ipo with it exponentiates sums of log-probs; there is no counterpart.",
        ),
        ("dpo", {"beta": True}, "beta: must be a number; got True."),
        (
            "dpo",
            {"loss_type": "sppo_hard", "use_weighting": True},
            "use_weighting: together or with another loss than sigmoid there is no counterpart.",
        ),
    ],
)
def test_refusals_say_it_in_one_sentence(trainer, config, message):
    with pytest.raises(ConfigError) as raised:
        translate(trainer, config)
    assert str(raised.value) == message


def test_the_default_divergence_changed_its_meaning():
    config = {"f_divergence_type": "alpha_divergence"}
    assert translate("dpo", config).hyperparameters["alpha"] == 0.5
    assert translate("dpo", config, version=OLD).hyperparameters["alpha"] == 1.0
