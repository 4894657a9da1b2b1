"""EquiLM and R-EquiLM around any encoder-decoder language model of transformers, such as T5 and BART."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, MoEModelOutput, Seq2SeqLMOutput

from ._base_arguments import refuse_unknown
from ._compat import CACHE, cache_of, one_cache
from ._modeling_base import EquiLMPreTrainedModel
from ._orbit_rows import OrbitCache, Rows, adopt, all_rows, branches_of, choose, distinct_rows, is_static, per_row
from ._self_check import CacheUse
from .actions import TokenAction
from .configuration_equilm import EquiLMSeq2SeqConfig
from .errors import EquiLMError


@dataclass
class OrbitEncoderOutput(BaseModelOutput):
    """What the encoder made of all g·x_b.

    What is in `BaseModelOutput`, such as ``last_hidden_state`` of shape ``(B, T, H)``, is of the texts as they are.

    Args:
        states: the last hidden states of the n distinct rows, shape ``(n, T, H)``, as a tuple of one: generate()
            repeats the tensors it finds in encoder outputs for every beam, and these serve all beams as they are.
        branches: int64, shape ``(B, |G|)``: the row of ``states`` that holds g·x_b.
    """

    states: tuple[Tensor] | None = None
    branches: Tensor | None = None


class OrbitEncoder(nn.Module):
    """An encoder that takes B texts and encodes their orbits.

    Args:
        encoder: the base model's encoder.
        action: the action on token ids.
        shares_rows: whether equal rows run once; otherwise all |G|·B rows run.
    """

    def __init__(self, encoder: PreTrainedModel, action: TokenAction, shares_rows: bool = True):
        super().__init__()
        self.encoder = encoder
        self.action = action
        self.shares_rows = shares_rows

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
    ) -> OrbitEncoderOutput:
        """Encode the orbits of texts.

        Args:
            input_ids: int64, shape ``(B, T)``.
            attention_mask: shape ``(B, T)``; None: all ones.
            inputs_embeds: refused: an embedding cannot be permuted.
            output_attentions: whether to return the attentions, of the unpermuted texts.
            output_hidden_states: whether to return the hidden states of all layers, of the unpermuted texts.
            return_dict: an `OrbitEncoderOutput` is returned either way.

        Raises:
            EquiLMError: for ``inputs_embeds``, and for a mask that is not of shape ``(B, T)``.
        """
        if inputs_embeds is not None or input_ids is None:
            raise EquiLMError(
                "EquiLM needs input_ids: the group permutes tokens, and inputs_embeds cannot be permuted. Pass the "
                "token ids, or use model.plain() to run the base model unfairly."
            )
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise EquiLMError(
                f"attention_mask has shape {tuple(attention_mask.shape)} and input_ids {tuple(input_ids.shape)}: the "
                "encoder needs a mask with one entry for each token."
            )
        copies = self.action.orbit(input_ids)  # (|G|, B, T)
        order, batch, _ = copies.shape
        if torch.compiler.is_compiling() or not self.shares_rows:
            rows = all_rows(order, batch, copies.device)
        else:
            rows = distinct_rows(copies, attention_mask, None, None)
        outputs = self.encoder(
            input_ids=copies.flatten(0, 1)[rows.first],  # (n, T)
            attention_mask=None if attention_mask is None else rows.select(attention_mask),
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        states = outputs.last_hidden_state  # (n, T, H)
        rows = rows.to(states.device)
        unpermuted = rows.branches[0]
        return OrbitEncoderOutput(
            last_hidden_state=states[unpermuted],
            hidden_states=choose(outputs.get("hidden_states"), unpermuted),
            attentions=choose(outputs.get("attentions"), unpermuted),
            states=(states,),
            branches=rows.branches.T,
        )


def check_encoded(encoder_outputs: Any, batch: int) -> OrbitEncoderOutput:
    """Refuse encoder outputs that are not of ``batch`` texts' orbits.

    Raises:
        EquiLMError: names what was given.
    """
    if not isinstance(encoder_outputs, OrbitEncoderOutput):
        raise EquiLMError(
            f"encoder_outputs is a {type(encoder_outputs).__name__}, which lacks the permuted texts. Pass what "
            "model.get_encoder()(input_ids, attention_mask) of this model returns, or input_ids."
        )
    encoded = len(cast(Tensor, encoder_outputs.branches))
    if encoded != batch:
        raise EquiLMError(f"encoder_outputs holds {encoded} texts, but decoder_input_ids {batch}.")
    return encoder_outputs


class EquiLMForSeq2SeqLM(EquiLMPreTrainedModel, GenerationMixin):
    """An encoder-decoder that treats demographic groups alike: P(gY|gX) = P(Y|X) (paper, eq. 4).

    The group acts on the encoder's text x and the decoder's text y alike: the logits after y are
    φ(x, y)[v] = 1/|G| Σ_g M(g·x, g·y)[g·v] (eq. 3), and with ``config.relaxed`` φ(x, y)[v] = M(x, y)[v] for the
    general words. Build it with `from_base`.

    Args:
        config: an `EquiLMSeq2SeqConfig`.
        language_model: the base model to wrap; it is shared and left unchanged. None builds one from the config.

    Raises:
        EquiLMError: for a decoder that has an encoder for sounds or images beside it, and for a model whose encoder and
            decoder may have different vocabularies.
    """

    config_class = EquiLMSeq2SeqConfig
    config: EquiLMSeq2SeqConfig
    base_auto_class: ClassVar[Any] = AutoModelForSeq2SeqLM

    def __init__(self, config: EquiLMSeq2SeqConfig, language_model: PreTrainedModel | None = None):
        if language_model is not None:
            _check_reads_text(language_model)
            _check_one_vocabulary(language_model)
        super().__init__(config, language_model)
        self.loss_type = "ForMaskedLM"  # cross-entropy without a shift: the decoder's input is shifted already

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """The encoder of the permuted texts; what it returns is what ``encoder_outputs`` takes.

        Inside `plain` it is the base model's.
        """
        return self.language_model.get_encoder(modality=modality) if self.is_plain else self._orbit_encoder()

    def _orbit_encoder(self) -> OrbitEncoder:
        return OrbitEncoder(cast(Any, self.language_model.get_encoder()), self.action, self._shares_rows)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels shifted to the right, as the base model does: int64, shape ``(B, T)``."""
        return cast(Any, self.language_model).prepare_decoder_input_ids_from_labels(labels=labels)

    def _check_texts(self, ids: Tensor) -> dict[str, Tensor]:
        return {"input_ids": ids, "decoder_input_ids": ids.flip(1)}

    def _check_arguments(self, texts: dict[str, Tensor]) -> dict[str, Any]:
        return {"encoder_outputs": self.get_encoder()(texts["input_ids"])}

    def _continues_caches(self) -> CacheUse:
        return self.cache_use or "chunks"  # what probes a causal model cannot run this one; the self-check can

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `FairGenerationMixin.generate`: ``inputs`` are the encoder's texts, what is returned the decoder's.

        The encoder runs once. Ties are broken by elements that leave as they are the encoder's text and, where given,
        ``decoder_input_ids``, with which the decoder's text begins.

        Raises:
            EquiLMError: also for ``encoder_outputs`` and ``decoder_inputs_embeds``.
        """
        if not self.is_plain:
            for name in ("encoder_outputs", "decoder_inputs_embeds"):
                if kwargs.get(name) is not None:
                    raise EquiLMError(
                        f"Fair generation needs token ids, got {name}. Pass input_ids: the encoder runs only once."
                    )
        return super().generate(inputs, *args, **kwargs)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        cache: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """The averaged logits.

        Args:
            input_ids: the encoder's texts, int64, shape ``(B, S)``, padded on either side.
            attention_mask: shape ``(B, S)``.
            decoder_input_ids: the decoder's texts, int64, shape ``(B, T)``; None: ``labels`` shifted to the right.
            decoder_attention_mask: shape ``(B, T + past)``, or the 4D mask of a static cache.
            encoder_outputs: what `get_encoder` returned for these texts; ``input_ids`` may then be left out.
            cache: a cache that this model has filled, or an empty one. It knows which of its rows holds
                which g·(x_b, y_b) and answers for B texts when cropped, reordered or repeated (`equilm._orbit_rows`).
            inputs_embeds: refused: an embedding cannot be permuted.
            decoder_inputs_embeds: likewise.
            labels: int64, shape ``(B, T)``, -100 where there is no loss. They are not shifted, so ``shift_labels`` is
                refused, as is the loss that mixtures of experts add for their routers.
            use_cache: whether to return a cache; None: as the base model's configuration says, and not with labels.
            past_key_values: the older name of ``cache``; either is taken, whatever the version of transformers.
            kwargs: flags, handed on to the base model's decoder; ``num_items_in_batch`` and ``return_dict`` as in
                transformers. Tensors and objects of other names are refused.

        Returns:
            ``logits`` of shape ``(B, T, V)``; with ``labels`` the mean cross-entropy as ``loss``; hidden states and
            attentions, where asked for, of the unpermuted rows.

        Raises:
            EquiLMError: for inputs that the group cannot act on.
        """
        num_items, return_dict = kwargs.pop("num_items_in_batch", None), kwargs.pop("return_dict", None)
        self._refuse_other_losses(kwargs, labels)
        if labels is not None:
            use_cache = bool(use_cache)
            if decoder_input_ids is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        embeds = {"inputs_embeds": inputs_embeds, "decoder_inputs_embeds": decoder_inputs_embeds}
        kwargs |= {"use_cache": use_cache, "return_dict": True}
        cache = one_cache(cache=cache, past_key_values=past_key_values)
        if not torch.compiler.is_compiling() and self.is_plain:
            outputs = self.language_model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                decoder_attention_mask=decoder_attention_mask,
                encoder_outputs=encoder_outputs,
                **{self._cache_name: cache},
                **embeds,
                **kwargs,
            )
        else:
            _refuse_embeddings(embeds)
            refuse_unknown(kwargs)
            if decoder_input_ids is None:
                raise EquiLMError("EquiLM needs decoder_input_ids, or labels to make them from.")
            if encoder_outputs is None:
                details = {name: kwargs.get(name) for name in ("output_attentions", "output_hidden_states")}
                encoder_outputs = self._orbit_encoder()(input_ids, attention_mask, **details)
            encoded = check_encoded(encoder_outputs, len(decoder_input_ids))
            outputs = self._average(encoded, attention_mask, decoder_input_ids, decoder_attention_mask, cache, kwargs)
        if labels is not None:
            loss = self.loss_function(
                logits=outputs.logits,
                labels=labels,
                vocab_size=outputs.logits.shape[-1],
                num_items_in_batch=num_items,
            )
            outputs = type(outputs)(**{**outputs, "loss": loss})  # anew, for its place among the others
        wants_dict = self.config.return_dict if return_dict is None else return_dict
        return outputs if wants_dict else outputs.to_tuple()

    def _refuse_other_losses(self, given: dict[str, Any], labels: Tensor | None) -> None:
        """Take out of the keywords what asks for another loss than that of `labels`, or refuse it by name."""
        if given.pop("shift_labels", None) is not None:
            raise EquiLMError("shift_labels: the labels of an encoder-decoder are not shifted. Pass them as labels.")
        asked = given.pop("output_router_logits", None)
        of_config = self.language_model.config.to_dict().get("output_router_logits") and labels is not None
        if asked or (asked is None and of_config):
            raise EquiLMError(
                f"output_router_logits: the loss that {type(self.language_model).__name__} adds for its routers is not "
                "computed for the permuted texts. Pass output_router_logits=False to train without it."
            )

    def _average(
        self,
        encoded: OrbitEncoderOutput,
        attention_mask: Tensor | None,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None,
        cache: Any,
        kwargs: dict[str, Any],
    ) -> Seq2SeqLMOutput:
        """φ(x, y), with the base model's other outputs on the unpermuted rows."""
        batch = len(decoder_input_ids)
        copies = self.action.orbit(decoder_input_ids)  # (|G|, B, T)
        branches = cast(Tensor, encoded.branches).T.to(copies.device)  # (|G|, B): the encoded rows
        rows = self._rows(copies, decoder_attention_mask, branches, cache)  # n distinct rows serve |G|·B pairs
        if isinstance(cache, OrbitCache) and cache.branches is not None and not cache.static:
            cache.fork(cache.branches.flatten()[rows.first])

        states = cast(Any, encoded.states)[0]  # (n encoded, S, H)
        states = states[branches.flatten()[rows.first].to(states.device)]  # (n, S, H)
        masks = (attention_mask, decoder_attention_mask)
        mask, decoder_mask = (None if given is None else per_row(given, rows, batch) for given in masks)
        row_ids = copies.flatten(0, 1)[rows.first]  # (n, T)
        layers: dict[str, Any]
        if self._may_project:
            outputs = self.language_model.get_decoder()(
                input_ids=row_ids,
                attention_mask=decoder_mask,
                encoder_hidden_states=states,
                encoder_attention_mask=mask,
                **{self._trunk_cache_argument or CACHE: cache},
                **kwargs,
            )
            logits = self._project(outputs.last_hidden_state, rows)  # (B, T, V)
            layers = {"decoder_hidden_states": outputs.hidden_states, "decoder_attentions": outputs.attentions}
        else:
            outputs = self.language_model(
                decoder_input_ids=row_ids,
                decoder_attention_mask=decoder_mask,
                encoder_outputs=MoEModelOutput(last_hidden_state=states),  # some bases ask for its router_logits
                attention_mask=mask,
                **{self._cache_name: cache},
                **kwargs,
            )
            logits = self._mean_logits(outputs.logits, rows)  # (B, T, V)
            layers = {name: outputs.get(name) for name in ("decoder_hidden_states", "decoder_attentions")}
        layers["cross_attentions"] = outputs.get("cross_attentions")

        rows = rows.to(logits.device)
        filled = cache_of(outputs)
        if filled is not None and not torch.compiler.is_compiling():
            adopt(filled, rows, copies.shape[-1])
        return Seq2SeqLMOutput(
            logits=logits,
            **{CACHE: filled},
            encoder_last_hidden_state=encoded.last_hidden_state,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            **{name: cast(Any, choose(value, rows.branches[0])) for name, value in layers.items()},
        )

    def _rows(self, copies: Tensor, mask: Tensor | None, encoded: Tensor, cache: Any) -> Rows:
        """The rows of the decoder: the distinct pairs of an encoded text and a decoder's text."""
        order, batch = copies.shape[:2]
        if cache is not None and not isinstance(cache, EncoderDecoderCache):
            raise EquiLMError(f"The cache is a {type(cache).__name__}; pass an EncoderDecoderCache.")
        if isinstance(cache, OrbitCache) and cache.branches is not None and cache.branches.shape[1] != batch:
            raise EquiLMError(f"The cache holds {cache.branches.shape[1]} texts, but decoder_input_ids {batch}.")
        fixed = torch.compiler.is_compiling() or is_static(cache) or not self._shares_rows
        if fixed or (mask is not None and mask.ndim != 2):
            return all_rows(order, batch, copies.device)
        filled = cache is not None and any(cache.is_updated.values())
        return distinct_rows(copies, mask, None, branches_of(cache) if filled else encoded)


def _check_one_vocabulary(model: PreTrainedModel) -> None:
    """Refuse a model whose token ids may mean one thing to its encoder and another to its decoder."""
    parts = [model.get_encoder(), model.get_decoder()]
    weights = [part.get_input_embeddings().weight for part in parts if isinstance(part, PreTrainedModel)]
    if len(weights) < 2 or weights[0] is not weights[1]:
        raise EquiLMError(
            f"The encoder and the decoder of {type(model).__name__} have embeddings of their own, so one token id may "
            "be two words, and one table cannot permute both. EquiLMForSeq2SeqLM wraps models that share them, such "
            "as T5 and BART; TextSymmetrizer makes any model fair on text."
        )


def _check_reads_text(model: PreTrainedModel) -> None:
    """Refuse a decoder whose encoder is for sounds or images: transformers lists some among the encoder-decoders."""
    if not model.config.is_encoder_decoder:
        raise EquiLMError(
            f"{type(model).__name__} is a decoder, whose encoder is for sounds or images and not for text. Wrap it "
            "with EquiLMForCausalLM."
        )


def _refuse_embeddings(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None:
            raise EquiLMError(
                f"EquiLM cannot give {name} to the permuted texts: the group permutes token ids. Leave it out, or use "
                "model.plain() to run the base model unfairly."
            )
