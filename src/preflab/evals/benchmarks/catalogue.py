"""The benchmarks: what each measures, where its items are, and how the literature runs it."""

from dataclasses import dataclass
from typing import Any, Literal

from preflab.core.errors import ConfigError, nearest

Kind = Literal["choice", "written", "judged"]
"""`choice` compares log-probs of given answers, `written` checks what the model writes, `judged` asks another model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark.

    Args:
        name: what commands call it.
        title: what tables call it.
        family: group of the literature's tables.
        kind: how it is scored.
        file: its items, a file of the data folder.
        shots_file: where worked examples come from; empty where the benchmark has none, or its own.
        shots: worked examples in the paper's setting.
        metrics: what is measured of every item, each from 0 to 1.
        metric: the one that tables show.
        cluster: field that items share which are not independent.
        higher_is_better: whether a high value is what one wants.
        chat: whether prompts go through the model's chat template, as instructions to an assistant.
        longest: tokens of a written answer at most.
        stops: texts that end a written answer where no chat template does.
        thirteen: whether it is one of the thirteen of "Insights into Alignment".
        lm_eval: the task of lm-eval 0.4.13 with the same items and metric; empty where it has none.
        hub: Hub data set, subset and split of the items.
        licence: of the items.
        source: paper that introduced it.
    """

    name: str
    title: str
    family: str
    kind: Kind
    file: str
    metrics: tuple[str, ...]
    metric: str
    source: str
    licence: str
    shots_file: str = ""
    shots: int = 0
    cluster: str = ""
    higher_is_better: bool = True
    chat: bool = False
    longest: int = 256
    stops: tuple[str, ...] = ()
    thirteen: bool = False
    lm_eval: str = ""
    hub: tuple[str, str, str] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Files that it needs."""
        return (self.file, self.shots_file) if self.shots_file else (self.file,)


_CHOICE = ("acc", "acc_norm")
_BBH_SOURCE = "Suzgun et al. 2022, arXiv:2210.09261"


def _bbh(name: str, title: str) -> tuple[Benchmark, Benchmark]:
    """Return a BIG-Bench Hard task with its answers to choose, and with a written chain of thought."""
    file = f"bbh_{name}.jsonl"
    choice = Benchmark(
        name=f"{name}_mc", title=f"{title}, choice", family="reasoning", kind="choice", file=file, metrics=("acc",),
        metric="acc", source=_BBH_SOURCE, licence="MIT", hub=("SaylorTwift/bbh", name, "test"),
    )  # fmt: skip
    written = Benchmark(
        name=name, title=title, family="reasoning", kind="written", file=file, shots=3, metrics=("exact_match",),
        metric="exact_match", source=_BBH_SOURCE, licence="MIT", longest=512, stops=("Q:", "\n\n"), thirteen=True,
        hub=("SaylorTwift/bbh", name, "test"),
    )  # fmt: skip
    return written, choice


_XSTEST: dict[str, Any] = {
    "family": "safety", "kind": "written", "file": "xstest_prompts.csv", "metrics": ("refused",), "metric": "refused",
    "chat": True, "licence": "CC-BY-4.0", "source": "Röttger et al. 2023, arXiv:2308.01263",
}  # fmt: skip
"""A model that never refuses is best on one half of XSTest and worst on the other: read both."""


ALL = (
    Benchmark(
        name="arc_challenge", title="ARC-Challenge", family="reasoning", kind="choice",
        file="arc_challenge_validation.jsonl", shots_file="arc_challenge_train.jsonl", shots=25, metrics=_CHOICE,
        metric="acc_norm", thirteen=True, lm_eval="arc_challenge",
        hub=("allenai/ai2_arc", "ARC-Challenge", "validation"),
        licence="CC-BY-SA-4.0", source="Clark et al. 2018, arXiv:1803.05457",
    ),
    Benchmark(
        name="hellaswag", title="HellaSwag", family="reasoning", kind="choice", file="hellaswag_validation.jsonl",
        shots_file="hellaswag_train.jsonl", shots=10, metrics=_CHOICE, metric="acc_norm", thirteen=True,
        lm_eval="hellaswag", hub=("Rowan/hellaswag", "", "validation"), licence="MIT",
        source="Zellers et al. 2019, arXiv:1905.07830",
    ),
    Benchmark(
        name="winogrande", title="WinoGrande", family="reasoning", kind="choice", file="winogrande_validation.jsonl",
        shots_file="winogrande_train.jsonl", shots=5, metrics=("acc",), metric="acc", thirteen=True,
        lm_eval="winogrande", hub=("allenai/winogrande", "winogrande_xl", "validation"), licence="CC-BY",
        source="Sakaguchi et al. 2019, arXiv:1907.10641",
    ),
    Benchmark(
        name="piqa", title="PIQA", family="reasoning", kind="choice", file="piqa_validation.jsonl", metrics=_CHOICE,
        metric="acc_norm", thirteen=True, lm_eval="piqa", hub=("baber/piqa", "", "validation"), licence="AFL-3.0",
        source="Bisk et al. 2019, arXiv:1911.11641",
    ),
    *_bbh("causal_judgement", "BB causal judgement"),
    *_bbh("sports_understanding", "BB sports understanding"),
    *_bbh("formal_fallacies", "BB formal fallacies"),
    Benchmark(
        name="gsm8k", title="GSM8K", family="mathematics", kind="written", file="gsm8k_test.jsonl",
        shots_file="gsm8k_train.jsonl", shots=5, metrics=("strict", "flexible"), metric="strict", stops=("Question:",),
        thirteen=True, lm_eval="gsm8k", hub=("openai/gsm8k", "main", "test"), licence="MIT",
        source="Cobbe et al. 2021, arXiv:2110.14168",
    ),
    Benchmark(
        name="openbookqa", title="OpenBookQA", family="question answering", kind="choice",
        file="openbookqa_validation.jsonl", shots_file="openbookqa_train.jsonl", shots=1, metrics=_CHOICE,
        metric="acc_norm", thirteen=True, lm_eval="openbookqa", hub=("allenai/openbookqa", "main", "validation"),
        licence="Apache-2.0", source="Mihaylov et al. 2018, arXiv:1809.02789",
    ),
    Benchmark(
        name="boolq", title="BoolQ", family="question answering", kind="choice", file="boolq_validation.jsonl",
        metrics=("acc",), metric="acc", cluster="passage", thirteen=True, lm_eval="boolq",
        hub=("google/boolq", "", "validation"), licence="CC-BY-SA-3.0", source="Clark et al. 2019, arXiv:1905.10044",
    ),
    Benchmark(
        name="truthfulqa", title="TruthfulQA", family="truthfulness", kind="choice", file="truthfulqa_mc.jsonl",
        metrics=("mc1", "mc2"), metric="mc2", thirteen=True, lm_eval="truthfulqa_mc2",
        hub=("truthfulqa/truthful_qa", "multiple_choice", "validation"), licence="Apache-2.0",
        source="Lin et al. 2021, arXiv:2109.07958",
    ),
    Benchmark(
        name="mmlu", title="MMLU", family="multi-task understanding", kind="choice", file="mmlu_test.jsonl",
        shots_file="mmlu_dev.jsonl", shots=5, metrics=("acc",), metric="acc", cluster="subject", thirteen=True,
        lm_eval="mmlu", hub=("cais/mmlu", "all", "test"), licence="MIT",
        source="Hendrycks et al. 2020, arXiv:2009.03300",
    ),
    Benchmark(
        name="mt_bench", title="MT-Bench", family="dialogue", kind="judged", file="mt_bench_questions.jsonl",
        metrics=("score",), metric="score", thirteen=True, licence="Apache-2.0",
        source="Zheng et al. 2023, arXiv:2306.05685",
    ),
    Benchmark(
        name="math500", title="MATH-500", family="mathematics", kind="written", file="math500.jsonl",
        metrics=("correct",), metric="correct", cluster="", chat=True, longest=1024,
        hub=("HuggingFaceH4/MATH-500", "", "test"), licence="MIT",
        source="Hendrycks et al. 2021, arXiv:2103.03874; subset of Lightman et al. 2023, arXiv:2305.20050",
    ),
    Benchmark(
        name="ifeval", title="IFEval", family="instruction following", kind="written", file="ifeval.jsonl",
        metrics=("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose"), metric="prompt_strict",
        chat=True, longest=1280, lm_eval="ifeval", hub=("google/IFEval", "", "train"), licence="Apache-2.0",
        source="Zhou et al. 2023, arXiv:2311.07911",
    ),
    Benchmark(
        name="hhh", title="HHH alignment", family="safety", kind="choice", file="hhh_alignment.jsonl",
        metrics=_CHOICE, metric="acc_norm", cluster="prompt", hub=None, licence="Apache-2.0",
        source="Askell et al. 2021, arXiv:2112.00861",
    ),
    Benchmark(
        name="xstest", title="XSTest, safe prompts refused", higher_is_better=False, **_XSTEST,
    ),
    Benchmark(name="xstest_unsafe", title="XSTest, unsafe prompts refused", **_XSTEST),
)  # fmt: skip
"""Every benchmark, those of "Insights into Alignment" first, in the order of its families."""

SCORED = tuple(benchmark for benchmark in ALL if benchmark.kind != "judged")
"""Those that need no judge."""

TWELVE = tuple(benchmark.name for benchmark in SCORED if benchmark.thirteen)
"""The scored ones among the thirteen of "Insights into Alignment"; the thirteenth is MT-Bench."""


def benchmark(name: str) -> Benchmark:
    """Return a scored benchmark by name.

    Raises:
        ConfigError: there is none of that name, or it needs a judge.
    """
    for each in ALL:
        if each.name == name:
            if each.kind == "judged":
                raise ConfigError(f"{name}: needs a judge; `preflab judge` runs it.")
            return each
    raise ConfigError(f"{name}: no such benchmark. {nearest(name, [each.name for each in SCORED])}")


def named(names: list[str] | tuple[str, ...]) -> tuple[Benchmark, ...]:
    """Return benchmarks by name, each once; `thirteen` stands for the scored ones of the thirteen, `all` for all.

    Raises:
        ConfigError: there is none of that name, or it needs a judge.
    """
    found: dict[str, Benchmark] = {}
    for name in names:
        several = {"thirteen": TWELVE, "all": tuple(each.name for each in SCORED)}.get(name, (name,))
        found |= {each: benchmark(each) for each in several}
    return tuple(found.values())
