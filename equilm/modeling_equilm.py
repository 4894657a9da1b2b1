"""EquiLM and R-EquiLM around any causal language model of transformers (paper, section 5.3)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast
from transformers.utils.generic import is_flash_attention_requested

from ._base_arguments import PER_TEXT, TextBatch, own_positions, refuse_unknown, take_packing, take_per_text
from ._base_weights import project_columns, trunk
from ._compat import CACHE, cache_of, one_cache
from ._modeling_base import EquiLMPreTrainedModel
from ._orbit_rows import (
    OrbitCache,
    Rows,
    adopt,
    all_rows,
    branches_of,
    choose,
    distinct_rows,
    is_filled,
    is_static,
    is_unusual,
    tells_apart,
)
from ._picture_encoder import encoded_once
from ._pictures import aligned_rows
from .errors import EquiLMError


@dataclass(frozen=True)
class FairHead:
    """The head that belongs to a `FairBackbone`'s hidden states.

    Args:
        weight: [W, E], shape ``(V, H + C)``.
        bias: shape ``(V,)``, or None.
    """

    weight: Tensor
    bias: Tensor | None


class FairBackbone:
    """Stands for a wrapped model's ``base_model``: its attributes are the base model's, its call is fair.

    Trainers that apply the head themselves, as TRL's do, multiply ``base_model(...).last_hidden_state`` by the weight
    of ``get_output_embeddings()``. With the base model's own hidden states that would train the plain model. The
    product is φ(x) with these: let h̄ be the mean over g of the hidden states and W the head. For a token v that is
    fixed by the group φ(x)[v] = h̄·W[v]. Each other token, C of them, gets a dimension more: the hidden states are
    [h̄, φ(x)[c] − h̄·W[c] for each such c], the head is [W, E] with E one-hot.

    Args:
        model: the wrapped model.
    """

    def __init__(self, model: "EquiLMForCausalLM"):
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model.language_model, name)

    def get_decoder(self) -> "FairBackbone":
        """Itself, so that no head is applied to the plain decoder by accident."""
        return self

    def __call__(self, input_ids: Tensor | None = None, **kwargs: Any) -> BaseModelOutput:
        """Hidden states of shape ``(B, T, H + C)``, for the head that ``get_output_embeddings`` gives next.

        Args:
            input_ids: int64, shape ``(B, T)``.
            kwargs: as in the wrapped model's ``forward``, without a cache.

        Raises:
            EquiLMError: for a model whose logits are not a linear head of its hidden states.
        """
        model = self._model
        head: Any = model.language_model.get_output_embeddings()
        if not model._may_project or kwargs.get("output_router_logits"):
            raise EquiLMError(
                f"The logits or the loss of {type(model.language_model).__name__} are not those of a linear head on "
                "its hidden states (a soft cap, a multiplier, an adapter on the head, a router's loss). This trainer "
                "applies the head itself, so it cannot be fair. Use one that calls the model, such as transformers' "
                "Trainer."
            )
        hidden, rows = model._hidden_states(input_ids, kwargs)  # (n, T, H)
        words = model.words.to(hidden.device)
        mean = rows.mean(hidden)  # (B, T, H)
        fair = model._word_logits(project_columns(head, hidden, words), rows)  # (B, T, C)
        more = (fair - project_columns(head, mean, words)).to(mean.dtype)
        one_hot = nn.functional.one_hot(words, head.out_features).T.to(head.weight)  # (V, C)
        model._next_head = FairHead(torch.cat([head.weight, one_hot], 1), head.bias)
        return BaseModelOutput(last_hidden_state=torch.cat([mean, more], -1))


class EquiLMForCausalLM(EquiLMPreTrainedModel, GenerationMixin):
    """A causal language model that treats demographic groups alike: P(gX₂|gX₁) = P(X₂|X₁) (paper, eq. 4).

    Everything happens in `forward`: the base model runs on the permuted contexts g·x in one batch; the logits are
    φ(x)[v] = 1/|G| Σ_g M(g·x)[g·v] (eq. 3). With ``config.relaxed``, R-EquiLM: the same for all words but the general
    ones, for which φ(x)[v] = M(x)[v]. Build it with `from_base`.

    Args:
        config: an `EquiLMConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.
    """

    _takes_weights = True
    _next_head: FairHead | None = None  # what belongs to the hidden states that base_model gave last

    @property
    def base_model(self) -> Any:
        """The model without its head: hidden states that give the fair logits with `get_output_embeddings`, next."""
        return self.language_model if self.is_plain else FairBackbone(self)

    def get_decoder(self) -> Any:
        return self.base_model.get_decoder()

    def get_output_embeddings(self) -> Any:
        head, self._next_head = self._next_head, None
        return self.language_model.get_output_embeddings() if head is None else head

    def _check_texts(self, ids: Tensor) -> dict[str, Tensor]:
        return {"input_ids": ids}

    def _check_arguments(self, texts: dict[str, Tensor]) -> dict[str, Any]:
        return {"logits_to_keep": 1}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | dict[str, Tensor] | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        token_type_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """The averaged logits.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: shape ``(B, T + past)``, or the 4D masks of a static cache.
            position_ids: shape ``(B, T)``.
            cache: a cache that this model has filled, or an empty one. It knows which of its rows holds
                which g·x_b and answers for B texts when cropped, reordered or repeated (`equilm._orbit_rows`).
            inputs_embeds: refused: an embedding cannot be permuted.
            labels: int64, shape ``(B, T)``, -100 where there is no loss. Where mixtures of experts add a loss for their
                routers, it is the base model's for all |G|·B permuted texts, each counted once, added to the loss.
            use_cache: whether to return a cache.
            logits_to_keep: the number of last positions to return logits for (0: all), or their indices.
            token_type_ids: shape ``(B, T)``.
            past_key_values: the older name of ``cache``; either is taken, whatever the version of transformers.
            kwargs: flags, handed on to the base model; ``shift_labels`` and ``num_items_in_batch`` as in transformers;
                ``cu_seq_lens_q`` and its like for packed texts. Tensors of other names are refused.

        Returns:
            ``logits`` of shape ``(B, T', V)``; with ``labels`` the mean cross-entropy as ``loss``; hidden states and
            attentions, where asked for, of the unpermuted rows.

        Raises:
            EquiLMError: for ``inputs_embeds``, images, and what else the group cannot act on, by name.
        """
        if inputs_embeds is not None or input_ids is None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        num_items, shift_labels = kwargs.pop("num_items_in_batch", None), kwargs.pop("shift_labels", None)
        return_dict = kwargs.pop("return_dict", None)
        kwargs |= {"attention_mask": attention_mask, "position_ids": position_ids, "token_type_ids": token_type_ids}
        kwargs |= {"use_cache": use_cache, "return_dict": True}
        cache = one_cache(cache=cache, past_key_values=past_key_values, cache_params=kwargs.pop("cache_params", None))
        router_loss = None
        if not torch.compiler.is_compiling() and self.is_plain:
            kwargs = {k: v for k, v in kwargs.items() if k not in PER_TEXT or k in self._base_arguments}
            if cache is not None:
                kwargs[self._cache_name] = cache
            outputs = self.language_model(input_ids=input_ids, **kwargs)
            logits = outputs.logits[:, kept_positions(logits_to_keep)]
            unpermuted = torch.arange(len(logits), device=logits.device)
        else:
            batch = self._with_positions(self._batch(input_ids, kwargs), cache)
            routed = self._routes(kwargs) and labels is not None
            logits, outputs, unpermuted = self._average(batch, cache, logits_to_keep, labels if routed else None)
            router_loss = outputs.get("router_loss") if routed else None

        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=logits.shape[-1],
                num_items_in_batch=num_items,
                **({} if shift_labels is None else {"shift_labels": shift_labels}),
            )
        output = CausalLMOutputWithPast(
            loss=loss if router_loss is None else loss + router_loss,
            logits=logits,
            **{CACHE: cache_of(outputs)},
            hidden_states=choose(outputs.get("hidden_states"), unpermuted),
            attentions=choose(outputs.get("attentions"), unpermuted),
        )
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        answer: Any = output if wants_dict else output.to_tuple()
        return answer

    def _batch(self, input_ids: Tensor, arguments: dict[str, Any]) -> TextBatch:
        """What is given for the texts, sorted; what cannot be given to their copies is refused."""
        per_text = take_per_text(arguments, self._base_arguments)
        starts = None
        if not torch.compiler.is_compiling():
            flash, mask = is_flash_attention_requested(self.language_model.config), per_text.get("attention_mask")
            flash = flash and (mask is None or (isinstance(mask, Tensor) and bool(mask.all())))
            starts = take_packing(arguments, input_ids, per_text.get("position_ids"), flash)
        refuse_unknown(arguments)
        return TextBatch(input_ids, per_text, arguments, starts)

    def _with_positions(self, batch: TextBatch, cache: Any) -> TextBatch:
        """With positions of the base model's own kind, if it has any and none are given."""
        if "position_ids" in batch.per_text or torch.compiler.is_compiling():
            return batch
        pictures = {} if batch.pictures is None else batch.pictures.arguments
        positions = own_positions(self.language_model, batch.ids, {**batch.per_text, **pictures, CACHE: cache})
        return batch if positions is None else replace(batch, per_text={**batch.per_text, "position_ids": positions})

    def _average(
        self, batch: TextBatch, cache: Any, logits_to_keep: int | Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Any, Tensor]:
        """φ(x), shape ``(B, T', V)``; the base model's outputs on the permuted rows; the unpermuted ones among them.

        With ``labels`` the outputs hold ``router_loss``, what the base model adds to its loss for all |G|·B rows.
        """
        length = batch.ids.shape[1]
        copies = self.action.orbit(batch.ids)  # (|G|, B, T)
        whole = batch.flags.get("output_hidden_states") or batch.flags.get("output_attentions")  # of all tokens
        eager = not torch.compiler.is_compiling()
        if eager and is_filled(cache):
            use = self._continues_caches()
            if use == "none":
                raise EquiLMError(
                    f"{type(self.language_model).__name__} does not continue its cache as it reads a whole text. Pass "
                    "the whole text without a cache; generate() does so by itself."
                )
            if use == "steps" and length > 1:
                if whole:
                    raise EquiLMError(
                        f"{type(self.language_model).__name__} takes single tokens after its cache, so hidden states "
                        "and attentions of several are not to be had. Pass the whole text without a cache."
                    )
                return self._step_by_step(batch, cache, logits_to_keep)

        fixed = not eager or is_static(cache) or not self._shares_rows or batch.starts is not None or labels is not None
        rows = self._all_rows(copies, batch, cache) if fixed else self._rows(copies, batch, cache)
        last_only = isinstance(logits_to_keep, int) and logits_to_keep == 1
        split = 0 if fixed or whole or not last_only else self._shared_prefix(copies, rows, batch, cache)
        if split > 0:
            self._average(batch.between(0, split), cache, torch.empty(0, dtype=torch.int64))  # no logits
            return self._average(batch.between(split, length), cache, logits_to_keep)

        if isinstance(cache, OrbitCache) and cache.branches is not None and not cache.static:
            cache.fork(cache.branches.flatten()[rows.first])
        if eager and is_filled(cache) and all(cache.is_linear):
            batch = batch.without_past()
        arguments = batch.of_rows(copies, rows)
        kept = kept_positions(logits_to_keep)
        if self._may_project and not self._routes(batch.flags):
            if cache is not None:
                arguments[self._trunk_cache_argument or CACHE] = cache
            with encoded_once(self.language_model, batch.picture_copies(rows)):
                outputs = trunk(self.language_model)(**arguments)
            logits = self._project(outputs.last_hidden_state[:, kept], rows)
        else:
            if cache is not None:
                arguments[self._cache_name] = cache
            if labels is not None:
                arguments["labels"] = rows.select(labels)
            elif "logits_to_keep" in self._base_arguments:
                arguments["logits_to_keep"], kept = logits_to_keep, slice(None)
            if self.orbit_weights is not None:
                arguments["output_hidden_states"] = True
            with encoded_once(self.language_model, batch.picture_copies(rows)):
                outputs = self.language_model(**arguments)
            if self.orbit_weights is not None:
                rows = self._weighed(rows, outputs.hidden_states[-1][:, kept_positions(logits_to_keep)])
            logits = self._mean_logits(outputs.logits[:, kept], rows)
            if labels is not None:
                text_loss = self.loss_function(outputs.logits, arguments["labels"], outputs.logits.shape[-1])
                outputs = {**outputs, "router_loss": outputs.loss - text_loss}
        rows = rows.to(logits.device)
        filled = cache_of(outputs)
        if filled is not None and eager:
            adopt(filled, rows, length)
        return logits, outputs, rows.branches[0]

    def _hidden_states(self, input_ids: Tensor | None, arguments: dict[str, Any]) -> tuple[Tensor, Rows]:
        """Last hidden states of the distinct permuted texts, ``(n, T, H)``, without a cache; and their rows."""
        if input_ids is None:
            raise EquiLMError("EquiLM needs input_ids: the group permutes tokens.")
        batch = self._batch(input_ids, arguments)
        copies = self.action.orbit(input_ids)  # (|G|, B, T)
        packed = batch.starts is not None
        rows = self._all_rows(copies, batch, None) if packed else self._rows(copies, batch, None)
        with encoded_once(self.language_model, batch.picture_copies(rows)):
            hidden = trunk(self.language_model)(**batch.of_rows(copies, rows)).last_hidden_state
        return hidden, self._weighed(rows.to(hidden.device), hidden)

    def _step_by_step(self, batch: TextBatch, cache: Any, logits_to_keep: int | Tensor) -> tuple[Tensor, Any, Tensor]:
        """As `_average`, the new tokens one after another, for caches that take no more."""
        steps = [self._average(batch.between(t, t + 1), cache, 0) for t in range(batch.ids.shape[1])]
        logits = torch.cat([logits for logits, _, _ in steps], 1)  # (B, T, V)
        return logits[:, kept_positions(logits_to_keep)], *steps[-1][1:]

    def _routes(self, flags: dict[str, Any]) -> bool:
        """Whether the base model is asked for what its mixtures of experts add to the loss."""
        asked = flags.get("output_router_logits")
        of_config = self.language_model.config.get_text_config().to_dict().get("output_router_logits")
        return bool(of_config if asked is None else asked) and "output_router_logits" in self._base_arguments

    def _all_rows(self, copies: Tensor, batch: TextBatch, cache: Any) -> Rows:
        rows = all_rows(copies.shape[0], copies.shape[1], copies.device)
        texts = copies.shape[1] if batch.pictures is None else batch.pictures.texts
        if texts in (1, copies.shape[1]):
            return rows
        if is_static(cache):
            raise EquiLMError(
                f"A static cache has its rows in one order, and those of {copies.shape[1] // texts} copies of {texts} "
                "texts with pictures in another. Generate for one text at a time, or leave the static cache out."
            )
        return aligned_rows(rows, texts)

    def _rows(self, copies: Tensor, batch: TextBatch, cache: Any) -> Rows:
        size = copies.shape[1]
        if is_unusual(batch.per_text):
            return self._all_rows(copies, batch, cache)
        parents = None
        if is_filled(cache):
            parents = branches_of(cache)
            if parents.shape[1] != size:
                raise EquiLMError(f"The cache holds {parents.shape[1]} texts, but input_ids {size}.")
        others = {name: value for name, value in batch.per_text.items() if name != "attention_mask"}
        rows = distinct_rows(copies, batch.per_text.get("attention_mask"), tells_apart(others, size), parents)
        return rows if batch.pictures is None else aligned_rows(rows, batch.pictures.texts)

    def _shared_prefix(self, copies: Tensor, rows: Rows, batch: TextBatch, cache: Any) -> int:
        """The number of leading tokens worth running once for all g, before the first equality word."""
        if cache is None:
            return 0
        differs = (copies != copies[0]).flatten(0, 1).any(0)  # (T,)
        length = int(differs.int().argmax()) if bool(differs.any()) else 0
        if length == 0 or not self._pictures_end_before(batch, length):
            return 0
        saved = len(rows.first) - len(self._rows(copies[..., :length], batch.between(0, length), cache).first)
        return length if saved * length >= self._worth_a_pass and self._continues_caches() == "chunks" else 0

    def _pictures_end_before(self, batch: TextBatch, length: int) -> bool:
        """Whether the first tokens hold all pictures, so that the others can be read after them without pictures."""
        return True  # there are none


def kept_positions(logits_to_keep: int | Tensor) -> slice | Tensor:
    """As an index: the last positions, all for 0, or those named."""
    return slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
