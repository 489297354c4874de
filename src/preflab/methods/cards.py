"""Cards: a method described as data, as text and as a citation, all read from its declaration."""

import dataclasses
import inspect
import re
from collections.abc import Iterable
from typing import Any, Final

from preflab.core.domains import specs
from preflab.methods._leaves import compares_pairs, leaves, n_states
from preflab.methods._types import Logps, Method, RankedLogps, RankedValues, TokenLogps, Values
from preflab.methods.peers import spellings_of, table

_PER: Final = {
    Logps: "response",
    TokenLogps: "token",
    Values: "response",
    RankedLogps: "response",
    RankedValues: "response",
}
_OF: Final = {"response": "", "token": " token by token"}
_OF_REFERENCE: Final = ("reference", "moving_reference", "divergence")
_NEEDS: Final = {
    "policy": "the policy's log-probs of",
    "reference": "the reference's log-probs of",
    "moving_reference": "the moving reference's log-probs of",
    "divergence": "KL(reference || policy) over the vocabulary along",
    "collision": "the sum of the policy's squared probabilities along",
    "noise": "random numbers for",
    "score": "the data's scores of",
    "value": "a value head's values of",
    "behaviour": "the log-probs under the policy that sampled of",
    "advantage": "the advantages of",
    "returns": "the returns of",
    "old_value": "the values when they were sampled of",
}


def card(method: Method) -> dict[str, Any]:
    """Return a method as JSON-like data; a run stores a copy, so that old reports need no code.

    Keys: `name`, `title`, `summary`, `formula` (text), `inputs` (list of quantity, role and what it is given per),
    `needs_reference`, `compares_pairs`, `couples_batch`, `keeps_state`, `moves_reference`, `own_answers`,
    `hyperparameters` (name to default, domain, grid, unit, doc, log_scale), `loss_at_reference` (formula or None),
    `invariances`, `learning_rates`, `source`.
    """
    found = leaves(method.inputs)
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "formula": _formula(method),
        "inputs": [{"quantity": leaf.quantity, "role": leaf.role, "per": _PER[leaf.kind]} for leaf in found],
        "needs_reference": method.is_online or any(leaf.quantity in _OF_REFERENCE for leaf in found),
        "compares_pairs": compares_pairs(method.inputs),
        "couples_batch": method.couples_batch,
        "keeps_state": n_states(method.inputs) > 0,
        "moves_reference": method.reference_update is not None,
        "own_answers": method.is_online,
        "hyperparameters": _hyperparameters(method),
        "loss_at_reference": _loss_at_reference(method),
        "invariances": dataclasses.asdict(method.invariances),
        "learning_rates": list(method.learning_rates),
        "source": dataclasses.asdict(method.source),
    }


def card_text(method: Method, *, heading: str = "##") -> str:
    """Return a method's card as Markdown, for `methods show` and the generated documentation page."""
    data = card(method)
    parts = [f"{heading} {data['title']} (`{data['name']}`)", data["summary"]]
    if data["formula"]:
        parts.append("\n".join(["```text", data["formula"], "```"]))
    if data["hyperparameters"]:
        parts.append(_table(data["hyperparameters"]))
    parts.append("\n".join(f"- {label}: {text}" for label, text in _facts(data).items()))
    if found := tuple(spellings_of(method)):
        parts.append(f"Elsewhere:\n\n{table(found)}")
    return "\n\n".join(parts) + "\n"


def bibtex(methods: Iterable[Method]) -> str:
    """Return the BibTeX entries of the papers behind some methods, each once, in order of first use."""
    entries = dict.fromkeys(method.source.bibtex.strip() for method in methods if method.source.bibtex)
    return "\n\n".join(entries) + "\n" if entries else ""


def _hyperparameters(method: Method) -> dict[str, dict[str, Any]]:
    defaults = {field.name: field.default for field in dataclasses.fields(method.hyperparameters)}
    return {
        name: {
            "default": defaults[name],
            "domain": str(spec.domain),
            "grid": list(spec.grid),
            "unit": spec.unit,
            "doc": spec.doc,
            "log_scale": spec.log_scale,
        }
        for name, spec in specs(method.hyperparameters).items()
    }


def _formula(method: Method) -> str:
    """Return the paragraph of the loss's docstring that holds its formula, by the order style asks of docstrings."""
    paragraphs = (inspect.getdoc(method.loss) or "").split("\n\n")
    return next((text for text in paragraphs if re.match(r"loss[^\n]* = ", text)), "")


def _loss_at_reference(method: Method) -> str | None:
    if method.loss_at_reference is None:
        return None
    first_line = (inspect.getdoc(method.loss_at_reference) or "a number that depends on the batch").splitlines()[0]
    return first_line.rstrip(".")


def _table(hyperparameters: dict[str, dict[str, Any]]) -> str:
    rows = [
        "| hyper-parameter | default | domain | published | unit | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, spec in hyperparameters.items():
        grid = ", ".join(f"{value:g}" for value in spec["grid"])
        meaning = spec["doc"].replace("|", "\\|")
        rows.append(
            f"| `{name}` | {spec['default']:g} | {spec['domain']} | {grid} | {spec['unit'] or '-'} | {meaning} |"
        )
    return "\n".join(rows)


def _facts(data: dict[str, Any]) -> dict[str, str]:
    """Return the lines below the table, label to text, in order."""
    asked: dict[tuple[str, str], list[str]] = {}
    for leaf in data["inputs"]:
        roles = asked.setdefault((leaf["quantity"], leaf["per"]), [])
        roles.extend([leaf["role"]] if leaf["role"] not in roles else [])
    needs = "; ".join(f"{_NEEDS[quantity]} {_roles(r)}{_OF[per]}" for (quantity, per), r in asked.items())
    holding = [name.replace("_", " ") for name, holds in data["invariances"].items() if holds]
    source = data["source"]
    facts = {
        "Needs": needs,
        "Loss where policy and reference agree": data["loss_at_reference"]
        or ("not declared" if data["needs_reference"] else "not defined: no reference model"),
        "Unchanged under": ", ".join(holding) or "nothing declared",
        "Batch": "an example's loss depends on the rest of the batch"
        if data["couples_batch"]
        else "examples are independent",
        "Answers": "the policy's own, sampled during training" if data["own_answers"] else "",
        "State": "it remembers running moments from step to step" if data["keeps_state"] else "",
        "Reference": "it follows the policy during training" if data["moves_reference"] else "",
        "Learning rates to start from (7B class; see source and notes)": ", ".join(
            f"{rate:g}" for rate in data["learning_rates"]
        ),
        "Source": _source(source),
        "Its authors claim": source["claim"],
        "How it differs elsewhere": source["note"],
    }
    return {label: text for label, text in facts.items() if text}


def _source(source: dict[str, str]) -> str:
    title = f"*{_escaped(source['title'])}*" if source["title"] else ""
    return ", ".join(part for part in (source["paper"], title, _link(source), _equation(source["equation"])) if part)


def _roles(roles: list[str]) -> str:
    lists = {"ranked": "all responses to a prompt, best first", "sampled": "the policy's own answers"}
    return ", ".join(lists.get(role, role) for role in roles)


def _escaped(text: str) -> str:
    return text.replace("*", "\\*")


def _link(source: dict[str, str]) -> str:
    if source["arxiv"]:
        return f"[arXiv:{source['arxiv']}](https://arxiv.org/abs/{source['arxiv']})"
    return f"<{source['url']}>" if source["url"] else ""


def _equation(text: str) -> str:
    return f"equation {text}" if text[:1].isdigit() else text
