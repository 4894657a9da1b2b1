"""Runs a notebook's cells in order, in one namespace, and stores what they print.

    python examples/notebook.py examples/first_hour.ipynb

Cells of installation, which begin with %pip, are left out: everything is installed here. What a cell writes to standard
error, progress bars above all, is not stored.
"""

import argparse
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> list[str]:
    """What each cell of code prints, in order; nothing for those of installation."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(code_cells(notebook)):
        output = io.StringIO()
        source = "".join(cell["source"])
        if not source.startswith("%pip"):
            with redirect_stdout(output):
                exec(compile(source, f"<cell {number}>", "exec"), namespace)
        printed.append(output.getvalue())
    return printed


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The notebook's cells of code."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored(notebook: dict[str, Any]) -> list[str]:
    """What the notebook shows below each cell of code."""
    return ["".join(line for output in cell["outputs"] for line in output["text"]) for cell in code_cells(notebook)]


def store(notebook: dict[str, Any], printed: list[str]) -> None:
    """Put what was printed below the cells."""
    for number, (cell, text) in enumerate(zip(code_cells(notebook), printed, strict=True), 1):
        lines = text.splitlines(keepends=True)
        cell["execution_count"] = number
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []


def main() -> None:
    """Run, and write the notebook."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook
    notebook = json.loads(path.read_text("utf-8"))
    store(notebook, run(notebook))
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
