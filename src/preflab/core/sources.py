"""Where a formula, a default or a benchmark comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A citable origin.

    Args:
        paper: authors and year, for people.
        title: title of the paper.
        arxiv: arXiv id, which also keys the method, because names collide in the literature; empty without one.
        equation: the equation or section that the code follows.
        bibtex: entry for a bibliography.
        claim: what its authors say it does better, one sentence; theirs, not a finding of this project.
        url: where it is found when it has no arXiv id.
        note: where peers or the paper's own code differ from the equation.
    """

    paper: str
    title: str
    arxiv: str
    equation: str
    bibtex: str
    claim: str = ""
    url: str = ""
    note: str = ""
