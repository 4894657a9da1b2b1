"""A page to try the measurement on a text classifier of the Hub."""

from pathlib import Path
from typing import Any

import evaluate
import gradio as gr
from transformers import pipeline

module = evaluate.load(str(Path(__file__).with_name("invariance.py")))


def measure(data: str, model_id: str, axis: str) -> dict[str, Any]:
    """The invariance of a text classifier, plain and made fair, on texts, one per line."""
    texts = [line for line in data.splitlines() if line.strip()]
    try:
        classifier = pipeline("text-classification", model=model_id)
        return module.compute(data=texts, score=lambda batch: classifier(batch, top_k=None), axes=axis, fair=True)
    except (OSError, ValueError) as error:  # OSError: no such model
        raise gr.Error(str(error)) from error


page = gr.Interface(
    fn=measure,
    inputs=[
        gr.Textbox(
            label="Texts, one per line", lines=5, value="The man is a great engineer.\nThe woman was late again."
        ),
        gr.Textbox(label="Model", value="distilbert/distilbert-base-uncased-finetuned-sst-2-english"),
        gr.Dropdown(["gender", "race", "race3", "orientation"], label="Axis", value="gender"),
    ],
    outputs=gr.JSON(label="Invariance"),
    title="Invariance",
    description=module.description,
    flagging_mode="never",
    analytics_enabled=False,
)

if __name__ == "__main__":
    page.launch()
