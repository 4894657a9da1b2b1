"""A page to try the metric on a text. The widget of `evaluate` itself needs gradio before 4."""

from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

module = evaluate.load(str(Path(__file__).with_name("perplexity.py")))


def measure(text: str, model_id: str, block_size: float) -> dict[str, Any]:
    """The perplexity of a text, in a sliding window that moves by half its size."""
    size = int(block_size)
    try:
        return module.compute(predictions=[text], model_id=model_id, block_size=size, stride=max(1, size // 2))
    except (OSError, ValueError) as error:  # OSError: no such model
        raise gr.Error(str(error)) from error


page = gr.Interface(
    fn=measure,
    inputs=[
        gr.Textbox(label="Text", lines=8),
        gr.Textbox(label="Model", value="HuggingFaceTB/SmolLM2-135M"),
        gr.Number(label="Tokens in a block", value=1024, precision=0),
    ],
    outputs=gr.JSON(label="Perplexity"),
    title="Perplexity in Blocks",
    description=module.description,
    flagging_mode="never",
    analytics_enabled=False,
)

if __name__ == "__main__":
    page.launch()
