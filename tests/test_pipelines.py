"""transformers' text-generation pipeline and streamers on a wrapped model."""

from threading import Thread
from typing import Any

import pytest
from transformers import TextIteratorStreamer, TextStreamer, pipeline
from word_models import word_model, word_tokenizer

from equilm import EquiLMForCausalLM

pytestmark = pytest.mark.allow_deprecated  # older pipelines hand generate() both a configuration and settings

PROMPTS = ["The man worked as", "The queen was known for the", "The doctor was late because he"]
SWAPPED = ["The woman worked as", "The king was known for the", "The doctor was late because she"]
SETTINGS: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def generator() -> Any:
    tokenizer: Any = word_tokenizer()
    tokenizer.padding_side = "left"
    model = EquiLMForCausalLM.from_base(word_model(tokenizer), tokenizer)
    # Whole words only, so that texts can be tokenized again: a random model would also write bytes and run words on.
    texts = tokenizer.batch_decode([[token] for token in range(model.action.vocab_size)])
    model.generation_config.suppress_tokens = [token for token, text in enumerate(texts) if not text.startswith(" ")]
    return pipeline("text-generation", model=model, tokenizer=tokenizer)


def texts(outputs: Any) -> list[str]:
    return [output[0]["generated_text"] for output in outputs]


def swap(generator: Any, text: str) -> str:
    ids = generator.tokenizer(text, return_tensors="pt").input_ids
    return generator.tokenizer.decode(generator.model.action.act(ids, 1)[0])


def test_one_by_one_and_in_batches(generator: Any) -> None:
    assert [swap(generator, prompt) for prompt in PROMPTS] == SWAPPED
    alone = [generator(prompt, **SETTINGS)[0]["generated_text"] for prompt in PROMPTS]
    assert all(text.startswith(prompt) and text != prompt for text, prompt in zip(alone, PROMPTS, strict=True))
    assert texts(generator(PROMPTS, batch_size=2, **SETTINGS)) == alone
    assert texts(generator(SWAPPED, batch_size=3, **SETTINGS)) == [swap(generator, text) for text in alone]


def test_streams(generator: Any, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, model = generator.tokenizer, generator.model
    expected = generator(SWAPPED[0], return_full_text=False, **SETTINGS)[0]["generated_text"]
    capsys.readouterr()
    generator(SWAPPED[0], streamer=TextStreamer(tokenizer, skip_prompt=True), **SETTINGS)
    assert capsys.readouterr().out == expected + "\n"

    streamer: Any = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=60)
    inputs = tokenizer(SWAPPED[0], return_tensors="pt")
    thread = Thread(target=model.generate, kwargs={**inputs, **SETTINGS, "streamer": streamer})
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces) == expected and len(pieces) > 2
