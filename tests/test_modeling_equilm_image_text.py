"""EquiLMForImageTextToText: the definition with the same pictures for all copies, eq. 4, one encoding for a picture."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from image_text_models import IMAGE_TEXT, PICTURE, random_pictures, tiny_image_text
from models import AXES, BOS
from torch import Tensor
from transformers import AutoModelForImageTextToText, PreTrainedModel, T5Gemma2Config
from word_models import word_tokenizer

from equilm import EquiLMConfig, EquiLMError, EquiLMForCausalLM, EquiLMForImageTextToText, EquiLMWarning
from equilm._compat import CACHE
from equilm._pictures import Pictures
from equilm._self_check import SelfCheck

# Older versions of transformers warn of a name in their own Mllama.
pytestmark = pytest.mark.filterwarnings("ignore:`hidden_state` is deprecated:FutureWarning")
# Newer versions of transformers have another name for it.
CHECKPOINTING = next(
    name for name in ("activation_checkpointing", "gradient_checkpointing") if f"{name}_enable" in dir(PreTrainedModel)
)
# In every test; the others where they matter most, and in the slow tests.
USUAL = ("llava", "qwen3_5", "mllama")
EACH = [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in IMAGE_TEXT]
SETTINGS: dict[str, Any] = {"max_new_tokens": 5, "output_logits": True, "return_dict_in_generate": True}


def wrapped(name: str, axes: str = "d3", **settings: Any) -> tuple[Any, Any]:
    """The model, and what makes its inputs."""
    base, inputs = tiny_image_text(name)
    model = EquiLMForImageTextToText(EquiLMConfig(text_config=base.config, cycles=AXES[axes], **settings), base).eval()
    if name == "llama4":
        try:
            base(**inputs([[BOS, 30]], random_pictures(0)))
        except AttributeError:
            pytest.skip("its forward pass reads a field that is not there, with and without pictures")
    return model, inputs


def texts(axes: str, seed: int, pictures_per_text: tuple[int, ...] = (1, 0, 2)) -> list[list[int]]:
    """Texts of random tokens with two words of the axes each, and pictures before, between and after them."""
    generator = torch.Generator().manual_seed(seed)

    def draw(choices: list[int], count: int) -> list[int]:
        return [choices[i] for i in torch.randint(len(choices), (count,), generator=generator).tolist()]

    words = [token for lists in AXES[axes] for row in lists for token in row]
    found = []
    for count in pictures_per_text:
        text = [*draw(list(range(30, 48)), 4), *draw(words, 2)]
        order = torch.randperm(len(text), generator=generator).tolist()
        text = [text[i] for i in order]
        for place in sorted(torch.randint(len(text) + 1, (count,), generator=generator).tolist(), reverse=True):
            text.insert(place, PICTURE)
        found.append([BOS, *text])
    return found


def case(model: Any, inputs: Any, name: str, axes: str, seed: int) -> dict[str, Tensor]:
    """Inputs of three texts; of one picture each where the architecture takes no other number."""
    counts = (1, 1, 1) if name == "paligemma" else (1, 0, 2)
    given: dict[str, Tensor] = inputs(texts(axes, seed, counts), random_pictures(sum(counts), seed))
    return given


@torch.no_grad()
def definition(model: Any, given: dict[str, Tensor]) -> Tensor:
    """1/|G| Σ_g M(g·x, pictures)[g·v], one permuted copy of the batch after another."""
    total: Any = 0
    for row in model.permutation:
        logits = model.language_model(**{**given, "input_ids": row[given["input_ids"]]}, use_cache=False).logits
        total = total + logits[..., row[: logits.shape[-1]]]
    return total / len(model.permutation)


def read(given: dict[str, Tensor], logits: Tensor) -> Tensor:
    """The logits at tokens that are no padding."""
    return logits[given["attention_mask"].bool()]


@torch.no_grad()
@pytest.mark.parametrize("axes", ["d2", "d3", "2x3"])
@pytest.mark.parametrize("name", IMAGE_TEXT)
def test_forward_is_the_definition_and_satisfies_equation_4(name: str, axes: str) -> None:
    model, inputs = wrapped(name, axes)
    given = case(model, inputs, name, axes, seed := int(torch.seed() % 2**31))
    logits = model(**given).logits
    torch.testing.assert_close(read(given, logits), read(given, definition(model, given)), atol=1e-4, rtol=1e-4)
    log_probs = logits.log_softmax(-1)
    for g in model.group.elements:
        row = model.permutation[g]
        swapped = model(**{**given, "input_ids": row[given["input_ids"]]}).logits.log_softmax(-1)
        gap = (swapped[..., row[: logits.shape[-1]]] - log_probs).abs()
        assert float(read(given, gap).max()) <= 1e-4, f"seed {seed}, element {g}"


@pytest.mark.parametrize("name", EACH)
def test_the_picture_matters_and_so_does_its_text(name: str) -> None:
    model, inputs = wrapped(name)
    given = case(model, inputs, name, "d3", 1)
    other = inputs(texts("d3", 1, (1, 1, 1) if name == "paligemma" else (1, 0, 2)), random_pictures(3, 7))
    with torch.no_grad():
        assert float(read(given, model(**given).logits - model(**other).logits).abs().max()) > 1e-2


@pytest.mark.parametrize("axes", ["d3", pytest.param("2x3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EACH)
def test_generate_reads_the_logits_of_separate_generations(name: str, axes: str) -> None:
    model, inputs = wrapped(name, axes)
    given = case(model, inputs, name, axes, seed=3)
    output = model.generate(**given, **SETTINGS, do_sample=False)
    new = output.sequences[:, given["input_ids"].shape[1] :]
    total: Any = 0
    for row in model.permutation:
        # The base model alone, made to write the same text in the words of this copy.
        path = row[new]

        def along(_batch: int, sent: Tensor, path: Tensor = path, length: int = given["input_ids"].shape[1]) -> Any:
            return path[_batch, len(sent) - length, None].tolist()

        copy = {**given, "input_ids": row[given["input_ids"]]}
        plain = model.language_model.generate(
            **copy, **SETTINGS, do_sample=False, prefix_allowed_tokens_fn=along, suppress_tokens=None
        )
        logits = torch.stack(plain.logits, 1)
        total = total + logits[..., row[: logits.shape[-1]]]
    expected = total / len(model.permutation)
    torch.testing.assert_close(torch.stack(output.logits, 1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", EACH)
def test_one_seed_gives_one_text_for_all_groups(name: str) -> None:
    model, inputs = wrapped(name)
    given = case(model, inputs, name, "d3", seed=4)
    for settings in ({"do_sample": True, "num_return_sequences": 2}, {"num_beams": 3, "num_return_sequences": 2}):
        for g in (1, 2):
            row = model.permutation[g]
            torch.manual_seed(5)
            first = model.generate(**given, max_new_tokens=6, **settings)
            torch.manual_seed(5)
            second = model.generate(**{**given, "input_ids": row[given["input_ids"]]}, max_new_tokens=6, **settings)
            assert torch.equal(row[first], second)


@pytest.mark.parametrize("name", ["llava", "qwen3_5", "idefics3", "mllama"])
def test_return_sequences_belong_to_their_pictures(name: str) -> None:
    """The first new token's logits are those of the text and its own pictures, for each of its copies."""
    model, inputs = wrapped(name)
    given = case(model, inputs, name, "d3", seed=6)
    expected = definition(model, given)[:, -1].repeat_interleave(3, 0)
    torch.manual_seed(0)
    output = model.generate(**given, **SETTINGS, do_sample=True, num_return_sequences=3)
    torch.testing.assert_close(output.logits[0], expected, atol=1e-4, rtol=1e-4)


def test_return_sequences_where_no_rows_are_shared() -> None:
    model, inputs = wrapped("llava")
    given = case(model, inputs, "llava", "d3", seed=6)
    expected = definition(model, given)[:, -1].repeat_interleave(2, 0)
    model._shares_rows = False
    output = model.generate(**given, **SETTINGS, do_sample=True, num_return_sequences=2)
    torch.testing.assert_close(output.logits[0], expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(EquiLMError, match="those of 2 copies of 3 texts with pictures in another"):
        model.generate(**given, max_new_tokens=2, num_return_sequences=2, do_sample=True, cache_implementation="static")


def test_a_picture_is_encoded_once() -> None:
    for name in ("llava", "gemma3", "qwen3_5", "idefics3", "paligemma", "mllama"):
        model, inputs = wrapped(name, "2x3")
        base: Any = model.language_model
        seen: list[int] = []
        encoder = base.get_encoder(modality="image")

        def count(_module: Any, _args: Any, output: Any, seen: list[int] = seen) -> None:
            seen.append(len(output[0]))  # as the encoder made it, before it is repeated

        word = AXES["2x3"][0][0][0]
        model(**inputs([[BOS, word, PICTURE]], random_pictures(1)))  # the first call tries two copies
        encoder.register_forward_hook(count)
        # The picture after a word, of which there are several copies; and before it.
        for text in ([BOS, 30, word, PICTURE, 31, 32], [BOS, PICTURE, 30, word, 31, 32]):
            given = inputs([text], random_pictures(1))
            base(**given)
            plain = seen.copy()
            seen.clear()
            model(**given)
            assert seen == plain, f"{name}: {seen} in place of {plain}"
            seen.clear()
            model.generate(**given, max_new_tokens=4, num_beams=2, num_return_sequences=2, do_sample=False)
            assert seen == plain, f"{name}: {seen} in place of {plain} while generating"
            seen.clear()


def test_the_base_model_is_left_as_it_was_for_other_threads() -> None:
    model, inputs = wrapped("llava")
    given = inputs([[BOS, 10, PICTURE, 31]], random_pictures(1))
    with torch.no_grad():
        alone, fair = model.language_model(**given).logits, model(**given).logits
    wrong: list[float] = []

    def many(run: Any, expected: Tensor) -> None:
        for _ in range(20):
            with torch.no_grad():
                wrong.append(float((run(**given).logits - expected).abs().max()))

    threads = [threading.Thread(target=many, args=pair) for pair in 2 * [(model.language_model, alone), (model, fair)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 80 and max(wrong) < 1e-5
    encoder = model.language_model.get_encoder(modality="image")
    assert not encoder._forward_hooks and not encoder._forward_pre_hooks


@pytest.mark.parametrize("name", EACH)
def test_a_cache_is_continued_over_turns(name: str) -> None:
    """After a prefill with pictures, text alone is read on; positions are those of the whole text."""
    if name == "paligemma":
        pytest.skip("it reads a prompt in both directions, so its cache is not continued by another")
    model, inputs = wrapped(name)
    given = case(model, inputs, name, "d3", seed=8)
    more = torch.tensor([[33, 10, 34]] * 3)
    with torch.no_grad():
        first = model(**given, use_cache=True)
        mask = torch.cat([given["attention_mask"], torch.ones_like(more)], 1)
        rest: dict[str, Tensor] = {}
        if name == "mllama":
            seen = given["cross_attention_mask"][:, -1:].expand(-1, 3, -1, -1)
            whole_mask = torch.cat([given["cross_attention_mask"], seen], 1)
            # Older versions cut the new tokens' part out of the mask of all themselves.
            rest["cross_attention_mask"] = seen if CACHE == "cache" else whole_mask
        cache = first.cache if "cache" in first else first.past_key_values
        second = model(input_ids=more, attention_mask=mask, cache=cache, **rest).logits
        whole = dict(given)
        whole["input_ids"] = torch.cat([given["input_ids"], more], 1)
        whole["attention_mask"] = mask
        for kinds in ("token_type_ids", "mm_token_type_ids"):
            if kinds in given:
                whole[kinds] = torch.cat([given[kinds], torch.zeros_like(more)], 1)
        if name == "mllama":
            whole["cross_attention_mask"] = whole_mask
        expected = definition(model, whole)[:, -3:]
    torch.testing.assert_close(second, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", EACH)
def test_plain_is_the_base_model(name: str) -> None:
    model, inputs = wrapped(name)
    given = case(model, inputs, name, "d3", seed=9)
    with torch.no_grad(), model.plain() as base:
        assert torch.equal(model(**given).logits, base(**given).logits)
        assert torch.equal(
            model.generate(**given, max_new_tokens=3, do_sample=False),
            base.generate(**given, max_new_tokens=3, do_sample=False),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relaxed_and_bfloat16(dtype: torch.dtype) -> None:
    model, inputs = wrapped("llava", general_ids=[40], relaxed=True)
    model = model.to(dtype)
    given = inputs([[BOS, 30, 10, PICTURE, 31]], random_pictures(1).to(dtype))
    logits = model(**given).logits
    expected = definition(model, given)
    expected[..., 40] = model.language_model(**given).logits[..., 40]
    tolerance = 1e-4 if dtype == torch.float32 else 0.15
    torch.testing.assert_close(logits, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", ["llava", "qwen3_5"])
def test_training_reaches_the_encoder_as_in_the_definition(name: str) -> None:
    """The gradients are those of the mean over the copies, with the text's layers recomputed or not."""
    model, inputs = wrapped(name)
    given = inputs([[BOS, 30, 10, PICTURE, 31, 11]], random_pictures(1))
    labels = given["input_ids"].masked_fill(given["input_ids"] > 48, -100)
    encoder = model.language_model.get_encoder(modality="image")
    weight = next(p for p in encoder.parameters() if p.ndim > 1)
    gradients = []
    for recomputed in (False, True):
        if recomputed:
            getattr(model, f"{CHECKPOINTING}_enable")()
            model.train()
        model.zero_grad()
        model(**given, labels=labels).loss.backward()
        gradients.append(weight.grad.clone())
    getattr(model, f"{CHECKPOINTING}_disable")()
    model.eval().zero_grad()
    total: Any = 0
    for row in model.permutation:
        logits = model.language_model(**{**given, "input_ids": row[given["input_ids"]]}).logits
        total = total + logits[..., row[: logits.shape[-1]]]
    torch.nn.functional.cross_entropy((total / 3)[0, :-1], labels[0, 1:]).backward()
    assert float(weight.grad.abs().max()) > 1e-4
    for found in gradients:
        torch.testing.assert_close(found, weight.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen3_5", "smolvlm", "paligemma"])
def test_wrapped_with_words_saved_and_loaded(name: str, tmp_path: Path) -> None:
    base, inputs = tiny_image_text(name)
    tokenizer: Any = word_tokenizer()
    base.resize_token_embeddings(len(tokenizer))
    model = EquiLMForImageTextToText.from_base(base, tokenizer, axes=["gender", "race3"])
    assert str(model._checked).startswith("passed") and "switched off" not in str(model._checked)
    model.save_pretrained(tmp_path)
    loaded: Any = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is EquiLMForImageTextToText and type(loaded.language_model) is type(base)
    given = inputs([[BOS, PICTURE, *tokenizer("the man and the woman").input_ids]], random_pictures(1))
    with torch.no_grad():
        assert torch.equal(loaded(**given).logits, model(**given).logits)
    text: Any = EquiLMForCausalLM.from_base(base, tokenizer, axes=["gender", "race3"])
    with pytest.raises(EquiLMError, match=r"pictures go to EquiLMForImageTextToText|EquiLMForImageTextToText"):
        text(**given)


@pytest.mark.slow
def test_a_stranger_loads_it_with_the_code_beside_it(tmp_path: Path) -> None:
    model, inputs = wrapped("llava")
    model.save_pretrained(tmp_path / "fair")
    given = inputs([[BOS, 30, 10, PICTURE, 31]], random_pictures(1))
    torch.save(given, tmp_path / "given.pt")
    torch.save(model(**given).logits.detach(), tmp_path / "expected.pt")
    stranger = """
import sys, torch
torch.set_num_threads(int(sys.argv[2]))
class NotInstalled:
    def find_spec(self, name, *rest):
        if name.split(".")[0] == "equilm":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
from transformers import AutoModelForImageTextToText
folder = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained(folder + "/fair", trust_remote_code=True)
given = torch.load(folder + "/given.pt", weights_only=True)
with torch.no_grad():
    logits = model(**given).logits
assert torch.equal(logits, torch.load(folder + "/expected.pt", weights_only=True))
assert model.generate(**given, max_new_tokens=2).shape[1] == given["input_ids"].shape[1] + 2
print(type(model).__module__.split(".")[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", stranger, str(tmp_path), str(torch.get_num_threads())],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"HF_MODULES_CACHE": str(tmp_path / "modules"), "PATH": ""},
    )
    assert done.returncode == 0 and done.stdout.strip() == "transformers_modules", done.stderr


def test_bad_input_is_one_clear_error() -> None:
    model, inputs = wrapped("llava")
    given = inputs([[BOS, 30, PICTURE, 31]], random_pictures(1))
    with pytest.raises(EquiLMError, match=r"have \[16\] tokens that stand for pictures, but no picture is given"):
        model(input_ids=given["input_ids"])
    with pytest.raises(EquiLMError, match=r"but no picture is given"):
        model.generate(input_ids=given["input_ids"], max_new_tokens=2)
    for pictures in (random_pictures(2), random_pictures(3)):
        with pytest.raises(EquiLMError, match=r"cannot put the pictures into the texts, which have \[16\] tokens"):
            model(**{**given, "pixel_values": pictures})
    with pytest.raises(EquiLMError, match="cannot put the pictures into the texts"):
        model.generate(**{**given, "pixel_values": random_pictures(2)}, max_new_tokens=2)
    with pytest.raises(EquiLMError, match="does not know what the group does to qformer_input_ids"):
        model(**given, qformer_input_ids=given["input_ids"])
    with pytest.raises(EquiLMError, match="needs input_ids"):
        model(inputs_embeds=torch.zeros(1, 2, 32))


def test_words_may_not_be_tokens_of_pictures() -> None:
    base, _ = tiny_image_text("llava")
    with pytest.raises(EquiLMError, match="move token 50, which is the base model's image_token_i"):
        EquiLMForImageTextToText(EquiLMConfig(text_config=base.config, cycles=[[[10, 50]]]), base)


def test_encoder_decoders_and_models_of_text_are_refused_by_name() -> None:
    with pytest.raises(EquiLMError, match="t5gemma2 reads pictures in an encoder and writes in a decoder"):
        EquiLMForImageTextToText(EquiLMConfig(text_config=T5Gemma2Config(), cycles=[[[10, 11]]]))
    from word_models import word_model

    tokenizer = word_tokenizer()
    with pytest.raises(EquiLMError, match="is not a decoder that reads pictures and text"):
        EquiLMForImageTextToText.from_base(word_model(tokenizer), tokenizer)


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen3_5", "idefics3", "paligemma", "mllama"])
def test_the_self_check_reads_pictures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = wrapped(name, "2x3")
    given = inputs([[BOS, 30, 31, PICTURE, 32, 33, 34]], random_pictures(1))
    assert model.self_check(**given).errors["pictures"] < 1e-5
    # Other pictures for the permuted copies: what a wrong layout would give.
    right = Pictures.repeated

    def wrong(self: Pictures, times: int) -> dict[str, Any]:
        found = right(self, times)
        return {k: v.flip(0) * 0.5 if v.is_floating_point() and times > 1 else v for k, v in found.items()}

    monkeypatch.setattr(Pictures, "repeated", wrong)
    with pytest.raises(EquiLMError, match=r"self-check failed: \w+ in an EquiLMForImageTextToText, with pictures"):
        model.self_check(**given)


def test_the_self_check_with_pictures_weighs_as_the_model_does() -> None:
    base, inputs = tiny_image_text("llava")
    config = EquiLMConfig(text_config=base.config, cycles=AXES["d3"], orbit_weights="given")
    model: Any = EquiLMForImageTextToText(config, base, lambda hidden: hidden[..., 0].exp()).eval()
    given = inputs([[BOS, 30, 31, PICTURE, 32, 33, 34]], random_pictures(1))
    assert model.self_check(**given).errors["pictures"] < 1e-5


def test_a_shortcut_that_is_wrong_with_pictures_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = wrapped("llava")
    right = type(model)._project
    monkeypatch.setattr(type(model), "_project", lambda self, hidden, rows: right(self, hidden, rows).flip(-1))
    monkeypatch.setattr("equilm._modeling_base.check_model", lambda _model: SelfCheck({}))  # of text alone
    given = inputs([[BOS, 30, 31, PICTURE, 32, 33, 34]], random_pictures(1))
    with pytest.warns(
        EquiLMWarning, match="found pictures of LlavaForConditionalGeneration wrong with projecting once"
    ):
        assert model.self_check(**given).switched_off == ("projecting once",)
    assert model.self_check(**given).switched_off == ()


def test_a_prompt_that_is_read_in_both_directions_is_read_whole() -> None:
    model, inputs = wrapped("paligemma")
    model.self_check()
    assert model.cache_use == "whole"
    model._worth_a_pass = 1  # any shared prefix would be read by itself
    given = inputs([[BOS, PICTURE, 30, 31, 32, 10, 33]], random_pictures(1))
    with torch.no_grad():
        last = model(**given, use_cache=True, logits_to_keep=1).logits[:, -1]
    torch.testing.assert_close(last, definition(model, given)[:, -1], atol=1e-4, rtol=1e-4)
