"""The measures that the `evaluate` modules in `evaluation` wrap: regard, perplexity and group fairness."""

CITATION = """\
@inproceedings{basu-etal-2023-equi-tuning,
    title = {Equi-Tuning: Group Equivariant Fine-Tuning of Pretrained Models},
    author = {Basu, Sourya and Sattigeri, Prasanna and Natesan Ramamurthy, Karthikeyan and Chenthamarakshan, Vijil and
        Varshney, Kush R. and Varshney, Lav R. and Das, Payel},
    booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
    year = {2023},
    url = {https://arxiv.org/abs/2210.06475}
}
"""
