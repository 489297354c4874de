"""What a study declares: the sections of a study file, their keys, defaults and conditions."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

Start = Literal["base", "sft", "instruct"]
Size = int | Literal["all"]


def _listed(value: Any) -> Any:
    """Let one value stand for a list of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _seeds(value: Any) -> Any:
    """Let a count n stand for the seeds 0 to n - 1."""
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


class Section(BaseModel):
    """A mapping of the study file: unknown keys are errors, values are taken as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ModelsConfig(Section):
    """Weights that cells start from."""

    base: str = Field(description="Hub id, folder, or pocket:base")
    instruct: str | None = Field(None, description="instruction-tuned weights with the same vocabulary")
    tokenizer: str | None = Field(
        None, description="default: base's, or instruct's where only that has a chat template"
    )
    revision: str | None = Field(None, description="Hub revision of base")
    dtype: Literal["float32", "float64", "bfloat16"] = Field("float32", description="dtype of weights and activations")
    allow_remote_code: list[str] = Field(
        default_factory=list,
        description="names of models (as written above) whose own Python code may run; think twice",
    )


class SourceConfig(Section):
    """Where rows come from; the path alone stands for a source whose other keys keep their defaults."""

    path: str = Field(description="file, folder, Hub id, or pocket:<name>")
    subset: str | None = Field(None, description="configuration of a Hub data set, or a folder inside it")
    split: str = Field("train", description="split of a Hub data set or of a folder with files named after splits")
    revision: str | None = Field(None, description="revision of a Hub data set")


def _source(value: Any) -> Any:
    """Let a path stand for a source."""
    if not isinstance(value, str | Mapping | SourceConfig):
        raise ValueError("must be a path, a Hub id, or a mapping with a path")
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[SourceConfig, BeforeValidator(_source, json_schema_input_type=str | SourceConfig)]
HeldOut = Annotated[
    Annotated[int, Field(ge=2), Tag("count")] | Annotated[Source, Tag("source")],
    Discriminator(lambda value: "count" if isinstance(value, int | float) else "source"),
]


class DataConfig(Section):
    """Preference data and its splits."""

    train: Source = Field(description="a source")
    validation: HeldOut = Field(64, description="a source, or how many prompts of train to hold out")
    test: HeldOut = Field(128, description="a source, or how many prompts of train to hold out")
    ood: Source | None = Field(None, description="a source with prompts of another distribution")
    kind: Literal["paired", "unpaired", "sft"] | None = Field(
        None, description="declare the format instead of detecting"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our column name: your column name")
    exclude: list[str] = Field(default_factory=list, description="row problems to leave out, for every method alike")
    template: Literal["auto", "chat", "plain", "none"] = Field("auto", description="how prompts become text")
    max_tokens: int = Field(512, ge=2, description="prompt and response together; responses are cut, and counted")
    max_prompt_tokens: int | None = Field(
        None, ge=1, description="longer prompts are a row problem, never cut; default: three quarters of max_tokens"
    )
    seed: int = Field(0, description="held-out prompts and the order that nested sizes are prefixes of")

    @property
    def prompt_limit(self) -> int:
        """Longest prompt in tokens."""
        return self.max_prompt_tokens or max(1, 3 * self.max_tokens // 4)


class LoraConfig(Section):
    """Low-rank adapters; `lora: null` trains all weights."""

    r: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    target_modules: str | list[str] = "all-linear"


_DECAY_FRAC = 0.2
"""Haegele et al. (NeurIPS 2024) find 10 to 20 % of the steps enough for the decay of a warm-up-stable-decay run."""


class OptimizerConfig(Section):
    """How weights move; shared by every method except the learning rate."""

    epochs: int = Field(1, ge=1)
    batch_size: int = Field(32, ge=1, description="rows (pairs) per optimizer step")
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="after warm-up: to zero, constant, or constant with a decay at the end, which lets nested sizes "
        "share steps (wsd)",
    )
    warmup_frac: float = Field(0.1, ge=0, lt=1, description="share of the steps; with wsd of the smallest size's")
    decay_frac: float | None = Field(None, gt=0, lt=1, description="share of the steps, for wsd only; default: 0.2")
    weight_decay: float = Field(0.0, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, ge=0, description="0 is off")
    token_budget: int | None = Field(None, ge=16, description="flat tokens per forward and backward; default by model")

    @model_validator(mode="before")
    @classmethod
    def _default_decay(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("schedule") == "wsd":
            return {"decay_frac": _DECAY_FRAC, **values}
        return values

    @model_validator(mode="after")
    def _decay(self) -> "OptimizerConfig":
        if (self.decay_frac is None) != (self.schedule != "wsd"):
            raise ValueError(f"decay_frac belongs to the schedule wsd; got {self.decay_frac} with {self.schedule}")
        if self.decay_frac is not None and self.warmup_frac + self.decay_frac > 1:
            raise ValueError(
                f"warmup_frac and decay_frac are shares of the same steps; got {self.warmup_frac} and {self.decay_frac}"
            )
        return self


class TrainConfig(OptimizerConfig):
    """Training of the cells."""

    learning_rate: float | None = Field(None, gt=0, description="for methods that name none; say it per method instead")
    lora: LoraConfig | None = None
    monitor_points: int = Field(5, ge=2, description="evaluations of validation log-probs during training")
    monitor_rows: int = Field(64, ge=1, description="validation rows followed during training")
    monitor_prompts: int = Field(
        0,
        ge=0,
        description="test prompts that cells of the lowest seed also answer at every evaluation on the way, for the "
        "report to show how answers change; they take no part in the training",
    )
    patience: int | None = Field(
        2,
        ge=1,
        description="where methods.NAME.stop says chosen: evaluations without a new best after which training ends; "
        "null goes on to the last step",
    )


class SftConfig(OptimizerConfig):
    """Supervised fine-tuning that makes the `sft` start point."""

    data: Source | None = Field(None, description="a source; default: the chosen responses of data.train")
    learning_rate: float = Field(2e-5, gt=0)
    seeds: Literal[1, "per_seed"] = Field(1, description="one SFT per study, or one per seed")


class BenchmarksConfig(Section):
    """Benchmarks of every start point and every final cell; the name of a profile stands for all of its defaults."""

    names: Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])] = Field(
        default=["thirteen"], min_length=1, description="as `preflab data benchmarks` lists them; thirteen, all"
    )
    profile: Literal["quick", "standard", "paper"] = Field(
        "quick", description="100 items and no worked examples, 500 with them, or all items"
    )
    data_dir: str | None = Field(None, description="folder of the files; default: $PREFLAB_BENCHMARKS or the cache")
    template: Literal["auto", "none"] = Field("auto", description="instructions through the chat template, or nothing")
    batch_size: int = Field(16, ge=1, description="prompts decoded together")


def _benchmarks(value: Any) -> Any:
    """Let the name of a profile stand for the section."""
    return {"profile": value} if isinstance(value, str) else value


class EvaluateConfig(Section):
    """Evaluation of every final cell and of the start points."""

    reward: str | None = Field(
        None,
        description="pocket, constraints, math, last-number, sentiment, path/to/file.py:NAME, or a reward model: "
        "folder or Hub id",
    )
    n_pairs: int | None = Field(None, ge=2, description="rows of each held-out split that are scored; default: all")
    n_prompts: int = Field(128, ge=2, description="prompts of each held-out split that get a response")
    max_new_tokens: int = Field(64, ge=1)
    batch_size: int = Field(64, ge=1, description="prompts decoded together")
    select_by: Literal["auto", "reward", "accuracy"] = Field(
        "auto", description="validation metric that picks settings"
    )
    settings: Literal["selected", "all"] = Field(
        "selected",
        description="which settings of a grid are evaluated: those that validation selects, or all, so that the report "
        "can say how much a method depends on its settings; the ranking stays with the selected ones",
    )
    benchmarks: (
        Annotated[BenchmarksConfig, BeforeValidator(_benchmarks, json_schema_input_type=str | BenchmarksConfig)] | None
    ) = Field(None, description="benchmarks of every start point and final cell; a profile's name stands for it")


class OnlineConfig(Section):
    """Answers and rewards of methods that learn from their own answers, such as ppo, rloo, grpo and online_dpo."""

    reward: str | None = Field(
        None,
        description="what rewards an answer: model, a reward model trained on data.train, or a name as in "
        "evaluate.reward; default: evaluate.reward, or model where that is absent",
    )
    samples: int = Field(4, ge=2, le=64, description="answers to each prompt")
    round: int | None = Field(
        None, ge=1, description="prompts that are answered before training on the answers; default: train.batch_size"
    )


class RewardModelConfig(OptimizerConfig):
    """Training of the reward model, from each start point on the rows that its cells learn from."""

    objective: Literal["bradley_terry", "eurus"] = Field(
        "bradley_terry", description="eurus also wants chosen responses above zero and rejected ones below"
    )
    learning_rate: float | None = Field(None, gt=0, description="default: 9e-6, ten times that with LoRA")


class DiagnoseConfig(Section):
    """What training did to every final cell, on pairs of the test split; `diagnose: null` leaves it out."""

    rows: int = Field(32, ge=2, description="test rows that are scored with their probes, by one forward")
    prompts: int = Field(32, ge=1, description="of the evaluation's answers to test prompts, those looked into")
    gradients: int = Field(0, ge=0, description="pairs whose gradients are taken, by two backward passes each")


class TuneConfig(Section):
    """Successive halving: settings that are behind on validation stop early; without it every setting goes to its end.

    Jamieson and Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization, AISTATS 2016.
    """

    factor: int = Field(3, ge=2, description="one in so many of a method's settings goes on from each rung")
    rungs: int = Field(2, ge=1, description="rungs before the end; the first after 1/factor^rungs of the steps")


class RunConfig(Section):
    """Where and how the study runs; nothing here changes a result beyond rounding."""

    workers: int | None = Field(None, ge=1, description="default: one per core or GPU, as memory allows")
    fuse: int | None = Field(
        None, ge=1, description="most LoRA cells that train in one forward; default: as the token budget holds"
    )
    checkpoint_every_s: float = Field(60.0, ge=0)


class NumericConfig(Section):
    """What changes the last digits, and therefore belongs to the identity of every artefact."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1, description="threads per worker")


Numbers = Annotated[list[float | int], BeforeValidator(_listed, json_schema_input_type=float | list[float])]
Seeds = Annotated[list[int], BeforeValidator(_seeds, json_schema_input_type=int | list[int])]
MethodSpec = dict[str, Numbers]
Stop = Literal["never", "chosen"]
Stops = Annotated[list[Stop], BeforeValidator(_listed, json_schema_input_type=Stop | list[Stop])]


class MethodConfig(Section):
    """A method: `stop`, and its grid, which is hyper-parameters and `learning_rate` by name, each one or more numbers.

    Every value of `stop` is an arm of its own in all tables, with its own selection among the settings.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Numbers]

    stop: Stops = Field(
        default=["never"],
        min_length=1,
        description="chosen keeps the weights with the highest likelihood of held-out chosen responses; "
        "[never, chosen] trains both",
    )

    @property
    def grid(self) -> MethodSpec:
        """Hyper-parameter, or `learning_rate`, to the values to try."""
        return dict(self.__pydantic_extra__ or {})


class StudyConfig(Section):
    """A study: start points x methods x settings x sizes x seeds on one data path, one engine, one evaluation."""

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name; also the folder under runs/")
    models: ModelsConfig
    starts: list[Start] = Field(default=["base"], min_length=1)
    methods: dict[str, MethodConfig | None] = Field(min_length=1)
    sizes: Annotated[list[Size], BeforeValidator(_listed, json_schema_input_type=Size | list[Size])] = Field(
        default=["all"], min_length=1
    )
    seeds: Seeds = Field(default_factory=lambda: [0], min_length=1)
    data: DataConfig
    sft: SftConfig = Field(default_factory=SftConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    online: OnlineConfig = Field(default_factory=OnlineConfig)
    reward_model: RewardModelConfig = Field(default_factory=RewardModelConfig)
    diagnose: DiagnoseConfig | None = Field(default_factory=DiagnoseConfig)
    tune: TuneConfig | None = Field(None, description="stop settings early by successive halving; absent: none stops")
    numeric: NumericConfig = Field(default_factory=NumericConfig)
    run: RunConfig = Field(default_factory=RunConfig)
    _places: dict[str, str] = PrivateAttr(default_factory=dict)

    def place(self, method: str) -> str:
        """Return where a method stands in the study file, `study.yaml:7 ` with a space behind, or nothing."""
        return self._places.get(method, "")

    @property
    def online_reward(self) -> str:
        """What rewards own answers: `model`, or the name of a reward."""
        return self.online.reward or self.evaluate.reward or "model"

    @property
    def online_round(self) -> int:
        """Prompts that are answered before training on the answers."""
        return self.online.round or self.train.batch_size

    @model_validator(mode="after")
    def _consistent(self) -> "StudyConfig":
        if "instruct" in self.starts and self.models.instruct is None:
            raise ValueError("starts names 'instruct', but models.instruct is missing; add it or drop the start point")
        for name in ("starts", "seeds", "sizes"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name}: {values} repeats a value; name each once")
        for name in self.models.allow_remote_code:
            rewards = (self.evaluate.reward, self.online.reward)
            if name not in (self.models.base, self.models.instruct, self.models.tokenizer, *rewards):
                raise ValueError(f"models.allow_remote_code: {name!r} is none of the models of this study")
        if self.evaluate.select_by == "reward" and self.evaluate.reward is None:
            raise ValueError("evaluate.select_by is 'reward', but evaluate.reward names none")
        if self.train.schedule == "wsd" and len(self.sizes) > 1:
            if self.train.epochs > 1:
                raise ValueError(
                    f"train.epochs: {self.train.epochs} passes cannot share the steps of smaller sizes; use 1 epoch, "
                    "one size, or another train.schedule than wsd"
                )
            if self.tune is not None:
                raise ValueError("tune: with the schedule wsd, name one size; its rungs and shared steps would cross")
        if self.online_round % self.train.batch_size:
            raise ValueError(
                f"online.round: must be a multiple of train.batch_size ({self.train.batch_size}); got "
                f"{self.online_round}"
            )
        if self.train.schedule == "wsd" and len(self.sizes) > 1 and self.online_round > self.train.batch_size:
            raise ValueError(
                "online.round: with the schedule wsd, a smaller size would end inside a round that a larger one goes "
                "on with; leave it out, name one size, or use another schedule"
            )
        if any(isinstance(size, int) and size < 1 for size in self.sizes):
            raise ValueError(f"sizes: must be at least 1; got {self.sizes}")
        if self.data.prompt_limit >= self.data.max_tokens:
            raise ValueError(
                f"data.max_prompt_tokens ({self.data.prompt_limit}) must be below data.max_tokens "
                f"({self.data.max_tokens}), so that a response always has room"
            )
        return self
