"""Drawing a study's texts: the models of an axis, which share one base model, and the loop over cells."""

import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..actions import TokenAction
from ..errors import EquiLMError
from ..modeling_equilm import EquiLMForCausalLM
from ..sampling import symmetrized_generate
from ..words.vocabulary import VocabularyAction
from .cells import Cell, CellTexts
from .own_prompts import NO_GROUP
from .provenance import provenance
from .storage import StudySettings, cell_file, read_cells
from .study_plan import Study
from .text_level import TextLevel


class AxisModels:
    """The models of one axis, which share the weights of the base model.

    Args:
        base: the plain model.
        tokenizer: its tokenizer.
        study: the study.
        axis: the name of the axis.
    """

    def __init__(self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, study: Study, axis: str):
        self.base = base
        self.tokenizer = tokenizer
        self.study = study
        self.groups = study.by_axis[axis]

    @cached_property
    def equilm(self) -> EquiLMForCausalLM:
        """EquiLM on this axis."""
        return EquiLMForCausalLM.from_base(self.base, self.tokenizer, axes=self.groups.axis)

    @cached_property
    def relaxed(self) -> EquiLMForCausalLM:
        """R-EquiLM on this axis."""
        return EquiLMForCausalLM.from_base(self.base, self.tokenizer, axes=self.groups.axis, relaxed=True)

    @cached_property
    def on_text(self) -> TextLevel:
        """The sequence level on text."""
        return TextLevel(self.base, self.tokenizer, self.groups.axis)

    @cached_property
    def action(self) -> TokenAction:
        """The axis's action on token ids.

        Raises:
            EquiLMError: if the tokenizer has no list of the axis as single tokens.
        """
        try:
            return VocabularyAction.from_axes(
                self.groups.axis,
                self.tokenizer,
                vocab_size=self.base.config.get_text_config().vocab_size,
                unmappable="skip",
            ).to(self.base.device)
        except EquiLMError as error:
            raise EquiLMError(
                f"{error} Of the report's decoders, `--decoder plain --decoder text` need no single tokens."
            ) from error

    @cached_property
    def has_tokens(self) -> bool:
        """Whether the study needs the axis on tokens; the plain model and the text level alone do not."""
        return any(decoder not in ("plain", "text") for decoder in self.study.decoders)

    def image_of(self, cell: Cell, group: str) -> str:
        """The prompt of a cell as it reads for another group."""
        if not cell.text:
            return replace(cell, group=group).prompt
        prompts = self.study.by_task[cell.axis][cell.task]
        return next(prompt.texts[group] for prompt in prompts if prompt.line == cell.context)

    def prompt_ids(self, cell: Cell) -> Tensor:
        """The prompt's token ids, int64, shape ``(1, T)``.

        Raises:
            EquiLMError: for one of the paper's prompts, if the tokenizer does not have the group's name as a single
                token, so that nothing would be swapped.
        """
        if not self.is_swapped(cell) and not cell.text:
            groups = self.groups.groups
            raise EquiLMError(
                f"The model's tokenizer has no single tokens that turn {groups[0]!r} into {groups[-1]!r}: leave the "
                f"axis {cell.axis!r} out, or choose another model (`equilm audit` shows why)."
            )
        return self.ids(cell.prompt)

    def is_swapped(self, cell: Cell) -> bool:
        """Whether the axis's action on tokens turns the prompt into that of every other group."""
        own = self.ids(cell.prompt)
        for group in self.groups.groups if cell.group != NO_GROUP else ():
            image = self.ids(self.image_of(cell, group))
            element = self.groups.element(cell.group, group)
            if own.shape != image.shape or not torch.equal(self.action.act(own, element), image):
                return False
        return True

    def ids(self, text: str) -> Tensor:
        """The token ids of a text, shape ``(1, T)``."""
        ids: Any = self.tokenizer(text, return_tensors="pt").input_ids
        return ids.to(self.base.device)

    def sample(self, cell: Cell, study: Study) -> CellTexts:
        """Sample the texts of a cell in one batch, with the cell's own seed.

        Args:
            cell: a cell of this axis.
            study: the number of texts, their length and the seed.
        """
        prompt = self.prompt_ids(cell) if self.has_tokens else self.ids(cell.prompt)
        settings: dict[str, Any] = {
            "attention_mask": torch.ones_like(prompt),
            "max_new_tokens": study.max_new_tokens,
            "num_return_sequences": study.samples,
            # The paper's sampler, whatever the model's own generation settings are.
            "do_sample": True,
            "top_k": study.top_k,
            "top_p": 1.0,
            "temperature": 1.0,
            "repetition_penalty": 1.0,
            "pad_token_id": self._pad,
        }
        seed = cell.seed(study.seed)
        set_seed(seed)
        start = time.perf_counter()
        if cell.decoder == "text":
            written = self.on_text.sample(cell.prompt, settings, seed, self._cut)
            seconds = time.perf_counter() - start
            texts = [_first_line(cell.prompt + continuation) for continuation in written]
            return CellTexts(cell, [self.on_text.token_ids(text) for text in written], texts, seconds)
        rows = self._generate(cell.decoder, prompt, settings).tolist()
        seconds = time.perf_counter() - start
        continuations = [self._cut(row[prompt.shape[1] :]) for row in rows]
        texts = [self._text(prompt[0].tolist() + ids) for ids in continuations]
        return CellTexts(cell, continuations, texts, seconds)

    def by_decoder(self, decoder: str) -> PreTrainedModel:
        """The model whose ``generate`` draws the texts; the sequence level draws them from the plain one."""
        match decoder:
            case "equilm":
                return self.equilm
            case "r-equilm":
                return self.relaxed
            case _:
                return self.base

    def _generate(self, decoder: str, prompt: Tensor, settings: dict[str, Any]) -> Any:
        if decoder == "sequence":
            return symmetrized_generate(self.base, prompt, self.action, **settings)
        model: Any = self.by_decoder(decoder)
        return model.generate(prompt, **settings)

    @cached_property
    def _ends(self) -> set[int]:
        end = self.base.generation_config.eos_token_id
        return set(torch.as_tensor([] if end is None else end).flatten().tolist())

    @property
    def _pad(self) -> int | None:
        pad = self.tokenizer.pad_token_id
        return min(self._ends, default=None) if pad is None else pad

    def _cut(self, ids: list[int]) -> list[int]:
        """Remove the padding after the end-of-text token."""
        end = next((i for i, token in enumerate(ids) if token in self._ends), len(ids))
        return ids[: end + 1]

    def _text(self, ids: list[int]) -> str:
        return _first_line(str(self.tokenizer.decode(ids, skip_special_tokens=True)))


def _first_line(text: str) -> str:
    return text.split("\n")[0].strip()


def sample_cells(
    study: Study,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    settings: StudySettings,
    state: PartialState | None = None,
) -> None:
    """Draw the texts of all cells that are not in the folder yet, and save each cell as soon as it is finished.

    Under ``accelerate launch`` the cells are divided among the processes. A cell's texts do not depend on which process
    draws them, as long as all processes use the same kind of device and number of threads, which affect rounding.

    Args:
        study: the cells to draw.
        base: the plain model, on this process's device.
        tokenizer: its tokenizer.
        folder: where the cells are saved.
        settings: the settings that all cells are made with.
        state: the processes; None for those that this process was launched with.

    Raises:
        EquiLMError: for a folder whose cells were made with other settings.
    """
    state = state or PartialState()
    done = read_cells(folder, settings)
    state.wait_for_everyone()  # otherwise a slow process would find cells that a fast one has just added
    file = cell_file(folder, state.process_index, settings, provenance(base.device))
    models: dict[str, AxisModels] = {}
    with state.split_between_processes([cell for cell in study.cells() if cell not in done]) as mine:
        for cell in (bar := tqdm(mine, desc="Sampling", unit="cell", disable=not state.is_main_process)):
            bar.set_postfix_str(f"{cell.prompt!r}, {cell.decoder}", refresh=False)
            if cell.axis not in models:
                models = {cell.axis: AxisModels(base, tokenizer, study, cell.axis)}
            file.append([models[cell.axis].sample(cell, study).to_record()])
    state.wait_for_everyone()
