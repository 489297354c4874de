"""The page of claims, and the same as JSON and Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preflab.report.cells import Cell, Table
from preflab.report.claims.rules import Finding
from preflab.report.page import template, write_page
from preflab.report.typeset import as_markdown
from preflab.store.artefacts import write_json

_CHIPS = {"reproduced": "settled", "different": "open", "not told": "single", "not testable": "nothing"}
_VERDICTS = {
    "reproduced": "reproduced", "different": "different here", "not told": "not told at this size",
    "not testable": "not testable at this size",
}  # fmt: skip


def document(title: str, source: str, findings: Sequence[Finding], facts: Sequence[str]) -> dict[str, Any]:
    """Return the findings as JSON-like data.

    Keys: schema_version, title, source, facts, claims (name, claim, source, rule, verdict, evidence).
    """
    return {
        "schema_version": 1,
        "title": title,
        "source": source,
        "facts": list(facts),
        "claims": [
            {"name": f.claim.name, "claim": f.claim.text, "source": f.claim.source, "rule": f.claim.rule,
             "verdict": f.verdict, "evidence": list(f.evidence)}
            for f in findings
        ],
    }  # fmt: skip


def write_claims(
    folder: Path, title: str, source: str, findings: Sequence[Finding], *, facts: Sequence[str] = (), report: str = ""
) -> Path:
    """Write `claims.html`, `claims.json` and `claims.md` into a folder and return the page.

    Args:
        folder: gets the files.
        title: of the paper.
        source: how it is cited.
        findings: one per claim.
        facts: what a reader should know of the study, one sentence each.
        report: link to the study's report, relative to the folder.
    """
    write_json(folder / "claims.json", document(title, source, findings, facts))
    table = Table(
        f"{title}: the paper’s claims and what came out here.",
        [("Claim", ""), ("Verdict", ""), ("Our numbers", "95 % intervals")],
        [[Cell(f.claim.text, f.claim.source, "text"), Cell(_VERDICTS[f.verdict], kind="text"),
          Cell(" ".join(f.evidence), kind="text")] for f in findings],
        "claims",
    )  # fmt: skip
    rules = "".join(f"- {f.claim.text} {f.claim.rule}\n" for f in findings)
    (folder / "claims.md").write_text(f"{as_markdown('claims', table)}\nRules:\n\n{rules}", encoding="utf-8")
    counts = [(name, sum(f.verdict == key for f in findings)) for key, name in _VERDICTS.items()]
    page = template("claims.html.j2").render(
        title=title,
        source=source,
        findings=findings,
        chips=_CHIPS,
        verdicts=_VERDICTS,
        counts=[(name, n) for name, n in counts if n],
        facts=facts,
        report=report,
        groups=[("Claims", [("claims", "Claims")]), ("Rules", [("rules", "Rules")])],
    )
    return write_page(page, folder / "claims.html")
