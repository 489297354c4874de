"""TRL's arm: one job through DPOTrainer as it stands. Run by `benchmarks.jobs` with the interpreter that has TRL.

The trainer gets rows that are tokens already, in the order given, and a clock; nothing else of it is changed.
"""

import logging
import time
import warnings
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars, load_dataset
from peft import PeftConfig, load_peft_weights, set_peft_model_state_dict
from torch import Tensor
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging
from trl import DPOConfig, DPOTrainer  # type: ignore[import-not-found]

from benchmarks.jobs import Job, Result, serve
from benchmarks.measure import StepClock, peak_bytes, resident_bytes, seconds_since_start, synchronize, versions

IMPORT_S = seconds_since_start()
COLUMNS = {"prompt": "prompt_ids", "chosen": "chosen_ids", "rejected": "rejected_ids"}


class ClockCallback(TrainerCallback):
    """Reads the clock where training begins and after every optimizer step."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Begin the first step."""
        self._clock.mark()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """End a step."""
        self._clock.mark()


class TokenTrainer(DPOTrainer):  # type: ignore[misc]
    """DPOTrainer on token ids, which keeps its exact losses and counts what its collator gave."""

    def __init__(self, *args: Any, device: str, **kwargs: Any) -> None:
        self.reference_s = 0.0
        self.losses: list[Tensor] = []
        self._device_name = device
        self.data_collator: Any
        super().__init__(*args, **kwargs)
        self.scored_tokens = self.padded_tokens = 0
        self.data_collator = self._counting(self.data_collator)

    def _counting(self, collate: Any) -> Any:
        def counted(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
            batch: dict[str, Tensor] = collate(examples)
            self.scored_tokens += int(batch["completion_mask"].sum())
            self.padded_tokens += batch["input_ids"].numel()
            return batch

        return counted

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        """Leave the rows alone: they are tokens already, and TRL would ask for texts."""
        return dataset

    def _precompute_ref_logps(self, *args: Any) -> Any:
        synchronize(self._device_name)
        began = time.perf_counter()
        found = super()._precompute_ref_logps(*args)
        self.reference_s += time.perf_counter() - began
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keep the loss as it is; the trainer's own log rounds it."""
        loss: Tensor = super().training_step(*args, **kwargs)
        self.losses.append(loss)
        return loss


def run(job: Job) -> Result:
    """Build the trainer, train, and say how long each took."""
    torch.set_num_threads(job.threads)
    quiet()
    began = time.perf_counter()
    clock = StepClock(job.device)
    trainer = TokenTrainer(
        model=job.model,
        args=config(job),
        train_dataset=rows(job),
        peft_config=adapter_config(job),
        callbacks=[ClockCallback(clock)],
        device=job.device,
    )
    if job.adapter:
        # The adapter was drawn from another seed; without its B it is the start point, so the reference stands.
        set_peft_model_state_dict(trainer.model, load_peft_weights(job.adapter))
    load_s, idle = time.perf_counter() - began - trainer.reference_s, resident_bytes()
    trainer.train()
    if folder := job.options.get("save"):
        trainer.save_model(folder)
    micro = [float(loss) for loss in trainer.losses]
    n = job.batch_size // job.options["micro_batch"]
    return Result(
        losses=[sum(micro[i : i + n]) for i in range(0, len(micro), n)],
        step_s=clock.seconds(),
        import_s=IMPORT_S,
        load_s=load_s,
        reference_s=trainer.reference_s,
        scored_tokens=trainer.scored_tokens,
        computed_tokens=trainer.padded_tokens,
        peak_bytes=peak_bytes(job.device),
        idle_bytes=idle,
        versions=versions(),
    )


def adapter_config(job: Job) -> PeftConfig | None:
    """Return the adapter to train; PEFT saves every adapter's configuration as one for inference, which is frozen."""
    if not job.adapter:
        return None
    found = PeftConfig.from_pretrained(job.adapter)
    found.inference_mode = False
    return found


def rows(job: Job) -> Dataset:
    """Read the rows as a user's data file is read, so that TRL's own cache of reference log-probs can work."""
    found = load_dataset("json", data_files=job.rows, split="train", cache_dir=job.options["cache"])
    return found.rename_columns(COLUMNS)


def config(job: Job) -> DPOConfig:
    """Return TRL's settings: what both arms share, and what the job says about TRL alone.

    bf16 is said aloud: TRL turns it on by default, on CPUs too, where it is slower by orders of magnitude.
    """
    options, cpu = job.options, job.device == "cpu"
    shared = {
        "output_dir": options["output"],
        "per_device_train_batch_size": options["micro_batch"],
        "gradient_accumulation_steps": job.batch_size // options["micro_batch"],
        "num_train_epochs": 1,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",
        "bf16": job.dtype == "bfloat16",
        "use_cpu": cpu,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **job.loss,
    }
    if not options["tuned"]:
        return DPOConfig(**shared)
    return DPOConfig(
        **shared,
        model_init_kwargs={"dtype": job.dtype},
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=options.get("reference_batch", options["micro_batch"]),
        gradient_checkpointing=False,
        logging_steps=10**6,
        dataloader_pin_memory=not cpu,
    )


def quiet() -> None:
    """Keep hints out of the way: what an arm writes is shown when it fails."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    disable_progress_bars()


if __name__ == "__main__":
    serve(run)
