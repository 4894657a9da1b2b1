"""Loading Wikitext, on which the paper measures perplexity: by name from the Hub, or from a file."""

from pathlib import Path

from ..errors import EquiLMError

HUB_ID = "Salesforce/wikitext"
NAMES = ("wikitext-2-raw", "wikitext-103-raw", "wikitext-2", "wikitext-103")


def load_wikitext(name_or_path: str | Path) -> str:
    """A Wikitext test set as one string, exactly as in its file.

    The raw sets contain the original text. The others contain tokenized words, and ``<unk>`` for rare words; the paper
    uses these.

    Args:
        name_or_path: "wikitext-2-raw", "wikitext-103-raw", "wikitext-2", "wikitext-103", or a text file.

    Raises:
        EquiLMError: if it is neither a name nor a file, if the Hub does not answer, or if `datasets` is not installed.

    Example:
        >>> load_wikitext("wiki.test.raw")[:20]  # doctest: +SKIP
        ' \\n = Robert Boulter '
    """
    if str(name_or_path) not in NAMES:
        path = Path(name_or_path)
        if not path.is_file():
            raise EquiLMError(f"{str(path)!r} is neither a text file nor one of {', '.join(NAMES)}.")
        return path.read_text("utf-8")
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise EquiLMError(
            f"Loading {name_or_path} by name needs the package datasets. Run: pip install 'equilm[evaluation]', or "
            "name a text file."
        ) from error
    try:
        rows = load_dataset(HUB_ID, f"{name_or_path}-v1", split="test")["text"]
    except OSError as error:  # what the Hub's client raises when it cannot be reached
        raise EquiLMError(
            f"{HUB_ID} ({name_or_path}-v1) could not be loaded: {error}. If you cannot reach the Hub, name a text file."
        ) from error
    return "".join(row or " \n" for row in rows)  # blank lines are " \n" in the file but empty in the data set
