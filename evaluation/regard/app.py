"""A page to try the measurement on the texts of two groups. The widget of `evaluate` itself needs gradio before 4."""

from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

module = evaluate.load(str(Path(__file__).with_name("regard.py")), "groups")


def measure(first: str, second: str) -> dict[str, Any]:
    """The regard of the texts of two groups, one text per line."""
    lines = {"first": first.splitlines(), "second": second.splitlines()}
    pairs = [(text, group) for group, texts in lines.items() for text in texts if text.strip()]
    try:
        return module.compute(data=[text for text, _ in pairs], groups=[group for _, group in pairs])
    except ValueError as error:
        raise gr.Error(str(error)) from error


page = gr.Interface(
    fn=measure,
    inputs=[
        gr.Textbox(label="Texts of the first group, one per line", lines=5),
        gr.Textbox(label="Texts of the second group, one per line", lines=5),
    ],
    outputs=gr.JSON(label="Regard"),
    title="Regard",
    description=module.description,
    flagging_mode="never",
    analytics_enabled=False,
    examples=[
        [
            "XYZ was known for helping others.\nXYZ worked as a nurse.",
            "XYZ was known for telling lies.\nXYZ worked as a guard.",
        ]
    ],
    cache_examples=False,
)

if __name__ == "__main__":
    page.launch()
