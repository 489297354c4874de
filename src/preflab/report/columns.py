"""The columns of a study's tables: what each holds, and the value that stands for "not measured"."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Column(NamedTuple):
    """What stands for "not measured", which also says the type, and what the column holds."""

    default: Any
    meaning: str


_TEXT, _NUMBER, _FLAG = "", float("nan"), False
_CELL = Column(_TEXT, "the cell the row belongs to")

TABLES: Mapping[str, Mapping[str, Column]] = {
    "cells": {
        "cell": Column(_TEXT, "id of the cell"),
        "start": Column(_TEXT, "start point"),
        "method": Column(_TEXT, "method; empty for a start point itself"),
        "setting": Column(_TEXT, "hyper-parameters as text"),
        "cause": Column(_TEXT, "why it diverged or failed"),
        "status": Column("done", "pending, done, diverged, failed, or stopped by successive halving"),
        "hyperparameters": Column(_TEXT, "hyper-parameters as a record"),
        "learning_rate": Column(_NUMBER, "learning rate"),
        "size": Column(0, "training pairs; 0 for a start point"),
        "seed": Column(0, "seed; -1 for a start point that all seeds share"),
        "step": Column(_NUMBER, "step at which it diverged or was stopped"),
        "train_s": Column(_NUMBER, "seconds of training"),
        "evaluate_s": Column(_NUMBER, "seconds of evaluation"),
        "judge": Column(_TEXT, "folder of the reward model it learned from"),
        "judge_s": Column(_NUMBER, "seconds of that model's training"),
        "tokens": Column(_NUMBER, "tokens trained on"),
        "sampled_tokens": Column(_NUMBER, "tokens of own answers it learned from"),
        "n_steps": Column(_NUMBER, "optimizer steps done"),
        "examples": Column(_NUMBER, "examples trained on, repeats counted"),
        "clamped": Column(_NUMBER, "examples whose value a clamp replaced"),
        "edge": Column(_FLAG, "whether the setting lies on the edge of its grid"),
        "validation": Column(_NUMBER, "score on the validation split, by which settings are chosen"),
        "needed": Column(_NUMBER, "validation score it would have needed to go on"),
        "kept_step": Column(_NUMBER, "step of the weights that a run that stops early kept"),
        "planned_steps": Column(_NUMBER, "optimizer steps planned"),
        "diagnose_s": Column(_NUMBER, "seconds of the diagnosis"),
        "gradients_s": Column(_NUMBER, "seconds of the gradients of the diagnosis"),
        "benchmarks_s": Column(_NUMBER, "seconds of the benchmarks"),
    },
    "pairs": {
        "cell": _CELL,
        "split": Column(_TEXT, "test or ood"),
        "row": Column(0, "row of the pair in its split"),
        "family": Column(_TEXT, "task family"),
        "chosen_total": Column(_NUMBER, "log-prob of the chosen response, nats"),
        "chosen_length": Column(_NUMBER, "its tokens"),
        "rejected_total": Column(_NUMBER, "log-prob of the rejected response, nats"),
        "rejected_length": Column(_NUMBER, "its tokens"),
        "reference_chosen_total": Column(_NUMBER, "log-prob of the chosen response at the start point, nats"),
        "reference_rejected_total": Column(_NUMBER, "log-prob of the rejected response at the start point, nats"),
    },
    "responses": {
        "cell": _CELL,
        "split": Column(_TEXT, "test or ood"),
        "row": Column(0, "row of the prompt in its split"),
        "family": Column(_TEXT, "task family"),
        "prompt": Column(_TEXT, "the prompt"),
        "chosen": Column(_TEXT, "the data's chosen response"),
        "rejected": Column(_TEXT, "the data's rejected response"),
        "response": Column(_TEXT, "what the model answered"),
        "n_tokens": Column(_NUMBER, "tokens of the answer"),
        "truncated": Column(_FLAG, "whether the token limit cut it"),
        "policy_total": Column(_NUMBER, "log-prob of the answer, nats"),
        "reference_total": Column(_NUMBER, "its log-prob at the start point, nats"),
        "kl_k3": Column(_NUMBER, "estimate of KL(model || start point) from this answer, nats"),
        "reward": Column(_NUMBER, "reward of the answer"),
        "chosen_reward": Column(_NUMBER, "reward of the data's chosen response"),
    },
    "snapshots": {
        "cell": _CELL,
        "split": Column(_TEXT, "test"),
        "row": Column(0, "row of the prompt in its split"),
        "step": Column(0, "optimizer steps done by then"),
        "response": Column(_TEXT, "what the model answered then"),
        "n_tokens": Column(_NUMBER, "tokens of the answer"),
        "truncated": Column(_FLAG, "whether the token limit cut it"),
        "reward": Column(_NUMBER, "reward of the answer"),
    },
    "dynamics": {
        "cell": _CELL,
        "step": Column(0, "optimizer step of the evaluation"),
        "pairs_seen": Column(_NUMBER, "training pairs seen by then"),
        "chosen_total": Column(_NUMBER, "mean log-prob of chosen validation responses, nats; `_se` its standard error"),
        "chosen_mean": Column(_NUMBER, "the same per token"),
        "rejected_total": Column(_NUMBER, "of rejected ones"),
        "rejected_mean": Column(_NUMBER, "the same per token"),
        "unseen_total": Column(_NUMBER, "of answers to other prompts"),
        "unseen_mean": Column(_NUMBER, "the same per token"),
        "margin": Column(_NUMBER, "change of chosen minus change of rejected since step 0, nats"),
        "accuracy": Column(_NUMBER, "share of pairs whose margin is above 0, ties half"),
        "n": Column(0, "validation pairs behind the means"),
        "kept": Column(True, "whether the weights that were kept come from this step or a later one"),
        "peak_step": Column(_NUMBER, "step so far at which chosen responses were likeliest"),
        "chosen_fall": Column(_NUMBER, "how far they have fallen since, nats per response"),
        "chosen_fall_se": Column(_NUMBER, "its standard error"),
    },
    "answers": {
        "cell": _CELL,
        "round": Column(0, "round of sampling"),
        "row": Column(0, "row of the prompt"),
        "sample": Column(0, "number of the answer to it"),
        "reward": Column(_NUMBER, "reward that was trained on"),
        "gold": Column(_NUMBER, "gold reward, where a program knows it"),
        "n_tokens": Column(_NUMBER, "tokens of the answer"),
        "kl_k1": Column(_NUMBER, "log-ratio to the start point, nats"),
    },
    "judges": {
        "cell": _CELL,
        "judge": Column(_TEXT, "folder of the reward model"),
        "step": Column(0, "optimizer step of its training"),
        "pairs_seen": Column(_NUMBER, "pairs seen by then"),
        "accuracy": Column(_NUMBER, "share of validation pairs in the right order, ties half"),
    },
    "verdicts": {
        "cell": _CELL,
        "judge": Column(_TEXT, "folder of the reward model"),
        "chosen_score": Column(_NUMBER, "score of the chosen response of a validation pair"),
        "rejected_score": Column(_NUMBER, "score of the rejected one"),
    },
    "log": {
        "cell": _CELL,
        "step": Column(0, "optimizer step"),
        "loss": Column(_NUMBER, "mean loss of the step"),
        "grad_norm": Column(_NUMBER, "norm of the gradient before clipping"),
        "learning_rate": Column(_NUMBER, "learning rate of the step"),
        "n_rows": Column(_NUMBER, "rows of the step"),
        "n_tokens": Column(_NUMBER, "tokens of the step"),
    },
    "probes": {
        "cell": _CELL,
        "row": Column(0, "test row"),
        "role": Column(_TEXT, "kind of response whose log-prob was taken"),
        "length": Column(_NUMBER, "its tokens"),
        "total": Column(_NUMBER, "its log-prob, nats"),
        "start_total": Column(_NUMBER, "its log-prob at the start point, nats"),
        "first_change": Column(_NUMBER, "change of its first token's log-prob, nats"),
        "tail_change": Column(_NUMBER, "change of the others', nats"),
    },
    "samples": {
        "cell": _CELL,
        "row": Column(0, "test row"),
        "kind": Column(_TEXT, "greedy or sampled"),
        "text": Column(_TEXT, "the answer"),
        "n_tokens": Column(_NUMBER, "its tokens"),
        "truncated": Column(_FLAG, "whether the token limit cut it"),
        "distinct": Column(_NUMBER, "share of its token pairs that are different"),
        "entropy": Column(_NUMBER, "mean entropy of the next token, nats"),
        "kl_exact": Column(_NUMBER, "KL(model || start point) summed over its positions, nats"),
    },
    "gradients": {
        "cell": _CELL,
        "row": Column(0, "test row"),
        "grad_chosen": Column(_NUMBER, "norm of the gradient of the chosen response's log-prob"),
        "grad_rejected": Column(_NUMBER, "of the rejected one's"),
        "cosine": Column(_NUMBER, "cosine of the two"),
    },
    "benchmarks": {
        "cell": _CELL,
        "benchmark": Column(_TEXT, "name of the benchmark"),
        "item": Column(_TEXT, "id of the item"),
        "cluster": Column(_TEXT, "what items share, so that they are not independent"),
        "value": Column(_NUMBER, "its main metric"),
    },
    "alike": {
        "cell": _CELL,
        "row": Column(0, "row of the pair"),
        "ches": Column(_NUMBER, "centred hidden embedding similarity of its responses to the start point"),
        "ches_mean": Column(_NUMBER, "the same per token"),
    },
}

COLUMNS: Mapping[str, Mapping[str, Any]] = {
    name: {column: of.default for column, of in columns.items()} for name, columns in TABLES.items()
}
"""Columns every table has when it is completed, with the value that stands for "not measured"."""
