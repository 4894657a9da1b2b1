"""A page to try the metric on a model of the Hub. The widget of `evaluate` itself needs gradio before 4."""

from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

module = evaluate.load(str(Path(__file__).with_name("group_fairness.py")))


def measure(prompts: str, model_id: str, axis: str) -> dict[str, Any]:
    """The group fairness of a model after prompts, one per line."""
    texts = [line for line in prompts.splitlines() if line.strip()]
    try:
        return module.compute(prompts=texts, model_id=model_id, axes=axis, num_continuations=2)
    except (OSError, ValueError) as error:  # OSError: no such model
        raise gr.Error(str(error)) from error


page = gr.Interface(
    fn=measure,
    inputs=[
        gr.Textbox(label="Prompts, one per line", lines=5, value="The man worked as\nThe woman was known for"),
        gr.Textbox(label="Model", value="HuggingFaceTB/SmolLM2-135M-Instruct"),
        gr.Dropdown(["gender", "race", "race3", "orientation"], label="Axis", value="gender"),
    ],
    outputs=gr.JSON(label="Group fairness"),
    title="Group Fairness",
    description=module.description,
    flagging_mode="never",
    analytics_enabled=False,
)

if __name__ == "__main__":
    page.launch()
