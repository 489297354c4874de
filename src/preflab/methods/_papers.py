"""Papers that several methods come from; a method adds its own equation and note."""

from typing import Final

from preflab.core.sources import Source

AOT_PAPER: Final = Source(
    paper="Melnyk et al., 2024",
    title="Distributional Preference Alignment of LLMs via Optimal Transport",
    arxiv="2406.05882",
    bibtex="""@inproceedings{melnyk2024distributional,
  title = {Distributional Preference Alignment of {LLMs} via Optimal Transport},
  author = {Melnyk, Igor and Mroueh, Youssef and Belgodere, Brian and Rigotti, Mattia and Nitsure, Apoorva and
            Yurochkin, Mikhail and Greenewald, Kristjan and Navratil, Jiri and Ross, Jerret},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2406.05882},
  archivePrefix = {arXiv}
}""",
    equation="",
)

APO_PAPER: Final = Source(
    paper="D'Oosterlinck et al., 2024",
    title="Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment",
    arxiv="2408.06266",
    bibtex="""@article{doosterlinck2025anchored,
  title = {Anchored Preference Optimization and Contrastive Revisions: Addressing Underspecification in Alignment},
  author = {D'Oosterlinck, Karel and Xu, Winnie and Develder, Chris and Demeester, Thomas and Singh, Amanpreet and
            Potts, Christopher and Kiela, Douwe and Mehri, Shikib},
  journal = {Transactions of the Association for Computational Linguistics},
  year = {2025},
  eprint = {2408.06266},
  archivePrefix = {arXiv}
}""",
    equation="",
)

F_DPO_PAPER: Final = Source(
    paper="Wang et al., 2023",
    title="Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence Constraints",
    arxiv="2309.16240",
    bibtex="""@inproceedings{wang2024beyond,
  title = {Beyond Reverse {KL}: Generalizing Direct Preference Optimization with Diverse Divergence Constraints},
  author = {Wang, Chaoqi and Jiang, Yibo and Yang, Chenghao and Liu, Han and Chen, Yuxin},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  eprint = {2309.16240},
  archivePrefix = {arXiv}
}""",
    equation="",
)

THREED_PAPER: Final = Source(
    paper="Yan et al., 2024",
    title="3D-Properties: Identifying Challenges in DPO and Charting a Path Forward",
    arxiv="2406.07327",
    bibtex="""@inproceedings{yan2025threed,
  title = {{3D}-Properties: Identifying Challenges in {DPO} and Charting a Path Forward},
  author = {Yan, Yuzi and Miao, Yibo and Li, Jialian and Zhang, Yipin and Xie, Jian and Deng, Zhijie and Yan, Dong},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2406.07327},
  archivePrefix = {arXiv}
}""",
    equation="",
)

IPO_PAPER: Final = Source(
    paper="Azar et al., 2023",
    title="A General Theoretical Paradigm to Understand Learning from Human Preferences",
    arxiv="2310.12036",
    bibtex="""@inproceedings{azar2024general,
  title = {A General Theoretical Paradigm to Understand Learning from Human Preferences},
  author = {Azar, Mohammad Gheshlaghi and Guo, Zhaohan Daniel and Piot, Bilal and Munos, R{\\'e}mi and
            Rowland, Mark and Valko, Michal and Calandriello, Daniele},
  booktitle = {Proceedings of the 27th International Conference on Artificial Intelligence and Statistics},
  series = {Proceedings of Machine Learning Research},
  volume = {238},
  year = {2024},
  eprint = {2310.12036},
  archivePrefix = {arXiv}
}""",
    equation="",
)

BCO_PAPER: Final = Source(
    paper="Jung et al., 2024",
    title="Binary Classifier Optimization for Large Language Model Alignment",
    arxiv="2404.04656",
    bibtex="""@inproceedings{jung2025binary,
  title = {Binary Classifier Optimization for Large Language Model Alignment},
  author = {Jung, Seungjae and Han, Gunsoo and Nam, Daniel Wontae and On, Kyoung-Woon},
  booktitle = {Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics},
  year = {2025},
  eprint = {2404.04656},
  archivePrefix = {arXiv}
}""",
    equation="",
)

TDPO_PAPER: Final = Source(
    paper="Zeng et al., 2024",
    title="Token-level Direct Preference Optimization",
    arxiv="2404.11999",
    bibtex="""@inproceedings{zeng2024token,
  title = {Token-level Direct Preference Optimization},
  author = {Zeng, Yongcheng and Liu, Guoqing and Ma, Weiyu and Yang, Ning and Zhang, Haifeng and Wang, Jun},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  series = {Proceedings of Machine Learning Research},
  volume = {235},
  year = {2024},
  eprint = {2404.11999},
  archivePrefix = {arXiv}
}""",
    equation="",
)

NCA_PAPER: Final = Source(
    paper="Chen et al., 2024",
    title="Noise Contrastive Alignment of Language Models with Explicit Rewards",
    arxiv="2402.05369",
    bibtex="""@inproceedings{chen2024noise,
  title = {Noise Contrastive Alignment of Language Models with Explicit Rewards},
  author = {Chen, Huayu and He, Guande and Yuan, Lifan and Cui, Ganqu and Su, Hang and Zhu, Jun},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2402.05369},
  archivePrefix = {arXiv}
}""",
    equation="",
)

DPO_PAPER: Final = Source(
    paper="Rafailov et al., 2023",
    title="Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
    arxiv="2305.18290",
    bibtex="""@inproceedings{rafailov2023direct,
  title = {Direct Preference Optimization: Your Language Model is Secretly a Reward Model},
  author = {Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and Manning, Christopher D. and
            Ermon, Stefano and Finn, Chelsea},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {36},
  year = {2023},
  eprint = {2305.18290},
  archivePrefix = {arXiv}
}""",
    equation="",
)
