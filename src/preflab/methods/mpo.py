"""MPO: mixed preference optimisation, the published mixture of a preference, a quality and a likelihood loss."""

from preflab.core.sources import Source
from preflab.methods._mixture import mixture
from preflab.methods.bco import BCO
from preflab.methods.dpo import DPO
from preflab.methods.sft import SFT

MPO = mixture(
    "mpo",
    "MPO",
    {DPO: 0.8, BCO: 0.2, SFT: 1.0},
    Source(
        paper="Wang et al., 2024",
        title="Enhancing the Reasoning Ability of Multimodal Large Language Models via Mixed Preference Optimization",
        arxiv="2411.10442",
        equation="objective",
        claim="InternVL2-8B gains 8.7 points on MathVista and is comparable to a model ten times its size.",
        bibtex="""@misc{wang2024enhancing,
  title = {Enhancing the Reasoning Ability of Multimodal Large Language Models via Mixed Preference Optimization},
  author = {Wang, Weiyun and Chen, Zhe and Wang, Wenhai and Cao, Yue and Liu, Yangzhou and Gao, Zhangwei and
            Zhu, Jinguo and Zhu, Xizhou and Lu, Lewei and Qiao, Yu and Dai, Jifeng},
  year = {2024},
  eprint = {2411.10442},
  archivePrefix = {arXiv}
}""",
        note="The likelihood term is the token mean of the batch, as in the authors' code at 94be99c1; the "
        "equation has a mean per response. Published with learning rate 5e-6 and beta 0.1 for both rewards. "
        "Any other mixture: name the methods with a plus, such as dpo+sft.",
    ),
    defaults={"bco_beta": 0.1},
    learning_rates=(5e-6,),
)
