"""The methods: pure functions from log-probs to a loss per example, each described once, and the list of them all.

Adding a method is one file here, one entry in `ALL` and one test file; a method in a user's own file needs none of
these and comes in through `load`.
"""

import dataclasses
from typing import Final

from preflab.core.errors import ConfigError, nearest
from preflab.methods._leaves import Leaf, Part, assemble, compares_pairs, leaves, n_states, parts_of
from preflab.methods._mixture import mixture, plain_mixture
from preflab.methods._outside import code_digest, method_from_file, validate
from preflab.methods._types import (
    Answers,
    Chosen,
    Credit,
    Episodes,
    Invariances,
    Logps,
    LossOutput,
    Method,
    Moments,
    Pair,
    Ranked,
    RankedLogps,
    RankedValues,
    Referenced,
    ReferencedAnswers,
    ReferencedPair,
    ReferencedRanked,
    ReferencedTokenPair,
    TokenLogps,
    TokenPair,
    Unpaired,
    ValuedAnswers,
    ValuePair,
    Values,
)
from preflab.methods.alpha_dpo import ALPHA_DPO
from preflab.methods.alpha_po import ALPHA_PO
from preflab.methods.aot import AOT
from preflab.methods.aot_unpaired import AOT_UNPAIRED
from preflab.methods.apo_down import APO_DOWN
from preflab.methods.apo_zero import APO_ZERO
from preflab.methods.asft import ASFT
from preflab.methods.bco import BCO
from preflab.methods.bco_unpaired import BCO_UNPAIRED
from preflab.methods.beta_dpo import BETA_DPO
from preflab.methods.bradley_terry import BRADLEY_TERRY
from preflab.methods.cal_dpo import CAL_DPO
from preflab.methods.cdpo import CDPO
from preflab.methods.chi_po import CHI_PO
from preflab.methods.cpo import CPO
from preflab.methods.cpo_simpo import CPO_SIMPO
from preflab.methods.discopop import DISCOPOP
from preflab.methods.dpo import DPO
from preflab.methods.dpo_nll import DPO_NLL
from preflab.methods.dpo_pl import DPO_PL
from preflab.methods.dpop import DPOP
from preflab.methods.eurus import EURUS
from preflab.methods.eurus_reward import EURUS_REWARD
from preflab.methods.exo import EXO
from preflab.methods.fdpo_alpha import FDPO_ALPHA
from preflab.methods.fdpo_forward_kl import FDPO_FORWARD_KL
from preflab.methods.fdpo_js import FDPO_JS
from preflab.methods.fdpo_reverse_kl import FDPO_REVERSE_KL
from preflab.methods.flex_dpo import FLEX_DPO
from preflab.methods.grpo import GRPO
from preflab.methods.infonca import INFONCA
from preflab.methods.ipo import IPO
from preflab.methods.ipo_mean import IPO_MEAN
from preflab.methods.kto import KTO
from preflab.methods.ld_dpo import LD_DPO
from preflab.methods.ln_dpo import LN_DPO
from preflab.methods.mpo import MPO
from preflab.methods.nca import NCA
from preflab.methods.odpo import ODPO
from preflab.methods.orpo import ORPO
from preflab.methods.ppo import PPO
from preflab.methods.r_dpo import R_DPO
from preflab.methods.rainbow_po import RAINBOW_PO
from preflab.methods.rloo import RLOO
from preflab.methods.robust_dpo import ROBUST_DPO
from preflab.methods.rpo import RPO
from preflab.methods.rrhf import RRHF
from preflab.methods.rso_hinge import RSO_HINGE
from preflab.methods.sampo import SAMPO
from preflab.methods.sft import SFT
from preflab.methods.sft_dpo import SFT_DPO
from preflab.methods.simpo import SIMPO
from preflab.methods.slic_hf import SLIC_HF
from preflab.methods.sppo_hard import SPPO_HARD
from preflab.methods.tdpo1 import TDPO1
from preflab.methods.tdpo2 import TDPO2
from preflab.methods.tpo import TPO
from preflab.methods.tr_dpo import TR_DPO
from preflab.methods.wpo import WPO

ALL: Final[tuple[Method, ...]] = (
    SFT,
    DPO,
    LN_DPO,
    IPO,
    IPO_MEAN,
    KTO,
    CPO,
    SIMPO,
    SLIC_HF,
    ORPO,
    ALPHA_DPO,
    ALPHA_PO,
    AOT,
    AOT_UNPAIRED,
    APO_DOWN,
    APO_ZERO,
    ASFT,
    BCO,
    BCO_UNPAIRED,
    BETA_DPO,
    CAL_DPO,
    CDPO,
    CHI_PO,
    CPO_SIMPO,
    DISCOPOP,
    DPOP,
    DPO_NLL,
    DPO_PL,
    EURUS,
    EXO,
    FDPO_ALPHA,
    FDPO_FORWARD_KL,
    FDPO_JS,
    FDPO_REVERSE_KL,
    FLEX_DPO,
    INFONCA,
    LD_DPO,
    MPO,
    NCA,
    ODPO,
    RAINBOW_PO,
    ROBUST_DPO,
    RPO,
    RRHF,
    RSO_HINGE,
    R_DPO,
    SAMPO,
    SFT_DPO,
    SPPO_HARD,
    TDPO1,
    TDPO2,
    TPO,
    TR_DPO,
    WPO,
)
"""Objectives over responses that the data give."""

ONLINE: Final[tuple[Method, ...]] = (PPO, RLOO, GRPO)
"""Objectives over the policy's own answers and their rewards."""

BUILT_IN: Final = (*ALL, *ONLINE)

_ONLINE = "online_"


def find(name: str) -> Method:
    """Return the built-in method of that name, the mixture of several: `dpo+sft`, or one on own answers: `online_dpo`.

    `online_` in front of a method for pairs gives it the best and the worst of the policy's own answers instead of the
    pairs of the data.

    Raises:
        ConfigError: there is none; the message names the nearest one.

    Examples:
        >>> find("ln_dpo").title
        'LN-DPO'
    """
    known = {method.name: method for method in BUILT_IN}
    if name.startswith(_ONLINE):
        return on_own_answers(find(name.removeprefix(_ONLINE)))
    if "+" in name:
        return plain_mixture(tuple(find(part.strip()) for part in name.split("+")))
    if name not in known:
        raise ConfigError(f"method {name!r}: unknown. {nearest(name, list(known))}")
    return known[name]


def on_own_answers(method: Method) -> Method:
    """Return a method whose pairs are the best and the worst of the policy's own answers, by reward.

    Raises:
        ConfigError: it asks for more than the log-probs of a pair.

    References:
        Guo et al., Direct Language Model Alignment from Online AI Feedback, 2024, arXiv:2402.04792.
    """
    asked = leaves(method.inputs)
    if not all(leaf.role in ("chosen", "rejected") and leaf.quantity in ("policy", "reference") for leaf in asked):
        raise ConfigError(
            f"method '{_ONLINE}{method.name}': own answers give the log-probs of a pair, and {method.name} "
            "asks for more."
        )
    return dataclasses.replace(
        method,
        name=_ONLINE + method.name,
        title=f"Online {method.title}",
        summary=f"{method.title} on the best and the worst of the policy's own answers, by reward.",
        own_answers=True,
    )


def load(spec: str) -> Method:
    """Return a method from a user's own file, given as `path/to/file.py:NAME`: the single door for such methods.

    The file is executed, so only name files you would run.

    Raises:
        ConfigError: the file or the name is missing, the file does not import, the object is not a `Method`, its
            declaration and its loss disagree, or its name is taken by a built-in method.
    """
    method = method_from_file(spec)
    if method.name in {known.name for known in BUILT_IN}:
        raise ConfigError(f"{spec}: the name {method.name!r} is taken by a built-in method; choose another name.")
    return method


__all__ = [
    "ALL",
    "ALPHA_DPO",
    "ALPHA_PO",
    "AOT",
    "AOT_UNPAIRED",
    "APO_DOWN",
    "APO_ZERO",
    "ASFT",
    "BCO",
    "BCO_UNPAIRED",
    "BETA_DPO",
    "BRADLEY_TERRY",
    "BUILT_IN",
    "CAL_DPO",
    "CDPO",
    "CHI_PO",
    "CPO",
    "CPO_SIMPO",
    "DISCOPOP",
    "DPO",
    "DPOP",
    "DPO_NLL",
    "DPO_PL",
    "EURUS",
    "EURUS_REWARD",
    "EXO",
    "FDPO_ALPHA",
    "FDPO_FORWARD_KL",
    "FDPO_JS",
    "FDPO_REVERSE_KL",
    "FLEX_DPO",
    "GRPO",
    "INFONCA",
    "IPO",
    "IPO_MEAN",
    "KTO",
    "LD_DPO",
    "LN_DPO",
    "MPO",
    "NCA",
    "ODPO",
    "ONLINE",
    "ORPO",
    "PPO",
    "RAINBOW_PO",
    "RLOO",
    "ROBUST_DPO",
    "RPO",
    "RRHF",
    "RSO_HINGE",
    "R_DPO",
    "SAMPO",
    "SFT",
    "SFT_DPO",
    "SIMPO",
    "SLIC_HF",
    "SPPO_HARD",
    "TDPO1",
    "TDPO2",
    "TPO",
    "TR_DPO",
    "WPO",
    "Answers",
    "Chosen",
    "Credit",
    "Episodes",
    "Invariances",
    "Leaf",
    "Logps",
    "LossOutput",
    "Method",
    "Moments",
    "Pair",
    "Part",
    "Ranked",
    "RankedLogps",
    "RankedValues",
    "Referenced",
    "ReferencedAnswers",
    "ReferencedPair",
    "ReferencedRanked",
    "ReferencedTokenPair",
    "TokenLogps",
    "TokenPair",
    "Unpaired",
    "ValuePair",
    "ValuedAnswers",
    "Values",
    "assemble",
    "code_digest",
    "compares_pairs",
    "find",
    "leaves",
    "load",
    "mixture",
    "n_states",
    "on_own_answers",
    "parts_of",
    "validate",
]
