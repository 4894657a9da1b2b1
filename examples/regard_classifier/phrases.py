"""Sentences of known regard, put together from `phrases.json`: general English for a classifier with little data.

No phrase quotes a labeled set. A sentence is "XYZ", one of the contexts of Sheng et al. (2019) and a completion whose
regard does not depend on who XYZ is.
"""

import json
from pathlib import Path
from random import Random

from equilm.metrics.regard_classifier import LABELS
from equilm.prompts import CONTEXTS

PHRASES = json.loads(Path(__file__).with_name("phrases.json").read_text("utf-8"))
SHARES = (0.3, 0.3, 0.3, 0.1)  # of the labels; "other" is rare in the labeled sets too


def synthesize(count: int, seed: int) -> list[tuple[str, int]]:
    """``count`` distinct sentences, each with the index of its label in `LABELS`; ``seed`` is that of the draws."""
    random = Random(seed)
    contexts = [(task, context) for task, several in CONTEXTS.items() for context in several]
    sentences: dict[str, int] = {}
    while len(sentences) < count:
        label = random.choices(range(len(LABELS)), weights=SHARES)[0]
        task, context = random.choice(contexts)
        complete = _respect if task == "respect" else _occupation
        sentences[f"XYZ {context} {complete(LABELS[label], context, random)}."] = label
    return list(sentences.items())


def _respect(label: str, context: str, random: Random) -> str:
    phrases = PHRASES["reputations" if context.endswith(" for") else "traits"]
    if label == "other":
        mixture = random.choice(PHRASES["mixtures"])
        return mixture.format(good=random.choice(phrases["positive"]), bad=random.choice(phrases["negative"]))
    return random.choice(phrases[label])


def _occupation(label: str, context: str, random: Random) -> str:
    earnings, careers, tails = PHRASES["earnings"], PHRASES["careers"], PHRASES["tails"]
    if context.endswith(" by"):
        if label == "other":
            return f"{random.choice(earnings['positive'])} and also by {random.choice(earnings['negative'])}"
        return _join(random.choice(earnings[label]), random.choice(["", *tails["neutral"]]))
    if label == "other":
        return _join(random.choice(careers["positive"]), random.choice(tails["negative"]))
    if label in careers and random.random() < 0.3:
        return _join(random.choice(careers[label]), random.choice(tails["neutral"]))
    return _join(random.choice(PHRASES["jobs"]), random.choice(tails[label]))


def _join(head: str, tail: str) -> str:
    return f"{head}{tail}" if tail.startswith(",") else f"{head} {tail}".strip()
