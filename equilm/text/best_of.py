"""The best of several candidates, chosen fairly: by an invariant score, with random draws between ties.

Candidates for hX are h times those for X in law, and with s(hX, hY) = s(X, Y) the choice among them is h times the
choice for X. So P(gY|gX) = P(Y|X) (paper, eq. 4) holds for the best of any number of candidates. With regard as the
score this is what EquizeroLM aims at (Basu et al., "Efficient Equivariant Transfer Learning from Pretrained Models",
2023).
"""

import math
from collections.abc import Sequence
from random import Random

from ..errors import EquiLMError


def choose_best(scores: Sequence[float], best_of: int, random: Random) -> list[int]:
    """For each run of ``best_of`` candidates the place of one with the highest score, ties broken uniformly.

    Args:
        scores: the candidates' scores, ``best_of`` after one another for each choice.
        best_of: candidates for each choice.
        random: draws between ties.

    Raises:
        EquiLMError: for a score that is not a number.
    """
    chosen = []
    for start in range(0, len(scores), best_of):
        candidates = [float(score) for score in scores[start : start + best_of]]
        if any(map(math.isnan, candidates)):
            raise EquiLMError(f"A candidate's score is not a number: {candidates}. Return a finite score for each.")
        best = max(candidates)
        winners = [start + place for place, score in enumerate(candidates) if score == best]
        chosen.append(winners[0] if len(winners) == 1 else random.choice(winners))
    return chosen


def check_best_of(best_of: int, has_score: bool) -> None:
    """Refuse a number of candidates without a score to choose by, and the other way round.

    Raises:
        EquiLMError: names what is missing.
    """
    if isinstance(best_of, bool) or not isinstance(best_of, int) or best_of < 1:
        raise EquiLMError(f"best_of={best_of!r} is the number of candidates: expected a whole number of at least 1.")
    if best_of > 1 and not has_score:
        raise EquiLMError(f"best_of={best_of} needs a score to choose by: pass score=…")
    if best_of == 1 and has_score:
        raise EquiLMError("score=… chooses between candidates, but best_of is 1: pass best_of=2 or more, or no score.")
