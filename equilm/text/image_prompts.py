"""Prompts with pictures: opening images, and what a model's processor makes of texts and the images in them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import ProcessorMixin
from transformers.image_utils import load_image
from transformers.utils.import_utils import is_vision_available

from ..errors import EquiLMError

# How long a server may take to begin to send a picture, in seconds.
_TIMEOUT_S = 30.0


def open_image(source: str | os.PathLike[str]) -> Any:
    """A picture as a ``PIL.Image.Image`` in RGB, turned upright.

    Args:
        source: the path of a file, or an address that begins with ``http://`` or ``https://``.

    Raises:
        EquiLMError: for what is not there or is no picture, and without pillow.
    """
    if not is_vision_available():
        raise EquiLMError("Pictures need pillow. Run: pip install pillow")
    name = os.fspath(source)
    is_address = name.startswith(("http://", "https://"))
    if not is_address and not Path(name).is_file():
        raise EquiLMError(f"There is no file {name!r}: expected a picture, or an address that begins with https://.")
    try:
        if is_address:
            return load_image(name, timeout=_TIMEOUT_S)
        from PIL import Image

        with Image.open(name) as image:
            return load_image(image)
    except Exception as error:  # decoders of pictures, and connections, fail in many ways
        what = "The address" if is_address else "The file"
        raise EquiLMError(f"{what} {name!r} is no picture that can be read, such as PNG or JPEG. {error}") from error


def image_inputs(
    processor: Any, prompts: Sequence[str], images: Sequence[Any], answers: Sequence[str] | None = None
) -> Any:
    """What a model that reads pictures takes: each prompt with the same images, as one message of a user.

    The processor's chat template puts them together, if it has one. Otherwise the text is continued as it is. Where a
    prompt names the places of the images, by the processor's image token such as ``<image>``, they stand there;
    otherwise before the text.

    Args:
        processor: the model's processor, from ``AutoProcessor.from_pretrained``.
        prompts: texts.
        images: one image or several, as `open_image` returns them.
        answers: how the answers begin, one for each prompt, for the model to go on with. None: they begin anew.

    Returns:
        The processor's ``BatchFeature``: ``input_ids`` of shape ``(len(prompts), T)``, padded on the left,
        ``attention_mask``, ``pixel_values`` and what else the model takes, for ``model.generate(**inputs)``.

    Raises:
        EquiLMError: for the tokenizer of a model of text, for no image, for a prompt that names another number of
            images, and for another number of answers than prompts.
    """
    if not isinstance(processor, ProcessorMixin):
        raise EquiLMError(
            f"A {type(processor).__name__} was given, which knows no pictures: images need a model that reads them, "
            "and its processor from AutoProcessor.from_pretrained."
        )
    if not images:
        raise EquiLMError("No image is given. A model that reads pictures can also be given text alone: tokenize it.")
    if answers is not None and len(answers) != len(prompts):
        raise EquiLMError(f"Expected an answer for each of {len(prompts)} prompts, got {len(answers)}.")
    token = str(getattr(processor, "image_token", None) or "")  # some families, such as BLIP, have none
    texts = [_with_places(prompt, token, len(images)) for prompt in prompts]
    settings: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "left"}
    if processor.chat_template is None:
        ends = [""] * len(texts) if answers is None else [f" {answer}" for answer in answers]
        joined = [token.join(pieces) + end for pieces, end in zip(texts, ends, strict=True)]
        return processor(text=joined, images=[list(images) for _ in texts], **settings)
    chats: Any = [[{"role": "user", "content": _parts(pieces, images)}] for pieces in texts]
    for chat, answer in zip(chats, answers or (), strict=answers is not None):
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return processor.apply_chat_template(
        chats,
        add_generation_prompt=answers is None,
        continue_final_message=answers is not None,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=settings,
    )


def _with_places(prompt: str, token: str, count: int) -> list[str]:
    """The pieces of a prompt between its images."""
    pieces = prompt.split(token) if token else [prompt]
    if len(pieces) == 1:
        return [*[""] * count, prompt]
    if len(pieces) - 1 != count:
        raise EquiLMError(
            f"The prompt {prompt!r} names {len(pieces) - 1} images by {token}, but the number of images given is "
            f"{count}. Give one image for each {token}, or leave {token} out to have all of them before the text."
        )
    return pieces


def _parts(pieces: Sequence[str], images: Sequence[Any]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image", "image": images[number - 1]})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts
