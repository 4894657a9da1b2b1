"""The fairness report: what a wrapped model swaps, and what it promises."""

from dataclasses import dataclass

from ._coverage import Coverage
from .configuration_equilm import EquiLMConfig
from .groups import Group

_PROMISES = {
    "EquiLM": "P(gY|gX) = P(Y|X) for every g; with one seed generate(gX) = g·generate(X), ties drawn fairly",
    "R-EquiLM": "equal logits for swapped and neutral words; no promise about general words or whole sentences",
}

_REASONS = 8  # so many lists that are not swapped are shown with their reasons


@dataclass(frozen=True)
class FairnessReport:
    """The state of a wrapped model; ``str()`` gives it as text.

    Args:
        active: False inside ``model.plain()``.
        method: "EquiLM" or "R-EquiLM".
        group: the group that acts.
        order: |G|, the number of contexts that are averaged.
        reduction: how the outputs of the contexts are combined.
        swapped: for each axis, the lists of words that are swapped, as the axis writes them.
        not_swapped: for each axis, the lists that this tokenizer does not have as single tokens, with the reason.
        general_words: R-EquiLM's general words, which keep the base model's logits; empty for EquiLM.
        tokens: the number of token ids that are swapped.
        promise: what holds while it is on.
        self_check: the result of the model's self-check.
    """

    active: bool
    method: str
    group: Group
    order: int
    reduction: str
    swapped: dict[str, list[tuple[str, ...]]]
    not_swapped: dict[str, dict[tuple[str, ...], str]]
    general_words: tuple[str, ...]
    tokens: int
    promise: str
    self_check: str = "not run"

    def __str__(self) -> str:
        state = f"{self.method} is on" if self.active else f"{self.method} is OFF here: inside model.plain()"
        lines = [f"{state}: {self.reduction}", f"group: {self.group}, order {self.order}; {self.tokens} tokens swapped"]
        for axis, lists in self.swapped.items():
            lines.append(f"{axis}: swaps {', '.join('/'.join(words) for words in lists) or 'nothing'}")
            lines.extend(f"{axis}: NOT {line}" for line in _shortened(axis, self.not_swapped[axis]))
        if self.general_words:
            lines.append(f"general words, as in the base model: {', '.join(self.general_words)}")
        lines.append(f"promise: {self.promise if self.active else 'none while off'}")
        lines.append(f"self-check: {self.self_check}")
        return "\n".join(lines)


def fairness_report(config: EquiLMConfig, active: bool) -> FairnessReport:
    """The report of a model with this configuration.

    Args:
        config: the model's configuration.
        active: whether fairness is on.
    """
    action = config.token_action()
    swapped: dict[str, list[tuple[str, ...]]] = {}
    not_swapped: dict[str, dict[tuple[str, ...], str]] = {}
    for axis in config.axes or []:
        rows: list[Coverage] = [row for row in config.coverage or [] if row.axis == axis["name"] and not row.general]
        kept = [row for row in rows if row.mapped and action.moved[row.token_ids[0][0]]]
        swapped[axis["name"]] = list(dict.fromkeys(row.entry for row in kept))
        not_swapped[axis["name"]] = {
            entry: _reason(entry, rows)
            for entry in dict.fromkeys(row.entry for row in rows)
            if entry not in swapped[axis["name"]]
        }
    general = [word for axis in config.axes or [] for word in axis["general_words"]] if config.relaxed else []
    method = "R-EquiLM" if config.relaxed else "EquiLM"
    return FairnessReport(
        active=active,
        method=method,
        group=action.group,
        order=action.group.order,
        reduction=("the mean over g, weighted by λ(g·x)," if config.orbit_weights else "the mean over g")
        + " of the base model's logits on g·x, columns permuted back (paper, eq. 3)",
        swapped=swapped,
        not_swapped=not_swapped,
        general_words=tuple(dict.fromkeys(general)),
        tokens=int(action.moved.sum()),
        promise=_PROMISES[method],
    )


def _shortened(axis: str, not_swapped: dict[tuple[str, ...], str]) -> list[str]:
    """A line for each list with its reason, or where they are many, one line that names them all."""
    if len(not_swapped) <= _REASONS:
        return [f"{'/'.join(words)}: {reason}" for words, reason in not_swapped.items()]
    names = ", ".join("/".join(words) for words in not_swapped)
    return [f"{names} ({len(not_swapped)} lists; fairness_report().not_swapped[{axis!r}] gives the reasons)"]


def _reason(entry: tuple[str, ...], rows: list[Coverage]) -> str:
    forms = [row for row in rows if row.entry == entry]
    if any(row.mapped for row in forms):
        return "it holds a general word"
    return next(row.reason for row in forms)
