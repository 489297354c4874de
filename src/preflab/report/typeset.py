"""Tables as text: CSV with the numbers, LaTeX and Markdown with the words of the page. Any text may stand in a cell."""

import re

from preflab.report.cells import Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "`": r"\textasciigrave{}", "−": "$-$", "±": r"$\pm$", "–": "--",
    "×": r"$\times$", "→": r"$\to$", "≤": r"$\leq$", "≥": r"$\geq$", "\u00a0": "~", "π": r"$\pi$", "β": r"$\beta$",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&#$])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_FORMULA = re.compile(r"(?![+-]?[\d.,]+$)[=+\-@\t\r]")


def as_csv(name: str, table: Table) -> str:
    """Return `Table.frame` as CSV; empty where nothing was measured.

    A text that a spreadsheet would take for a formula gets an apostrophe in front, as OWASP recommends.
    """
    frame = table.frame()
    for title in frame.select_dtypes(exclude="number").columns:
        frame[title] = [f"'{text}" if _FORMULA.match(text) else text for text in frame[title]]
    return str(frame.to_csv(index=False, lineterminator="\n"))


def as_latex(name: str, table: Table) -> str:
    """Return a `table` environment for the package booktabs, its label `tab:NAME`, what columns mean below it."""
    kinds = "".join("l" if kind == "text" else "r" for _, _, kind in table.columns) or "l" * len(table.head)
    head = " & ".join(latex(title) for title, _ in table.head)
    # A row that begins with a bracket would be read as an argument of the line break before it.
    rows = [" & ".join(f"{{}}{_latex_cell(cell)}" if not k else _latex_cell(cell) for k, cell in enumerate(row))
            for row in table.rows]  # fmt: skip
    about = "; ".join(rf"\emph{{{latex(title)}}}: {latex(note)}" for title, note in table.head if note and title)
    lines = [
        r"% needs \usepackage{booktabs} and, with pdfLaTeX, \usepackage[T1]{fontenc}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(table.caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *([rf"\par\smallskip\footnotesize {about}."] if about else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def as_markdown(name: str, table: Table) -> str:
    """Return the caption and a table as GitHub and most others read it."""
    head = [markdown(f"{title} ({note})" if note else title) for title, note in table.head]
    kinds = [kind for _, _, kind in table.columns] or ["text"] * len(head)
    rows = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    lines = [head, ["---" if kind == "text" else "--:" for kind in kinds], *rows]
    return f"{markdown(table.caption)}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(text: str) -> str:
    """Return a text in which nothing is a command of LaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in _line(text))


def markdown(text: str) -> str:
    """Return a text in which nothing is Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", _line(text))


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{latex(cell.text)}}}" if cell.kind == "best" else latex(cell.text)
    return rf"{text} {{\footnotesize ({latex(cell.note)})}}" if cell.note else text


def _markdown_cell(cell: Cell) -> str:
    text = f"**{markdown(cell.text)}**" if cell.kind == "best" else markdown(cell.text)
    return f"{text} ({markdown(cell.note)})" if cell.note else text


def _line(text: str) -> str:
    """Return a text as one line that can be written as UTF-8."""
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()
