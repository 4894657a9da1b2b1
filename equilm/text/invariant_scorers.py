"""Ready-made invariant scorers: pipelines, sentence-transformers, reward functions, embedding servers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import EquiLMError
from .invariant import Mode, act_on_item
from .symmetrizer import TextSymmetrizer


def invariant_pipeline(symmetrizer: TextSymmetrizer, pipeline: Any, *, mode: Mode = "orbit") -> Callable[..., Any]:
    """A text-classification pipeline whose labels do not change under swaps.

    Args:
        symmetrizer: the axes.
        pipeline: ``transformers.pipeline("text-classification", …)``, or any function of that form.
        mode: as in `TextSymmetrizer.invariant`.

    Returns:
        A function that is called as the pipeline is, with a text, a ``{"text": …, "text_pair": …}`` or a list of
        them, and ``top_k``: None for all labels, 1 (the default) for the likeliest, given as one dict.
    """
    scores = symmetrizer.invariant(lambda texts, **kwargs: pipeline(texts, top_k=None, **kwargs), mode=mode)

    def classify(texts: Any, *, top_k: int | None = 1, **kwargs: Any) -> Any:
        single = not isinstance(texts, list)
        labels = [entry[:top_k] for entry in scores([texts] if single else texts, **kwargs)]
        if top_k == 1:
            return [entry[0] for entry in labels]
        return labels[0] if single else labels

    return classify


def invariant_encoder(symmetrizer: TextSymmetrizer, encode: Callable[..., Any], *, mode: Mode = "orbit") -> Any:
    """Sentence embeddings that do not change under swaps: the mean of the embeddings of all swaps.

    The mean of unit vectors is shorter than one. Cosine similarity does not see that; for a dot product, normalize.

    Args:
        symmetrizer: the axes.
        encode: ``SentenceTransformer.encode``, ``CrossEncoder.predict`` (its items are pairs), or a function of that
            form: a list of texts to an array or tensor with a row for each.
        mode: as in `TextSymmetrizer.invariant`.
    """
    return symmetrizer.invariant(encode, mode=mode)


def invariant_reward(symmetrizer: TextSymmetrizer, reward: Callable[..., Any], *, mode: Mode = "orbit") -> Any:
    """A reward function for TRL's trainers that rewards a completion and its swap alike.

    It is called as TRL does, ``reward(prompts=…, completions=…, **columns)``, with texts or chats, and returns one
    float for each completion; ``None`` for a completion that it does not judge stays ``None``. The group acts on the
    prompts, the completions and the columns of texts that the data set adds. Other columns are handed on as they are,
    but for token ids (``completion_ids``), which would be those of the unswapped text: a reward function that needs
    them fails.

    Args:
        symmetrizer: the axes.
        reward: the reward function; may be ``async``.
        mode: as in `TextSymmetrizer.invariant`.
    """

    def fair(**columns: Any) -> Any:
        rows = len(columns["completions"])
        per_row = {name: value for name, value in columns.items() if isinstance(value, list) and len(value) == rows}
        rest = {name: value for name, value in columns.items() if name not in per_row}
        texts = [name for name, column in per_row.items() if all(map(_is_text, column))]
        fixed = [name for name in per_row if name not in texts and not name.endswith("_ids")]

        def act(item: tuple[int, dict[str, Any]], g: int) -> tuple[int, dict[str, Any]]:
            swapped = {name: act_on_item(symmetrizer.action, value, g) for name, value in item[1].items()}
            prompt, completion = item[1].get("prompts"), item[1]["completions"]
            if isinstance(prompt, str) and isinstance(completion, str):  # one text, cut where the prompt ends
                swapped["completions"] = symmetrizer.action.act_on_continuation(prompt, completion, g)
            return item[0], swapped

        def score(items: Sequence[tuple[int, dict[str, Any]]]) -> Any:
            swapped = {name: [item[1][name] for item in items] for name in texts}
            as_they_are = {name: [per_row[name][row] for row, _ in items] for name in fixed}
            return reward(**swapped, **as_they_are, **rest)

        judge = symmetrizer.invariant(score, mode=mode, act=act)
        # A row's number goes along: rows with equal texts may differ in other columns.
        return judge([(row, {name: per_row[name][row] for name in texts}) for row in range(rows)])

    name = reward.__name__ if inspect.isroutine(reward) else type(reward).__name__
    fair.__name__ = f"invariant_{name}"  # TRL logs a reward by its function's name
    return fair


def _is_text(value: Any) -> bool:
    is_chat = isinstance(value, list) and bool(value) and all(isinstance(message, Mapping) for message in value)
    return isinstance(value, str) or is_chat


def invariant_embeddings(symmetrizer: TextSymmetrizer, client: Any, model: str, *, mode: Mode = "orbit") -> Any:
    """Embeddings of an OpenAI-compatible server that do not change under swaps.

    Args:
        symmetrizer: the axes.
        client: ``openai.OpenAI`` or ``openai.AsyncOpenAI``.
        model: the embedding model's name.
        mode: as in `TextSymmetrizer.invariant`.

    Returns:
        A function from a list of texts to a list of embeddings, lists of floats; to be awaited for an async client.
    """
    import openai

    def vectors(response: Any, count: int) -> list[list[float]]:
        data = sorted(response.data, key=lambda entry: entry.index)
        if [entry.index for entry in data] != list(range(count)):
            raise EquiLMError(f"The server was sent {count} texts and returned embeddings of others.")
        return [list(entry.embedding) for entry in data]

    if isinstance(client, openai.AsyncOpenAI):

        async def embed_later(texts: list[str]) -> list[list[float]]:
            return vectors(await client.embeddings.create(model=model, input=texts), len(texts))

        return symmetrizer.invariant(embed_later, mode=mode)

    def embed(texts: list[str]) -> list[list[float]]:
        return vectors(client.embeddings.create(model=model, input=texts), len(texts))

    return symmetrizer.invariant(embed, mode=mode)
