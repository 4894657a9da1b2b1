"""The gate for a server: do the answers to a prompt and to its swaps have one distribution, as equation 4 says?

A server's probabilities cannot be seen, so this is the sequence level, by samples: n answers to X and to each of its
swaps gX, swapped back. Where a swap fixes the prompt, the answers have to be as likely as their own swaps: parity.
"""

from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from ..text.action import TextAction
from .gate_answers import AnswerDifference, adjust, compare_groups, compare_swaps
from .gate_client import Server, ask
from .gate_result import Outcome
from .gate_server_result import AnswerThresholds, ServerPromptCheck, ServerResult
from .gate_words import PromptWords, read_words
from .text_lists import check_text_lists


def check_server(
    server: Server,
    action: TextAction,
    prompts: Sequence[str],
    *,
    thresholds: AnswerThresholds | None = None,
    num_answers: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> ServerResult:
    """Check a server on prompts.

    A prompt fails if a difference is above the threshold and significant, after Holm's correction for all prompts. It
    passes if no difference is above the threshold and every one that is would be significant. Otherwise the answers
    are too few to tell.

    Args:
        server: the server, plain or a gateway.
        action: the axes' action on texts.
        prompts: at least one text.
        thresholds: the limits; None takes the defaults.
        num_answers: the number of answers to each prompt and to each of its swaps; twice as many to one without swaps.
        seed: the seed of the tests. The server's own draws cannot be seeded.
        progress: whether to show a progress bar.

    Raises:
        EquiLMError: for no prompts, and for a server that does not answer (see `gate_client.ask`).
    """
    check_text_lists(prompts=prompts)
    limits = thresholds or AnswerThresholds()
    orbits = [action.orbit(prompt) for prompt in prompts]
    images = [dict.fromkeys(orbit) for orbit in orbits]  # the distinct swaps of each prompt
    # A prompt without swaps gets as many answers as one with a swap, so that its test finds as small differences.
    counts = [num_answers if len(of_prompt) > 1 else 2 * num_answers for of_prompt in images]
    asked = [image for of_prompt, n in zip(images, counts, strict=True) for image in of_prompt for _ in range(n)]
    with tqdm(total=len(asked), desc=f"Asking {server.host}", unit="answer", disable=not progress) as bar:
        model, texts = ask(server, asked, bar.update)
    answers = iter(texts)
    # Each difference, and for which prompt and kind it is.
    tested: list[tuple[int, str]] = []
    found: list[AnswerDifference] = []
    tests = sum(len(of_prompt) > 1 for of_prompt in images)
    tests += sum(len(of_prompt) < action.group.order for of_prompt in images)
    level, rng = limits.significance / tests, np.random.default_rng(seed)
    for place, (prompt, orbit) in enumerate(zip(prompts, orbits, strict=True)):
        before = "" if server.chat else prompt
        groups = []
        for image in images[place]:
            back = action.group.inverse(orbit.index(image))
            sent = "" if server.chat else image
            groups.append([action.act_on_continuation(sent, next(answers), back) for _ in range(counts[place])])
        if len(groups) > 1:
            tested.append((place, "difference"))
            found.append(compare_groups(groups, limits.difference, level, rng))
        fixing = [g for g in action.group.elements if orbit[g] == prompt]
        if len(fixing) > 1:
            pooled = [answer for group in groups for answer in group]
            swaps = [[action.act_on_continuation(before, answer, s) for answer in pooled] for s in fixing]
            compose = np.array([[fixing.index(action.group.compose(s, r)) for r in fixing] for s in fixing])
            tested.append((place, "parity"))
            found.append(compare_swaps(swaps, compose, limits.difference, level, rng))
    by_prompt: list[dict[str, AnswerDifference]] = [{} for _ in prompts]
    for (place, kind), one in zip(tested, adjust(found), strict=True):
        by_prompt[place][kind] = one
    checks = [
        _judge(prompt, of_prompt, read_words(action, prompt), limits)
        for prompt, of_prompt in zip(prompts, by_prompt, strict=True)
    ]
    return ServerResult(f"{model} at {server.host}", action.group.order, num_answers, limits, tuple(checks))


def _judge(
    prompt: str, found: dict[str, AnswerDifference], words: PromptWords, limits: AnswerThresholds
) -> ServerPromptCheck:
    reasons: dict[Outcome, list[str]] = {"fail": [], "unknown": []}
    for kind, one in found.items():
        low, high = one.shares
        whose = "of one group's answers" if kind == "difference" else "of the answers"
        other = "of another's" if kind == "difference" else "of their swaps do"
        if one.value > limits.difference and one.adjusted_p_value <= limits.significance:
            reasons["fail"].append(
                f"{high:.0%} {whose} {one.event}, but {low:.0%} {other} (p = {one.adjusted_p_value:.2g})"
            )
        elif one.needed > limits.difference:
            reasons["unknown"].append(
                f"too few answers: only a {kind} above {one.needed:.2f} is certain to be significant, and the "
                f"threshold is {limits.difference:g}"
            )
    outcome: Outcome = "fail" if reasons["fail"] else "unknown" if reasons["unknown"] else "pass"
    return ServerPromptCheck(
        prompt, found.get("difference"), found.get("parity"), words, outcome, tuple(reasons.get(outcome, ()))
    )
