"""Fairness around any text generator: one plain generation for each sample, on a randomly swapped prompt, swapped back.

This is the operator on distributions over whole continuations, Q(Y|X) = 1/|G| Σ_g P(gY|gX), sampled as *probabilistic
symmetrization* does it (Kim et al., "Learning Probabilistic Symmetrization for Architecture Agnostic Equivariance",
NeurIPS 2023): draw g, then sample from P at gX.
"""

import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple, TypeVar

from ..errors import EquiLMError
from ..words.axes import AxisLike
from .action import TextAction
from .best_of import check_best_of, choose_best
from .chat import Prompt, map_texts, prompt_texts, text_before
from .invariant import InvariantScore, Mode, act_on_item
from .judges import Pronouns

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class _Row(NamedTuple):
    """One sample to draw: its prompt, the element drawn for it, and the swapped prompt that the engine gets."""

    prompt: Prompt
    element: int
    sent: Any


class TextSymmetrizer:
    """Makes any generator of texts fair, whatever runs behind it: a server, an engine, a pipeline.

    For a generator that continues X by Y with probability P(Y|X), `wrap` gives one that does so with probability

        Q(Y|X) = 1/|G| Σ_g P(gY | gX),

    so that Q(hY|hX) = Q(Y|X) for every h: equation 4 of the paper, exactly, whatever P is. It costs one plain
    generation for each sample, however large the group: g is drawn uniformly, the generator continues gX by Y', and
    g⁻¹Y' is returned. How the group acts on texts, pronouns among them, is in `TextAction`.

    *Where prompt and continuation meet.* X and Y are joined as they are, so gY means
    `TextAction.act_on_continuation`: a word that the prompt has begun stays as the generator ends it, and all words
    that begin in the continuation are swapped. X + Y = g⁻¹(gX + Y') where no word crosses the boundary, and X does not
    end in an article or a pronoun that agrees with what follows. A generator that strips the space before its
    continuation should put it back, or be wrapped with ``continues=False``.

    *Same seed, same text.* The draw is g = u·k, where k takes X to the first text of its orbit and u follows the seed.
    So with one seed X and hX are sent as the same text, and if the generator answers it the same way, its answers
    differ by h, up to a swap that leaves X as it is.

    Args:
        axes: axes, built-in names or paths of JSON files, one or several.
        pronouns: what judges the places of his, him, her and hers, as in `TextAction`: rules by default.
        seed: the seed of all draws of this object, one after the other; by default they differ in every run.
            Python's global random state is not used.

    Raises:
        EquiLMError: for lists that cannot be swapped in text (see `TextAction`).

    Example:
        >>> def generate(prompts, end="."):
        ...     return [" became a wife" + end if "woman" in prompt else " became king" + end for prompt in prompts]
        >>> fair = TextSymmetrizer("gender", seed=0).wrap(generate)
        >>> fair(["The man", "The woman"], end="!")
        [' became a husband!', ' became a wife!']
        >>> fair(["The man"], n=3, return_elements=True)
        ([[' became king.', ' became a husband.', ' became a husband.']], [[0, 1, 1]])
    """

    def __init__(self, axes: AxisLike | Sequence[AxisLike], seed: int | None = None, *, pronouns: Pronouns = "rules"):
        self.action = TextAction(axes, pronouns)
        self._random = Random(seed)

    def wrap(
        self,
        generate: Callable[..., Any],
        *,
        continues: bool | None = None,
        best_of: int = 1,
        score: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """The same generator, made fair.

        Args:
            generate: takes a list of prompts, each a text or a list of chat messages, and returns a list of as many
                continuations, without their prompts. May be ``async``, and take any other arguments.
            continues: whether the answers continue the prompt's last word. By default a text's do, and the reply to
                chat messages begins a new text.
            best_of: candidates that are generated for each sample, of which the one with the highest score is kept. It
                stays exactly fair (`equilm.text.best_of`); the cost is ``best_of`` plain generations, and the scoring.
            score: takes prompts and continuations, two lists of one length, and returns a number for each pair, the
                higher the better. It is made invariant: the mean over the pair's swaps. May be ``async``.

        Returns:
            A function of the same arguments and three more, that returns a list of continuations, or is to be awaited
            if ``generate`` is. It calls ``generate`` once, with all swapped prompts. The three arguments:
            ``n``: samples for each prompt, which makes the result a list of lists. Each prompt is sent n times, each
            time with a g of its own, since samples that share one are fair but correlated. With one seed for all
            requests a server may answer equal texts alike, so n samples need different seeds or none.
            ``return_elements``: return ``(continuations, elements)``, both of one shape, for audit; the generator was
            given ``map_texts(prompt, lambda text: action.act(text, element))``.
            ``draw_seed``: a seed for the draws of this call alone.
            The result raises an `EquiLMError` for a single prompt that is not in a list, and for a generator that
            returns another number of continuations than it got prompts.
        """

        check_best_of(best_of, score is not None)
        judge = None if score is None else self._invariant_pairs(score, continues)

        def fair(
            prompts: Sequence[Prompt],
            *args: Any,
            n: int | None = None,
            return_elements: bool = False,
            draw_seed: int | None = None,
            **kwargs: Any,
        ) -> Any:
            random = self._random if draw_seed is None else Random(draw_seed)
            _check_prompts(prompts)
            if n is not None and n < 1:
                raise EquiLMError(f"n is the number of samples for each prompt, got {n}: expected at least 1.")
            rows = [self._draw(prompt, random) for prompt in prompts for _ in range(best_of * (1 if n is None else n))]

            def back(continuations: Sequence[str]) -> Any:
                _check_count(continuations, len(rows))
                texts = [
                    self.action.act_on_continuation(
                        text_before(row.sent, continues), continuation, self.action.group.inverse(row.element)
                    )
                    for row, continuation in zip(rows, continuations, strict=True)
                ]
                elements = [row.element for row in rows]

                def choose(scores: Sequence[float]) -> Any:
                    kept = choose_best(scores, best_of, random)
                    best, drawn = [texts[place] for place in kept], [elements[place] for place in kept]
                    return (_split(best, n), _split(drawn, n)) if return_elements else _split(best, n)

                alike: Any = [0.0] * len(rows)
                pairs = [(row.prompt, text) for row, text in zip(rows, texts, strict=True)]
                return _then(alike if judge is None else judge(pairs), choose)

            return _then(generate([row.sent for row in rows], *args, **kwargs), back)

        return fair

    def log_prob(
        self,
        score: Callable[..., Any],
        prompts: Sequence[Prompt],
        continuations: Sequence[str],
        *,
        continues: bool | None = None,
    ) -> Any:
        """log Q(Y|X) = logsumexp_g log P(gY|gX) − log|G|, exact.

        Q is the law of what `wrap` returns if P is the law of what the generator returns, so ``score`` has to agree
        with it on the end of a text (a finished text's score includes its end token; one that was cut at a length does
        not) and on temperature, top-k and top-p. A scorer that adds up the tokens of one way to split a text gives the
        probability of those tokens, which is a lower bound of the text's.

        Args:
            score: takes prompts and continuations, two lists of one length, and returns log P(Y|X) for each pair. It
                is called once, with the distinct pairs of all orbits. May be ``async``.
            prompts: texts or lists of chat messages.
            continuations: as many texts.
            continues: as in `wrap`.

        Returns:
            A list of floats, to be awaited if ``score`` is.

        Raises:
            EquiLMError: for another number of continuations, or of scores, than prompts.
        """
        _check_prompts(prompts)
        _check_count(continuations, len(prompts))
        pairs: dict[tuple[Any, ...], tuple[Any, str]] = {}  # swaps that leave a pair as it is are scored once
        orbits: list[list[tuple[Any, ...]]] = []
        for number, (prompt, continuation) in enumerate(zip(prompts, continuations, strict=True)):
            orbits.append([])
            for g in self.action.group.elements:
                swapped = self._act(prompt, g)
                answer = self.action.act_on_continuation(text_before(prompt, continues), continuation, g)
                key = (number, *prompt_texts(swapped), answer)
                pairs[key] = (swapped, answer)
                orbits[-1].append(key)

        def average(scores: Sequence[float]) -> list[float]:
            _check_count(scores, len(pairs))
            score_of = dict(zip(pairs, map(float, scores), strict=True))
            return [_log_mean_exp([score_of[key] for key in orbit]) for orbit in orbits]

        asked, answers = map(list, zip(*pairs.values(), strict=True)) if pairs else ([], [])
        return _then(score(asked, answers), average)

    def invariant(
        self,
        score: Callable[..., Any],
        *,
        mode: Mode = "orbit",
        act: Callable[[Any, int], Any] | None = None,
    ) -> InvariantScore:
        """A scorer of texts made invariant: f(gx) = f(x) for every g, exactly.

        Args:
            score: takes a list of texts, of tuples of texts, of chats or of dicts of texts, and returns one score for
                each: a number, an array, a dict of them, or a pipeline's labels (with ``top_k=None``). May be
                ``async`` and take further arguments.
            mode: "orbit", the mean over all swaps of a text; "sample", the score of one swap, drawn uniformly: the
                same in expectation, at the price of the plain scorer.
            act: how an element g acts on an item, ``act(item, g)``. None: on every text in it.

        Returns:
            A function of the same arguments; see `InvariantScore`. `equilm.text` has ready-made ones for
            pipelines, sentence-transformers, reward functions and embedding servers.

        Example:
            >>> def length(texts):
            ...     return [len(text) for text in texts]
            >>> TextSymmetrizer("gender").invariant(length)(["A man.", "A woman.", "A dog."])
            [7.0, 7.0, 6.0]
        """
        return InvariantScore(score, self.action.group, act or partial(act_on_item, self.action), mode, self._random)

    def _invariant_pairs(self, score: Callable[..., Any], continues: bool | None) -> InvariantScore:
        def act(pair: tuple[Prompt, str], g: int) -> tuple[Any, str]:
            prompt, continuation = pair
            before = text_before(prompt, continues)
            return self._act(prompt, g), self.action.act_on_continuation(before, continuation, g)

        def score_pairs(pairs: Sequence[tuple[Prompt, str]]) -> Any:
            return score([prompt for prompt, _ in pairs], [continuation for _, continuation in pairs])

        return self.invariant(score_pairs, act=act)

    def _act(self, prompt: Prompt, g: int) -> Any:
        return map_texts(prompt, lambda text: self.action.act(text, g))

    def _draw(self, prompt: Prompt, random: Random) -> _Row:
        group, orbit = self.action.group, zip(*map(self.action.orbit, prompt_texts(prompt)), strict=True)
        # Whatever k is, u·k is uniform, since u is and does not depend on it.
        k, _ = min(enumerate(orbit), key=lambda image: image[1], default=(0, ()))
        element = group.compose(random.randrange(group.order), k)
        return _Row(prompt, element, self._act(prompt, element))


def _then(result: _In | Awaitable[_In], change: Callable[[_In], _Out]) -> Any:
    """``change(result)``, once the result is there: an awaitable for an awaitable."""
    if not inspect.isawaitable(result):
        return change(result)

    async def wait() -> Any:
        changed = change(await result)
        return await changed if inspect.isawaitable(changed) else changed

    return wait()


def _split(rows: list[Any], n: int | None) -> list[Any]:
    return rows if n is None else [rows[start : start + n] for start in range(0, len(rows), n)]


def _log_mean_exp(values: list[float]) -> float:
    largest = max(values)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values) / len(values))


def _check_prompts(prompts: Sequence[Prompt]) -> None:
    if isinstance(prompts, str) or any(not isinstance(prompt, str | list | tuple) for prompt in prompts):
        raise EquiLMError(
            f"Expected a list of prompts, each a text or a list of chat messages, got {prompts!r}. "
            "Put a single prompt into a list."
        )


def _check_count(results: Sequence[Any], expected: int) -> None:
    if len(results) != expected:
        raise EquiLMError(
            f"Expected {expected} results, one for each prompt and in their order, got {len(results)}. "
            "A generator of several continuations for each prompt is asked for one here; pass n=… to the wrapped one."
        )
