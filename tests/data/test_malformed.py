"""Malformed files: every mistake with its place, all of them together, and no traceback."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preflab.core.errors import DataError
from preflab.data.read import read, scan

GOOD = {"prompt": "Q", "chosen": "A", "rejected": "B"}
LINE = json.dumps(GOOD) + "\n"

CORPUS = {
    "empty": ("x.jsonl", b"", [(0, "empty_file")]),
    "white space only": ("x.jsonl", b" \n \n", [(0, "empty_file")]),
    "byte-order mark only": ("x.jsonl", b"\xef\xbb\xbf", [(0, "empty_file")]),
    "empty array": ("x.json", b"[]", [(0, "empty_file")]),
    "header only": ("x.csv", b"prompt,chosen,rejected\n", [(0, "empty_file")]),
    "empty parquet": ("x.parquet", b"", [(0, "empty_file")]),
    "utf-16": ("x.jsonl", LINE.encode("utf-16"), [(0, "invalid_utf8")]),
    "invalid utf-8": (
        "x.jsonl",
        (LINE * 2).encode() + b'{"prompt": "\xff"}\n' + LINE.encode() + b"\xc3\n",
        [(3, "invalid_utf8"), (5, "invalid_utf8")],
    ),
    "invalid utf-8 in csv": ("x.csv", b"prompt,chosen,rejected\nQ,\xe9,B\n", [(2, "invalid_utf8")]),
    "raw nul": ("x.jsonl", LINE.encode() + b'{"prompt": "\x00", "chosen": "A", "rejected": "B"}\n', [(2, "not_json")]),
    "half a surrogate pair": (
        "x.jsonl",
        LINE.encode() + b'{"prompt": "\\ud83d", "chosen": "A", "rejected": "B"}\n',
        [(2, "invalid_utf8")],
    ),
    "truncated last line": ("x.jsonl", (LINE + LINE[:20]).encode(), [(2, "truncated")]),
    "broken line in the middle": ("x.jsonl", (LINE + LINE[:20] + "\n" + LINE).encode(), [(2, "not_json")]),
    "truncated array": ("x.json", json.dumps([GOOD, GOOD]).encode()[:-20], [(0, "truncated")]),
    "not an array": ("x.json", b'"text"', [(0, "wrong_type")]),
    "one object over many lines": ("x.json", json.dumps({"data": [GOOD]}, indent=1).encode(), [(0, "not_json")]),
    "rows that are no objects": ("x.jsonl", LINE.encode() + b"[1, 2]\n3\n", [(2, "wrong_type"), (3, "wrong_type")]),
    "duplicate key": (
        "x.jsonl",
        LINE.encode() + b'{"prompt": "Q", "prompt": "R", "chosen": "A", "rejected": "B"}\n',
        [(2, "duplicate_key")],
    ),
    "nan": (
        "x.jsonl",
        LINE.encode() + b'{"prompt": "Q", "chosen": "A", "rejected": "B", "s": NaN}\n',
        [(2, "not_json")],
    ),
    "nested too deep": ("x.jsonl", LINE.encode() + b"[" * 100_000 + b"\n", [(2, "not_json")]),
    "too many cells": ("x.csv", b"prompt,chosen,rejected\nQ,A,B\nQ,A,B,C\nQ,A\n", [(2, "not_csv"), (3, "not_csv")]),
    "open quote": ("x.csv", b'prompt,chosen,rejected\nQ,A,B\nQ,"A,B\n', [(2, "truncated")]),
    "column twice": ("x.csv", b"prompt,chosen,rejected,chosen\nQ,A,B,C\n", [(0, "duplicate_key")]),
    "not parquet": ("x.parquet", b"PAR1 nonsense", [(0, "not_parquet")]),
    "gzip without its name": ("x.jsonl", gzip.compress(LINE.encode()), [(0, "invalid_utf8")]),
    "broken gzip": ("x.jsonl.gz", gzip.compress((LINE * 99).encode())[:-20], [(0, "truncated")]),
    "unknown suffix": ("x.xlsx", b"PK\x03\x04", [(0, "unknown_format")]),
    "null label": (
        "x.jsonl",
        b"".join(b'{"prompt": "Q", "completion": "A", "label": %s}\n' % label for label in (b"null", b'"yes"', b"2")),
        [(1, "wrong_type"), (2, "wrong_type"), (3, "wrong_type")],
    ),
    "missing in one row": (
        "x.jsonl",
        (LINE * 2 + '{"prompt": "Q", "chosen": "A"}\n').encode(),
        [(3, "missing_column")],
    ),
    "number for text": (
        "x.jsonl",
        (LINE * 2 + '{"prompt": 1, "chosen": ["A"], "rejected": {"a": 1}}\n').encode(),
        [(3, "wrong_type")] * 3,
    ),
    "messages among texts": (
        "x.jsonl",
        (LINE * 2 + '{"prompt": "Q", "chosen": [{"role": "assistant", "content": "A"}], "rejected": "B"}\n').encode(),
        [(3, "wrong_type")],
    ),
    "numbers everywhere": ("x.jsonl", b'{"prompt": 1, "chosen": 2, "rejected": 3}\n', [(1, "wrong_type")] * 3),
    "meta that is no object": ("x.jsonl", json.dumps({**GOOD, "meta": [1]}).encode() + b"\n", [(1, "wrong_type")]),
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_malformed_file_is_reported_at_its_rows(write, name):
    file, content, expected = CORPUS[name]
    path = write(content, file)
    found = scan(path).problems
    assert [(p.row, p.code) for p in found] == expected
    assert all(p.structural and p.file == str(path) for p in found)
    with pytest.raises(DataError) as caught:
        read(path)
    assert caught.value.exit_code == 3
    for row, code in expected:
        assert f"{path}:{row}: {code}: " in str(caught.value) or f"{path}: {code}: " in str(caught.value)


def test_structural_problems_are_reported_all_together(write):
    rows = [GOOD, {"prompt": "Q", "chosen": "A"}, {**GOOD, "chosen": 3}]
    path = write("".join(json.dumps(row) + "\n" for row in rows) + "nonsense\n" + LINE[:9])
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: cannot be read, 4 problem(s) to mend in the data first:\n"
        f"  {path}:2: missing_column: the column 'rejected' is missing in this row\n"
        f"  {path}:3: wrong_type: chosen: must be text like most rows; got a number (3)\n"
        f"  {path}:4: not_json: not JSON: Expecting value at column 1\n"
        f"  {path}:5: truncated: the last line is cut off (not JSON: Expecting ':' delimiter at column 10)"
    )


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            ("prompt", "chosen", "rejcted"),
            "nearest format: prompt, chosen and rejected; the column 'rejected' is missing (did you mean 'rejcted'?)",
        ),
        (
            ("prompt", "Chosen", "Rejected"),
            "(did you mean 'Chosen'?); the column 'rejected' is missing (did you mean 'Rejected'?)",
        ),
        (("promt", "chosen", "rejected"), "the column 'promt' looks like a misspelt 'prompt'"),
        (("prompts", "chosen", "rejected"), "the column 'prompts' looks like a misspelt 'prompt'"),
        (("prompt", "completion", "labels"), "the column 'labels' looks like a misspelt 'label'"),
        (("prompt", "completion", "lable"), "the column 'lable' looks like a misspelt 'label'"),
        (("mesages",), "the column 'messages' is missing (did you mean 'mesages'?)"),
        (("prompt", "chosen"), "the column 'rejected' is missing. Columns here: 'prompt', 'chosen'."),
        (("prompt", "completions", "label"), "the column 'completion' is missing (did you mean 'completions'?)"),
    ],
)
def test_a_missing_or_misspelt_column_names_the_nearest(write, columns, text):
    found = scan(write([dict.fromkeys(columns, "x")])).problems
    assert [(p.row, p.code) for p in found] == [(0, "missing_column")]
    assert text in found[0].text


def test_another_separator_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("prompt;chosen;rejected\na;b;c\n")
    (found,) = scan(path).problems
    assert "seems to be separated by ';'" in found.text


def test_columns_of_no_format_are_listed_with_the_way_out(write):
    found = scan(write([{"question": "Q", "answers": []}])).problems
    assert [p.code for p in found] == ["unknown_format"]
    assert "no format has these columns: 'question', 'answers'" in found[0].text
    assert "data: {columns: {prompt: question, chosen: good, rejected: bad}}" in found[0].text


def test_an_id_of_a_prompt_is_not_a_misspelt_prompt(write):
    row = {"prompt_id": "1", "chosen": "The sky is blue.", "rejected": "The sky is red."}
    assert read(write([row])).format == "implicit_pairs"


def test_a_missing_file_names_its_neighbour(write, tmp_path):
    write([GOOD], "pairs.jsonl")
    with pytest.raises(DataError, match=r"no such file or folder. Did you mean 'pairs.jsonl'"):
        read(tmp_path / "pears.jsonl")


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(DataError, match="no data file in this folder"):
        read(tmp_path)


def test_parquet_text_that_is_not_utf8_is_named_by_row(tmp_path):
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"A\xff")]
    )
    table = pa.table({"prompt": ["Q", "Q"], "chosen": bad, "rejected": ["B", "B"]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert [(p.row, p.code) for p in scan(tmp_path / "x.parquet").problems] == [(2, "invalid_utf8")]


def test_large_cells_are_read(write):
    text = "word " * 60_000
    path = write(f'prompt,chosen,rejected\nQ,"{text}",B\n', "x.csv")
    assert read(path).examples[0].chosen == text
