"""Of the gendered words in a text, how many does the gender axis leave as they are?

    python examples/word_coverage/wikitext.py                            # Wikitext-2's test from the Hub
    python examples/word_coverage/wikitext.py --file wiki.test.raw --axis gender-paper-without-his --no-pronouns

Gendered words are those of the gender axis and of the paper's, *his*, *him*, *her*, *hers*, and words that no axis has
(``LEFT_OUT``), whether or not they are used of a person.
"""

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Any

from equilm.metrics import load_wikitext
from equilm.text import TextAction
from equilm.words import DemographicAxis

LEFT_OUT = """
    miss ms lord lords dame hero heroes heroine heroines host hosts hostess hostesses mistress maid maids maiden maidens
    mum mums mummy ma'am lesbian lesbians widowed chap chaps bachelor bachelors spinster bloke blokes dude dudes
    fireman firemen postman alderman aldermen craftsman craftsmen cameraman gunman gunmen horseman horsemen fisherman
    fishermen workman workmen clergyman clergymen statesman statesmen
""".split()
_WORD = re.compile(r"\w+(?:'am)?")


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="a text file; by default Wikitext-2's test from the Hub")
    parser.add_argument("--axis", default="gender")
    parser.add_argument("--no-pronouns", action="store_true", help="swap only what the axis lists")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"pronouns": None} if arguments.no_pronouns else {}
    action = TextAction(arguments.axis, **settings)
    found, left = count(load_wikitext(arguments.file or "wikitext-2-raw"), action)
    total, kept = sum(found.values()), sum(left.values())
    print(f"{kept} of {total} gendered words are left as they are: {kept / total:.1%}")
    for word, number in left.most_common(15):
        print(f"  {word:<12} {number:>5} of {found[word]}")


def count(text: str, action: TextAction) -> tuple[Counter[str], Counter[str]]:
    """How often each gendered word stands in a text, and how often the swap leaves it."""
    axes = (DemographicAxis.load(name) for name in ("gender", "gender-paper"))
    gendered = {word.lower() for axis in axes for entry in axis.words for word in entry}
    gendered |= {"his", "him", "her", "hers", *LEFT_OUT}
    gendered -= {"pa", "ma"}  # mostly abbreviations
    found: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for line in text.splitlines():
        # A swap puts one word in the place of one word.
        for before, after in zip(_WORD.findall(line), _WORD.findall(action.act(line, 1)), strict=True):
            if before.lower() in gendered:
                found[before.lower()] += 1
                left[before.lower()] += before == after
    return found, left


if __name__ == "__main__":
    main()
