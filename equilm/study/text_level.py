"""The sequence level on text: the plain model's texts after swapped prompts, taken back, and their exact probability.

Unlike the other decoders it swaps words of any number of tokens, and words that are swapped only before certain others.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..text.action import TextAction
from ..text.symmetrizer import TextSymmetrizer
from ..words.axes import DemographicAxis


class TextLevel:
    """The text level of one axis around a plain model.

    Args:
        base: the plain model.
        tokenizer: its tokenizer.
        axis: the axis.
    """

    def __init__(self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, axis: DemographicAxis):
        self.base: Any = base
        self.tokenizer = tokenizer
        self.symmetrizer = TextSymmetrizer(axis)

    @property
    def action(self) -> TextAction:
        """How the axis's group acts on texts."""
        return self.symmetrizer.action

    def sample(
        self, prompt: str, settings: dict[str, Any], seed: int, cut: Callable[[list[int]], list[int]]
    ) -> list[str]:
        """Continuations of a prompt.

        Args:
            prompt: the prompt.
            settings: for the model's ``generate``; ``num_return_sequences`` is the number of continuations.
            seed: draws the swaps; the sampling itself uses torch's global generator.
            cut: removes the padding after the end-of-text token.
        """

        def generate(prompts: list[str]) -> list[str]:
            found: dict[str, list[str]] = {}
            for text, count in Counter(prompts).items():
                ids = self._ids(text)
                kept = {**settings, "num_return_sequences": count, "attention_mask": torch.ones_like(ids)}
                rows = self.base.generate(ids, **kept)[:, ids.shape[1] :].tolist()
                found[text] = [self._continuation(ids[0].tolist(), cut(row)) for row in rows]
            return [found[text].pop() for text in prompts]

        number = settings["num_return_sequences"]
        return list(self.symmetrizer.wrap(generate)([prompt], n=number, draw_seed=seed)[0])

    def log_probs(self, prompt: str, continuations: list[str], *, symmetrized: bool) -> list[float]:
        """log P of each continuation in nats: of the plain model, or of its symmetrized distribution."""
        prompts = [prompt] * len(continuations)
        if symmetrized:
            return list(self.symmetrizer.log_prob(self._score, prompts, continuations))
        return self._score(prompts, continuations)

    @torch.no_grad()
    def _score(self, prompts: list[str], continuations: list[str]) -> list[float]:
        scores = []
        for prompt, continuation in zip(prompts, continuations, strict=True):
            before = self._ids(prompt)
            after = torch.tensor([self.token_ids(continuation)], device=before.device, dtype=before.dtype)
            logits = self.base(input_ids=torch.cat([before, after], 1)).logits[0, before.shape[1] - 1 : -1]
            log_probs = logits.float().log_softmax(-1).gather(-1, after[0, :, None])
            scores.append(float(log_probs.sum()))
        return scores

    def token_ids(self, continuation: str) -> list[int]:
        """The tokens of a continuation, without those that begin or end a text."""
        return list(self.tokenizer(continuation, add_special_tokens=False).input_ids)

    def _ids(self, prompt: str) -> torch.Tensor:
        ids: Any = self.tokenizer(prompt, return_tensors="pt").input_ids
        return ids.to(self.base.device)

    def _continuation(self, prompt: list[int], ids: list[int]) -> str:
        """The text of new tokens; decoded after their prompt, they keep the space before the first word."""
        before, whole = (self.tokenizer.decode(part, skip_special_tokens=True) for part in (prompt, prompt + ids))
        return str(whole)[len(str(before)) :]
