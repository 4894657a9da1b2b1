"""What a study draws: its axes, groups, prompts and decoders, and the cells that follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from ..errors import EquiLMError
from ..words.axes import AxisLike, DemographicAxis
from .cells import DECODERS, Cell
from .own_prompts import NO_GROUP, SLOT, AxisGroups, OwnPrompt
from .prompts import CONTEXTS, GROUPS

# The tasks of the user's own prompts: those that name a group, and those that name none.
NAMING, NEUTRAL = "prompts", "neutral prompts"

PAPER_DECODERS = ("plain", "equilm", "r-equilm", "sequence")
OWN_DECODERS = ("plain", "equilm", "text")

Prompts = Mapping[str, Mapping[str, Sequence[OwnPrompt]]]
"""The prompts by axis and task."""


def samples_for(prompts: int) -> int:
    """A good number of texts for each of so many prompts of the user's own: about 200 in all, but 5 to 100 for each.

    With 200 texts for each group a difference of about 0.1 is seen, and two cores need minutes for a small model.
    """
    return min(max(ceil(200 / prompts), 5), 100)


@dataclass(frozen=True)
class Study:
    """The texts that a study draws. The defaults are the paper's: 500 texts for each group, task and decoder.

    With other axes, groups or prompts it is a study of the user's own. All axes are studied apart.

    Args:
        axes: the axes: objects, built-in names or paths of JSON files.
        tasks: the paper's kinds of prompt, with five contexts each; own prompts replace them.
        decoders: the ways to draw continuations, keys of `DECODERS`.
        samples: the number of texts for each cell.
        max_new_tokens: the maximum number of tokens in a continuation.
        top_k: sample from this many most likely tokens.
        seed: the seed from which the seeds of the cells are made.
        prompts: own prompts. Each has ``{group}`` in place of a group, or names a group in words of the axis, or names
            none.
        groups: what the groups are called, each by a word of the axis; only for a single axis. Empty for the paper's
            groups, or, for other axes, the built-in ones or the first list.
        by_axis: made from these: the groups of each axis, by its name.
        by_task: made from these: the prompts of each axis and task.

    Raises:
        EquiLMError: for a name that is unknown or repeated, for a number that is too small, and for groups and prompts
            that the axis cannot swap.
    """

    axes: Sequence[AxisLike] = tuple(GROUPS)
    tasks: Sequence[str] = tuple(CONTEXTS)
    decoders: Sequence[str] = PAPER_DECODERS
    samples: int = 100
    max_new_tokens: int = 15
    top_k: int = 40
    seed: int = 0
    prompts: Sequence[str] = ()
    groups: Sequence[str] = ()
    by_axis: Mapping[str, AxisGroups] = field(init=False, repr=False, compare=False)
    by_task: Prompts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        axes = tuple(axis if isinstance(axis, DemographicAxis) else DemographicAxis.load(axis) for axis in self.axes)
        names = [axis.name for axis in axes]
        if not names or len(set(names)) < len(names):
            raise EquiLMError(f"axes must name at least one axis, each once; got {names}.")
        if self.groups and len(axes) > 1:
            raise EquiLMError(
                f"The groups {', '.join(self.groups)} are those of one axis, but there are {len(axes)}: "
                f"{', '.join(names)}. Name a single axis, or leave the groups out."
            )
        for name, known in (("tasks", CONTEXTS), ("decoders", DECODERS)):
            chosen = tuple(getattr(self, name))
            if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(known):
                raise EquiLMError(f"{name} must name some of {', '.join(known)}, each once; got {list(chosen)}.")
            object.__setattr__(self, name, chosen)
        for name, least in (("samples", 1), ("max_new_tokens", 1), ("top_k", 1), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise EquiLMError(f"{name} must be at least {least}, got {value}.")
        by_axis = {axis.name: AxisGroups(axis, self.groups) for axis in axes}
        for name, value in {
            "axes": axes,
            "prompts": tuple(dict.fromkeys(line.strip() for line in self.prompts)),
            "groups": tuple(self.groups),
            "by_axis": by_axis,
        }.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "by_task", {name: self._by_task(groups) for name, groups in by_axis.items()})

    @property
    def axis_names(self) -> tuple[str, ...]:
        """The names of the axes."""
        return tuple(self.by_axis)

    @property
    def is_papers(self) -> bool:
        """Whether the study is the paper's or a part of it, with its axes, groups and prompts."""
        named = all(groups.groups == GROUPS.get(axis) for axis, groups in self.by_axis.items())
        return not self.prompts and not self.groups and named

    @property
    def sections(self) -> list[tuple[str, str]]:
        """The axes with each of their tasks, which are reported apart."""
        return [(axis, task) for axis, tasks in self.by_task.items() for task in tasks]

    def cells(self) -> list[Cell]:
        """All cells, ordered by axis, with the groups of one context next to each other."""
        return [
            cell
            for axis, task in self.sections
            for decoder in self.decoders
            for cells in self.cells_of(axis, task, decoder)
            for cell in cells.values()
        ]

    def cells_of(self, axis: str, task: str, decoder: str) -> list[dict[str, Cell]]:
        """For each prompt its cells by group; `NO_GROUP` is the only group of a neutral prompt."""
        return [
            {
                group: Cell(axis, task, group, prompt.line, decoder, "" if self.is_papers else text)
                for group, text in prompt.texts.items()
            }
            for prompt in self.by_task[axis][task]
        ]

    def groups_of(self, axis: str) -> tuple[str, ...]:
        """The groups of an axis; the later ones are compared with the first."""
        return self.by_axis[axis].groups

    def sampling_settings(self) -> dict[str, int]:
        """The settings, besides the model, that all cells share. Cells added later must have the same settings."""
        return {name: getattr(self, name) for name in ("samples", "max_new_tokens", "top_k", "seed")}

    def _by_task(self, groups: AxisGroups) -> dict[str, tuple[OwnPrompt, ...]]:
        if not self.prompts:
            return {task: tuple(_of_context(groups, context) for context in CONTEXTS[task]) for task in self.tasks}
        prompts = [groups.prompt(line) for line in self.prompts]
        naming = tuple(prompt for prompt in prompts if NO_GROUP not in prompt.texts)
        neutral = tuple(prompt for prompt in prompts if NO_GROUP in prompt.texts)
        return {task: found for task, found in ((NAMING, naming), (NEUTRAL, neutral)) if found}


def _of_context(groups: AxisGroups, context: str) -> OwnPrompt:
    """The paper's prompt "The <group> <context>", with the context as its line."""
    return OwnPrompt(context, groups.prompt(f"The {SLOT} {context}").texts)
