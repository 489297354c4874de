"""Every format that people have becomes the same rows."""

import csv
import gzip
import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preflab.core.errors import ConfigError, DataError
from preflab.data.conversations import common_opening
from preflab.data.examples import Example, Message
from preflab.data.read import read, scan

USER = {"role": "user", "content": "Why is the sky blue?"}
GOOD = {"role": "assistant", "content": "Light scatters."}
BAD = {"role": "assistant", "content": "It is not."}
ASKED = (Message("user", USER["content"]),)
TALK = Example(1, ASKED, GOOD["content"], BAD["content"])
TEXT = Example(1, USER["content"], GOOD["content"], BAD["content"])

PAIRED = {
    "text": ({"prompt": USER["content"], "chosen": GOOD["content"], "rejected": BAD["content"]}, TEXT),
    "messages": ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, TALK),
    "implicit messages": ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, TALK),
    "UltraFeedback": (
        {
            "prompt": USER["content"],
            "prompt_id": "f0",
            "chosen": [USER, GOOD],
            "rejected": [USER, BAD],
            "messages": [USER, GOOD],
            "score_chosen": 8.0,
            "score_rejected": 3.5,
        },
        replace(TALK, scores={"chosen": 8.0, "rejected": 3.5}),
    ),
    "prompt messages repeated in the responses": (
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        TALK,
    ),
    "prompt text, response messages": ({"prompt": USER["content"], "chosen": [GOOD], "rejected": [BAD]}, TALK),
    "prompt messages, response text": (
        {"prompt": [USER], "chosen": GOOD["content"], "rejected": BAD["content"]},
        TALK,
    ),
    "conversations": (
        {
            "conversations": [{"from": "human", "value": USER["content"]}],
            "chosen": {"from": "gpt", "value": GOOD["content"]},
            "rejected": {"from": "gpt", "value": BAD["content"]},
        },
        TALK,
    ),
    "transcripts": (
        {
            "chosen": f"\n\nHuman: {USER['content']}\n\nAssistant: {GOOD['content']}",
            "rejected": f"\n\nHuman: {USER['content']}\n\nAssistant: {BAD['content']}",
        },
        TALK,
    ),
    "transcripts with a prompt column": (
        {
            "prompt": f"\n\nHuman: {USER['content']}\n\nAssistant:",
            "chosen": f" {GOOD['content']}",
            "rejected": f" {BAD['content']}",
        },
        TALK,
    ),
    "parts of text": (
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": USER["content"]}]}],
            "chosen": [GOOD],
            "rejected": [BAD],
        },
        TALK,
    ),
}


@pytest.mark.parametrize("name", PAIRED)
def test_a_paired_format_becomes_the_same_row(write, name):
    row, expected = PAIRED[name]
    dataset = read(write([row]))
    assert dataset.kind == "paired"
    assert dataset.examples == (expected,)
    assert dataset.problems == ()


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER["content"], "completion": GOOD["content"], "label": True},
        {"prompt": USER["content"], "completion": GOOD["content"], "label": 1},
        {"prompt": USER["content"], "completion": GOOD["content"], "label": "True"},
    ],
)
def test_a_desirable_row_has_a_chosen_response_only(write, row):
    dataset = read(write([row, {**row, "label": False}]))
    assert dataset.kind == "unpaired"
    assert dataset.examples[0] == Example(1, USER["content"], GOOD["content"], None)
    assert dataset.examples[1] == Example(2, USER["content"], None, GOOD["content"])


def test_messages_with_a_label_are_unpaired(write):
    dataset = read(write([{"messages": [USER, GOOD], "label": True}, {"messages": [USER, BAD], "label": False}]))
    assert dataset.examples == (Example(1, ASKED, GOOD["content"], None), Example(2, ASKED, None, BAD["content"]))


SFT = {
    "messages": ({"messages": [USER, GOOD]}, ASKED),
    "conversations": (
        {"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": GOOD["content"]}]},
        ASKED,
    ),
    "prompt and completion": ({"prompt": USER["content"], "completion": GOOD["content"]}, USER["content"]),
    "text": ({"text": GOOD["content"]}, ""),
}


@pytest.mark.parametrize("name", SFT)
def test_an_sft_format_becomes_a_demonstration(write, name):
    row, prompt = SFT[name]
    dataset = read(write([row]))
    assert dataset.kind == "sft"
    assert dataset.examples == (Example(1, prompt, GOOD["content"], None),)


def test_earlier_turns_of_a_conversation_are_its_prompt(write):
    system = {"role": "system", "content": "Be brief."}
    dataset = read(write([{"messages": [system, USER, BAD, USER, GOOD]}]))
    said = tuple(Message(m["role"], m["content"]) for m in (system, USER, BAD, USER))
    assert dataset.examples[0].prompt == said


def test_pairs_serve_as_demonstrations_when_asked(write):
    row, expected = PAIRED["transcripts"]
    dataset = read(write([row]), kind="sft")
    assert dataset.kind == "sft"
    assert dataset.examples == (Example(1, expected.prompt, expected.chosen, None),)


def test_messages_win_over_pairs_when_demonstrations_are_asked(write):
    row, _ = PAIRED["UltraFeedback"]
    assert read(write([row]), kind="sft").format == "messages"


def test_another_kind_than_asked_is_refused_with_both_names(write):
    path = write([PAIRED["text"][0]])
    with pytest.raises(DataError, match="unpaired data are needed here, but the columns are those of paired data"):
        read(path, kind="unpaired")


def test_a_ranked_list_is_sorted_by_score(write):
    """Best first; equal scores keep their order; the best is chosen and the worst rejected."""
    row = {"prompt": "Q", "responses": ["b", "a", "d", "c"], "scores": [2, 3, -1, 2]}
    dataset = read(write([row]))
    assert dataset.format == "ranked" and dataset.kind == "paired"
    assert dataset.examples == (
        Example(
            1,
            "Q",
            "a",
            "d",
            others={"rank_2": "b", "rank_3": "c"},
            scores={"chosen": 3.0, "rank_2": 2.0, "rank_3": 2.0, "rejected": -1.0},
        ),
    )


def test_ranked_responses_may_be_messages(write):
    row = {"prompt": [USER], "responses": [[BAD], [USER, GOOD]], "scores": [0, 1]}
    assert read(write([row])).examples == (replace(TALK, scores={"chosen": 1.0, "rejected": 0.0}),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [1, 2]}, "responses and scores must be as many, at least 2; got 3 and 2"),
        ({"responses": ["a"], "scores": [1]}, "at least 2; got 1 and 1"),
        ({"scores": [1, 2, "best"]}, "scores: must be a list of numbers"),
        ({"responses": "a b c"}, "responses: must be a list of responses"),
        ({"responses": [str(i) for i in range(33)], "scores": list(range(33))}, "at most 32 are read; got 33"),
    ],
)
def test_a_ranked_list_that_is_none_is_refused(write, changes, message):
    row = {"prompt": "Q", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}
    with pytest.raises(DataError, match=message):
        read(write([row, {**row, **changes}, row]))


def test_a_gold_response_and_scores_come_with_a_pair(write):
    row = {**PAIRED["text"][0], "gold": "The best.", "score_chosen": 2, "score_rejected": None}
    plain = PAIRED["text"][0]
    found = read(write([row, plain])).examples
    assert found[0].others == {"gold": "The best."} and found[0].scores == {"chosen": 2.0}
    assert found[1].others == {} and found[1].scores == {}
    assert found[0].responses == {"chosen": GOOD["content"], "rejected": BAD["content"], "gold": "The best."}


def test_a_score_that_is_no_number_is_refused(write):
    row = {**PAIRED["text"][0], "score_chosen": "high"}
    with pytest.raises(DataError, match="score_chosen: must be a number; got"):
        read(write([row]))


def test_scores_of_a_csv_are_numbers_too(write):
    row = {**PAIRED["text"][0], "score_chosen": "2.5", "score_rejected": "1"}
    assert read(write(_csv([row]), "x.csv")).examples[0].scores == {"chosen": 2.5, "rejected": 1.0}


def test_family_and_meta_are_kept_and_other_columns_are_named(write):
    row = {**PAIRED["text"][0], "family": "sums", "meta": {"answer": 4}, "score": 1.0, "id": "x"}
    dataset = read(write([row]))
    assert dataset.examples[0].family == "sums"
    assert dataset.examples[0].meta == {"answer": 4}
    assert dataset.detected == (
        "JSONL, 1 rows: preference pairs (prompt, chosen and rejected): prompt = text, chosen = text, rejected = text. "
        "Columns not read: score, id."
    )


def test_columns_can_be_mapped(write):
    row = {"question": "Q", "good": "A", "bad": "B", "prompt": "something else", "category": "c"}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "family": "category"}
    dataset = read(write([row]), columns=columns)
    assert dataset.examples == (Example(1, "Q", "A", "B", family="c"),)
    assert "Columns not read: prompt." in dataset.detected


def test_a_mapping_to_an_absent_column_names_the_nearest(write):
    with pytest.raises(DataError, match=r"prompt is mapped to 'questoin'. Did you mean 'question'"):
        read(write([{"question": "Q", "chosen": "A", "rejected": "B"}]), columns={"prompt": "questoin"})


def test_a_mapping_of_an_unknown_field_is_a_config_error(write):
    with pytest.raises(ConfigError, match=r"data.columns.chossen: no such field. Did you mean 'chosen'"):
        read(write([{"a": 1}]), columns={"chossen": "a"})


def test_white_space_is_content(write):
    row = {"prompt": "  Q \n", "chosen": " yes ", "rejected": "\tno"}
    assert read(write([row])).examples == (Example(1, "  Q \n", " yes ", "\tno"),)


def test_only_the_space_after_a_speaker_belongs_to_the_transcript(write):
    row = {
        "chosen": "\n\nHuman:  hm \n\nAssistant:\n\nAssistant:  yes \n",
        "rejected": "\n\nHuman:  hm \n\nAssistant:\n\nAssistant:no",
    }
    example = read(write([row])).examples[0]
    assert example.prompt == (Message("user", " hm "), Message("assistant", ""))
    assert (example.chosen, example.rejected) == (" yes \n", "no")


ROWS = [
    {"prompt": 'Q1, "quoted"\nline two', "chosen": "A\u2028B", "rejected": "é"},
    {"prompt": "Q2", "chosen": " a ", "rejected": "NA"},
]


def _csv(rows, delimiter=","):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _parquet(rows):
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


_JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
CONTAINERS = {
    "a.jsonl": _JSONL,
    "b.jsonl": b"\xef\xbb\xbf" + _JSONL.replace(b"\n", b"\r\n"),
    "c.jsonl": _JSONL.removesuffix(b"\n"),
    "d.json": json.dumps(ROWS, indent=2).encode(),
    "e.json": _JSONL,
    "f.csv": _csv(ROWS),
    "g.tsv": _csv(ROWS, "\t"),
    "h.parquet": _parquet(ROWS),
    "i.jsonl.gz": gzip.compress(_JSONL),
    "j.csv": b"\xef\xbb\xbf" + _csv(ROWS),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_rows(write, name):
    dataset = read(write(CONTAINERS[name], name))
    expected = tuple(Example(i, r["prompt"], r["chosen"], r["rejected"]) for i, r in enumerate(ROWS, 1))
    assert dataset.examples == expected


def test_messages_survive_parquet(write):
    row, expected = PAIRED["UltraFeedback"]
    assert read(write(_parquet([row]), "x.parquet")).examples == (expected,)


def test_meta_of_a_csv_is_json_text(write):
    row = {**PAIRED["text"][0], "meta": '{"answer": 4}'}
    assert read(write(_csv([row]), "x.csv")).examples[0].meta == {"answer": 4}


def test_blank_lines_keep_the_line_numbers_of_jsonl(write):
    text = json.dumps(ROWS[0]) + "\n\n" + json.dumps(ROWS[1]) + "\n\n"
    assert [example.row for example in read(write(text)).examples] == [1, 3]


def test_a_folder_counts_rows_through_and_names_the_file(write, tmp_path):
    write([ROWS[0], ROWS[1]], "many/a.jsonl")
    write([ROWS[0], {"prompt": "Q", "chosen": "", "rejected": 3}], "many/b.jsonl")
    write("not data", "many/README.md")
    dataset = scan(tmp_path / "many")
    assert [example.row for example in dataset.examples] == [1, 2, 3]
    assert dataset.where(3) == (str(tmp_path / "many/b.jsonl"), 1)
    assert [(p.file, p.row, p.code) for p in dataset.problems] == [(str(tmp_path / "many/b.jsonl"), 2, "wrong_type")]


def test_a_folder_with_named_splits_gives_the_one_asked_for(write, tmp_path):
    write([ROWS[0]], "hub/data/train-00000-of-00002.jsonl")
    write([ROWS[1]], "hub/data/train-00001-of-00002.jsonl")
    write([ROWS[1]], "hub/data/test-00000-of-00001.jsonl")
    assert len(read(tmp_path / "hub").examples) == 2
    assert len(read(tmp_path / "hub", split="test").examples) == 1
    with pytest.raises(DataError, match=r"no file of split 'validation' in this folder. Known: test, train"):
        read(tmp_path / "hub", split="validation")


def test_an_ambiguous_split_of_a_folder_is_refused(write, tmp_path):
    write([ROWS[0]], "hub/train_prefs-0.jsonl")
    write([ROWS[0]], "hub/train_sft-0.jsonl")
    with pytest.raises(DataError, match="'train' could be any of train_prefs, train_sft"):
        read(tmp_path / "hub")
    assert len(read(tmp_path / "hub", split="train_sft").examples) == 1


def test_a_hub_id_goes_through_datasets(monkeypatch):
    import datasets

    asked = {}

    def load_dataset(name, **arguments):
        asked.update(name=name, **arguments)
        return datasets.Dataset.from_list([PAIRED["UltraFeedback"][0]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    dataset = read("owner/pairs", split="train_prefs", revision="abc")
    assert asked == {"name": "owner/pairs", "split": "train_prefs", "revision": "abc"}
    assert dataset.examples == (PAIRED["UltraFeedback"][1],)
    assert dataset.detected.startswith("Hub data set, split 'train_prefs', 1 rows: preference pairs")


@pytest.mark.parametrize(("subset", "asked_as"), [("cleaned", "name"), ("harmless-base", "data_dir")])
def test_a_subset_is_a_configuration_or_a_folder_of_the_hub_data_set(monkeypatch, subset, asked_as):
    import datasets

    asked = {}

    def load_dataset(path, **arguments):
        asked.update(arguments)
        return datasets.Dataset.from_list([PAIRED["UltraFeedback"][0]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda path, revision: ["default", "cleaned"])
    dataset = read("owner/pairs", subset=subset)
    assert asked == {asked_as: subset, "split": "train", "revision": None}
    assert dataset.detected.startswith(f"Hub data set, subset '{subset}', split 'train', 1 rows")


def test_a_hub_failure_is_a_data_error_with_the_reason(monkeypatch):
    import datasets

    def load_dataset(name, **arguments):
        raise ConnectionError("Couldn't reach 'owner/pairs' on the Hub\n(more)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="no such local file, and the Hub gave: Couldn't reach 'owner/pairs'"):
        read("owner/pairs")


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The sky is blue.", "The sky is green.", ("The sky is", " blue.", " green.")),
        ("Q: why?\nA: Sure, I can", "Q: why?\nA: Sure, I cannot", ("Q: why?\nA:", " Sure, I can", " Sure, I cannot")),
        ("Q\n### Response:\nSure, a", "Q\n### Response:\nSure, b", ("Q\n### Response:\n", "Sure, a", "Sure, b")),
        ("[INST] q [/INST] Yes a", "[INST] q [/INST] Yes b", ("[INST] q [/INST]", " Yes a", " Yes b")),
        (
            "Write a line.\nRoses are red",
            "Write a line.\nRoses are blue",
            ("Write a line.\n", "Roses are red", "Roses are blue"),
        ),
        ("the sky is", "the sky is blue", ("the sky", " is", " is blue")),
        ("same text", "same text", ("same", " text", " text")),
        ("Assistant:", "Assistant: no", ("Assistant:", "", " no")),
    ],
)
def test_an_implicit_text_prompt_ends_at_a_label_a_line_or_a_word(chosen, rejected, expected):
    assert common_opening(chosen, rejected) == expected
