"""A paper's claims beside what a study measured, each judged by a rule that is written down here and not by eye."""

from preflab.report.claims import insights, starpo, threed
from preflab.report.claims.page import document, write_claims
from preflab.report.claims.rules import Claim, Finding, Verdict

__all__ = ["Claim", "Finding", "Verdict", "document", "insights", "starpo", "threed", "write_claims"]
