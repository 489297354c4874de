"""What a TRL configuration trains: our method with our hyper-parameters, and what is not the same.

Checked against TRL 1.16.0, for DPOTrainer also against 0.24.0; `peers.SPELLINGS` holds the evidence row by row.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from preflab.core.domains import specs
from preflab.core.errors import ConfigError, nearest
from preflab.methods import find

CHECKED: Final = (1, 16, 0)
_LAST_OLD = (0, 24)
"""The last version seen with the older meanings of several options."""
_FIRST_NEW = (0, 29)

Parts = dict[str, tuple[float, dict[str, float]]]
"""Method to its weight and hyper-parameters."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A TRL objective in our terms.

    Args:
        method: a method or a mixture, as study files spell it.
        hyperparameters: its values; those that the configuration leaves open are TRL's defaults.
        notes: what differs from a run of TRL, one sentence each.
    """

    method: str
    hyperparameters: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Config:
    """A configuration that remembers which of its keys were looked at."""

    values: Mapping[str, Any]
    old: bool
    notes: list[str] = field(default_factory=list)

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{key}: must be a number; got {value!r}.")
        return float(value)

    def flag(self, key: str) -> bool:
        return bool(self.values.get(key, False))

    def choice(self, key: str, default: str, known: Sequence[str]) -> str:
        value = self.values.get(key) or default
        if value not in known:
            raise ConfigError(f"{key}: {value!r} is unknown. {nearest(str(value), list(known))}")
        return str(value)


def translate(trainer: str, config: Mapping[str, Any], *, version: tuple[int, ...] = CHECKED) -> Translation:
    """Return what a TRL trainer of that version trains with a configuration.

    Args:
        trainer: `dpo`, `kto`, `cpo`, `orpo`, `tpo`, `bco` or `sft`.
        config: the fields of its config class; those that do not change the objective are passed over.
        version: of TRL.

    Raises:
        ConfigError: an unknown trainer or value, no counterpart here, or a value outside our domain.
    """
    if trainer not in _TRAINERS:
        raise ConfigError(f"trainer {trainer!r}: unknown. {nearest(trainer, list(_TRAINERS))}")
    wrapped = _Config(config, old=version < _FIRST_NEW)
    others = _others(trainer, config, old=wrapped.old)
    if version[:2] != CHECKED[:2] and version[:2] != _LAST_OLD:
        wrapped.notes.append(
            f"Checked against TRL {'.'.join(map(str, CHECKED))} and {'.'.join(map(str, _LAST_OLD))}, not against "
            f"{'.'.join(map(str, version))}."
        )
    parts = _TRAINERS[trainer](wrapped)
    if others:
        wrapped.notes.append(f"Not part of the objective here: {', '.join(others)}.")
    if config.get("router_aux_loss_coef"):
        wrapped.notes.append("router_aux_loss_coef adds a loss on mixture-of-experts models, which are refused here.")
    return _joined(parts, wrapped.notes)


def _others(trainer: str, config: Mapping[str, Any], *, old: bool) -> list[str]:
    """Return the fields that are not read.

    Raises:
        ConfigError: a field that is gone, or one that looks like a misspelt field of the objective.
    """
    known = [*_FIELDS[trainer], "router_aux_loss_coef", *(_GONE if old else ())]
    others = [key for key in config if key not in known]
    for key in others:
        if trainer == "dpo" and key in _GONE and not old and config[key]:
            raise ConfigError(f"{key}: gone since TRL 0.29, so it changes nothing; --trl-version 0.24 reads it.")
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        if not key or close:
            raise ConfigError(f"{key!r}: no field of the objective. {nearest(key, known)}")
    return [key for key in others if key not in _GONE]


def _joined(parts: Parts, notes: list[str]) -> Translation:
    name = "+".join(parts)
    if len(parts) == 1:
        ((weight, values),) = parts.values()
        if weight != 1.0:
            notes.append(f"TRL multiplies the loss by {weight:g}; AdamW hardly sees the difference.")
    else:
        values = {
            f"{part}_{key}": value
            for part, (weight, own) in parts.items()
            for key, value in {"weight": weight, **own}.items()
        }
    method = find(name)
    method.hyperparameters(**values)
    return Translation(name, {key: values[key] for key in specs(method.hyperparameters) if key in values}, tuple(notes))


def _dpo(config: _Config) -> Parts:
    given = config.values.get("loss_type", "sigmoid")
    if not given:
        raise ConfigError("loss_type: must name at least one loss.")
    losses = [given] if isinstance(given, str) else given
    if not isinstance(losses, list):
        raise ConfigError(f"loss_type: must be a name or a list of names; got {given!r}.")
    weights = config.values.get("loss_weights") or [1.0] * len(losses)
    if not isinstance(weights, list):
        raise ConfigError(f"loss_weights: must be a list of numbers; got {weights!r}.")
    if not all(isinstance(weight, int | float) for weight in weights):
        raise ConfigError(f"loss_weights: must be numbers; got {weights!r}.")
    if len(weights) != len(losses):
        raise ConfigError(f"loss_weights: must be as many as loss_type, {len(losses)}; got {len(weights)}.")
    alone = losses == ["sigmoid"]
    if special := _special_dpo(config, alone):
        return special
    parts: Parts = {}
    for loss, weight in zip(losses, weights, strict=True):
        name, values = _dpo_loss(config, loss)
        if name in parts:
            raise ConfigError(f"loss_type: {loss!r} twice.")
        parts[name] = (float(weight), values)
    if "sft" in parts or len(parts) > 1:
        config.notes.append("Token means are over TRL's micro-batch, here over the optimizer batch.")
    if config.old and config.values.get("rpo_alpha") is not None:
        parts["sft"] = (config.number("rpo_alpha", 1.0), {})
        config.notes.append("rpo_alpha adds the token mean of the chosen likelihood: neither rpo nor dpo_nll.")
    return _without_shift(parts)


def _special_dpo(config: _Config, alone: bool) -> Parts:
    """Return the method that an option beside the loss makes of it, or nothing."""
    beta = {"beta": config.number("beta", 0.1)}
    found: dict[str, Parts] = {}
    if config.flag("sync_ref_model"):
        share, steps = (0.9, 64.0) if config.old else (0.6, 512.0)
        moved = {
            "alpha": config.number("ref_model_mixup_alpha", share),
            "tau": config.number("ref_model_sync_steps", steps),
        }
        found["sync_ref_model"] = {"tr_dpo": (1.0, beta | moved)}
    if config.flag("use_weighting"):
        found["use_weighting"] = {"wpo": (1.0, beta)}
        config.notes.append(f"The weight {'is' if config.old else 'is not'} bounded by 1 in TRL; it is here.")
    if config.values.get("ld_alpha") is not None:
        if config.old:
            raise ConfigError("ld_alpha: weighs only the policy's tokens in TRL until 0.24; there is no counterpart.")
        found["ld_alpha"] = {"ld_dpo": (1.0, beta | {"alpha": config.number("ld_alpha", 1.0)})}
    divergence = config.choice("f_divergence_type", "reverse_kl", tuple(_DIVERGENCES))
    if divergence != "reverse_kl":
        values = dict(beta)
        if divergence == "alpha_divergence":
            coefficient = config.number("f_alpha_divergence_coef", 1.0 if config.old else 0.5)
            values["alpha"] = coefficient if config.old else 1 - coefficient
        found["f_divergence_type"] = {_DIVERGENCES[divergence]: (1.0, values)}
    if len(found) > 1 or (found and not alone):
        raise ConfigError(f"{', '.join(found)}: together or with another loss than sigmoid there is no counterpart.")
    if found:
        _refuse_hidden(config, next(iter(found)))
    return next(iter(found.values()), {})


def _refuse_hidden(config: _Config, special: str) -> None:
    """Stop at options that change the sigmoid loss, too, beside one that has a method of its own.

    Raises:
        ConfigError: there is one.
    """
    hidden = [key for key in ("label_smoothing", *_GONE) if config.old and config.values.get(key)]
    if config.values.get("loss_weights") not in (None, [1.0]):
        hidden.append("loss_weights")
    if hidden:
        raise ConfigError(f"{', '.join(hidden)}: together with {special} there is no counterpart.")
    if config.number("label_smoothing", 0.0):
        config.notes.append(_IGNORED)


_GONE: Final = ("rpo_alpha", "reference_free")
_FIELDS: Final = {
    "dpo": (
        "beta",
        "loss_type",
        "loss_weights",
        "label_smoothing",
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "discopop_tau",
        "ld_alpha",
        "use_weighting",
        "sync_ref_model",
        "ref_model_mixup_alpha",
        "ref_model_sync_steps",
    ),
    "kto": ("beta", "loss_type", "desirable_weight", "undesirable_weight"),
    "cpo": ("beta", "loss_type", "label_smoothing", "cpo_alpha", "simpo_gamma", "alpha"),
    "orpo": ("beta",),
    "tpo": ("beta", "loss_type", "tpo_alpha"),
    "bco": ("beta",),
    "sft": ("loss_type",),
}
"""The fields that change the objective, by trainer."""
_DIVERGENCES: Final = {
    "reverse_kl": "dpo",
    "forward_kl": "fdpo_forward_kl",
    "js_divergence": "fdpo_js",
    "alpha_divergence": "fdpo_alpha",
}
_DPO_LOSSES: Final = {
    "sigmoid": "dpo",
    "hinge": "rso_hinge",
    "ipo": "ipo_mean",
    "exo_pair": "exo",
    "nca_pair": "nca",
    "robust": "robust_dpo",
    "bco_pair": "bco",
    "sppo_hard": "sppo_hard",
    "aot": "aot",
    "aot_unpaired": "aot_unpaired",
    "aot_pair": "aot_unpaired",
    "apo_zero": "apo_zero",
    "apo_down": "apo_down",
    "discopop": "discopop",
    "sft": "sft",
    "sigmoid_norm": "ln_dpo",
}
_IGNORED = "TRL ignores label_smoothing for this loss since 0.29: it is DPO, not cDPO."
_NO_SHIFT = "eurus minus dpo"
"""What `bco_pair` is since its reward shift was removed."""


def _dpo_loss(config: _Config, loss: str) -> tuple[str, dict[str, float]]:
    if loss not in _DPO_LOSSES:
        raise ConfigError(f"loss_type: {loss!r} is unknown. {nearest(loss, list(_DPO_LOSSES))}")
    name, beta = _DPO_LOSSES[loss], config.number("beta", 0.1)
    noise = config.number("label_smoothing", 0.0)
    values = {"beta": beta}
    if name == "ipo_mean":
        values = {"tau": beta}
    elif name == "sft":
        values = {}
    elif name == "discopop":
        values["tau"] = config.number("discopop_tau", 0.05)
    elif name == "exo":
        values["label_noise"] = noise or (1e-3 if config.old else 0.0)
    elif name == "robust_dpo":
        values["label_noise"] = noise
    elif name == "bco" and not config.old:
        name = _NO_SHIFT
    elif name == "dpo" and config.old and config.flag("reference_free"):
        if noise:
            raise ConfigError("label_smoothing: sigmoid with smoothing and without a reference has no counterpart.")
        return "cpo", {"beta": beta, "alpha": 0.0}
    elif name == "dpo" and config.old and noise:
        return "cdpo", {"beta": beta, "label_noise": noise}
    if noise and name in ("aot", "aot_unpaired"):
        raise ConfigError(f"label_smoothing: {loss} with smoothing has no counterpart.")
    if noise and name == "dpo":
        config.notes.append(_IGNORED)
    return name, values


def _without_shift(parts: Parts) -> Parts:
    """Write `bco_pair` without its shift as Eurus minus DPO, where DPO has at least its weight."""
    if _NO_SHIFT not in parts:
        return parts
    weight, values = parts.pop(_NO_SHIFT)
    dpo, _ = parts.pop("dpo", (0.0, {}))
    if dpo < weight:
        raise ConfigError(
            "loss_type: bco_pair has no reward shift since TRL 0.29: it is Eurus minus DPO, which has a counterpart "
            "only beside sigmoid with at least its weight. BCO itself is bco."
        )
    rest = {"dpo": (dpo - weight, values)} if dpo > weight else {}
    return {**rest, "eurus": (weight, values), **parts}


def _kto(config: _Config) -> Parts:
    beta = config.number("beta", 0.1)
    good, bad = config.number("desirable_weight", 1.0), config.number("undesirable_weight", 1.0)
    loss = config.choice("loss_type", "kto", ("kto", "apo_zero_unpaired"))
    if loss == "kto":
        config.notes.append("The KL baseline is over TRL's micro-batch, here over the optimizer batch.")
        return {"kto": (1.0, {"beta": beta, "lambda_desirable": good, "lambda_undesirable": bad})}
    if (good, bad) != (1.0, 1.0):
        raise ConfigError("loss_type: apo_zero_unpaired with weights has no counterpart.")
    config.notes.append("The same on as many desirable as undesirable examples, here as pairs.")
    return {"apo_zero": (0.5, {"beta": beta})}


def _cpo(config: _Config) -> Parts:
    loss = config.choice("loss_type", "sigmoid", ("sigmoid", "simpo", "alphapo", "hinge", "ipo"))
    if config.number("label_smoothing", 0.0) and loss in ("sigmoid", "simpo"):
        raise ConfigError(f"label_smoothing: {loss} with smoothing has no counterpart.")
    beta, weight = config.number("beta", 0.1), config.number("cpo_alpha", 1.0)
    margin = {"beta": beta, "gamma_beta_ratio": config.number("simpo_gamma", 0.5) / beta}
    bend = config.number("alpha", 0.0)
    if loss == "alphapo" or (loss == "simpo" and bend):
        if "alpha" not in config.values:
            config.notes.append("alpha is 0 by default, which is SimPO.")
        return {"alpha_po": (1.0, margin | {"alpha": bend})}
    if bend:
        raise ConfigError(f"alpha: {loss} with it exponentiates sums of log-probs; there is no counterpart.")
    if loss == "sigmoid":
        return {"cpo": (1.0, {"beta": beta, "alpha": weight})}
    if loss == "simpo":
        if weight and "cpo_alpha" not in config.values:
            config.notes.append("Not SimPO: cpo_alpha is 1.0 by default, a likelihood term. SimPO has cpo_alpha 0.")
        return {"cpo_simpo": (1.0, margin | {"alpha": weight})} if weight else {"simpo": (1.0, margin)}
    if loss == "hinge" and not weight:
        return {"slic_hf": (beta, {"delta": 1 / beta, "lambda_ref": 0.0})}
    raise ConfigError(f"loss_type: {loss} with cpo_alpha {weight:g} has no counterpart.")


def _orpo(config: _Config) -> Parts:
    config.notes.append(
        "Not equal: TRL's likelihood term runs over prompt and response, as the token mean of the micro-batch."
    )
    return {"orpo": (1.0, {"lambda_or": config.number("beta", 0.1)})}


def _tpo(config: _Config) -> Parts:
    config.choice("loss_type", "sigmoid", ("sigmoid",))
    beta, weight = config.number("beta", 0.01), config.number("tpo_alpha", 1.0)
    return {"tpo": (1.0, {"beta": beta, "alpha": weight})}


def _bco(config: _Config) -> Parts:
    config.notes.append("TRL pools both kinds of examples into one mean; here each kind has its own.")
    return {"bco_unpaired": (1.0, {"beta": config.number("beta", 0.1)})}


def _sft(config: _Config) -> Parts:
    config.choice("loss_type", "nll", ("nll",))
    config.notes.append("The same where only completions are trained on.")
    return {"sft": (1.0, {})}


_TRAINERS: Final[dict[str, Callable[[_Config], Parts]]] = {
    "dpo": _dpo,
    "kto": _kto,
    "cpo": _cpo,
    "orpo": _orpo,
    "tpo": _tpo,
    "bco": _bco,
    "sft": _sft,
}
