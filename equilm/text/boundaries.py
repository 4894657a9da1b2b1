"""Where a word in a text is no word of English: in addresses, paths and code, in *s/he*, and beside stray underscores.

All that is decided here is decided on the canonical view of a text (see `equilm.text.reading`), which all texts of an
orbit share, and from no further away than `REACH` characters.
"""

import re

from .forms import word_character

REACH = 256

_WORD = word_character()
# A word may begin after one to three underscores and end before as many, if these stand outside of any other word.
LEFT = rf"(?:(?<!{_WORD})|(?<=_)(?<!{_WORD}_)|(?<=__)(?<!{_WORD}__)|(?<=___)(?<!{_WORD}___))"
RIGHT = rf"(?=_{{0,3}}(?!{_WORD}))"
BEFORE = 4  # the characters that LEFT looks at

_SPLIT_WORD = re.compile(r"(?:(?:^|\W)(?:s|wo|fe)/|\((?:s|wo|fe)\))$", re.IGNORECASE)  # s/he, (wo)man
_ADDRESS = re.compile(
    r"://|^\W*www\.|[\w.+-]@\w"  # URLs, e-mail
    r"|^\W*(?:[a-z0-9-]+\.)+[a-z]{2,}/"  # example.com/he
    r"|(?:^|[^\w/])(?:~|\.{1,2})?/[\w.-]+/|(?:^|[^\w/.])(?:~|\.{1,2})/\w"  # /home/he/, ./he, ~/he
    r"|(?:^|\W)[A-Za-z]:[\\/]\w"  # C:\he
    r"|/[^\s/]*\.[a-z0-9]{1,5}(?!\w)"  # he/index.html
)
_PLURAL = ("(s)", "(es)")


def is_plain_word(view: str, article: int, start: int, end: int) -> bool:
    """Whether the word at ``view[start:end]`` is one of the text's language, which a swap may change.

    Args:
        view: the canonical view of a text.
        article: where the word's article begins; without one, where the word does.
        start: where the word begins.
        end: where it ends.
    """
    before, after = view[start - 1 : start] if start else "", view[end : end + 1]
    if article == start and (not before or before.isspace()) and (not after or after.isspace()):
        return True  # by far the most
    left, right = view[max(0, start - REACH) : start], view[end : end + REACH]
    if article < start and not _is_emphasis(view[max(0, article - REACH) : article], view[article:end] + right):
        return False
    return _is_emphasis(left, right) and not _is_name(left, right, view[start:end])


def is_settled(view: str, article: int, start: int, end: int) -> bool:
    """Whether what follows a view cannot change what `is_plain_word` says of the same place."""
    before, right = view[start - 1 : start] if start else "", view[end : end + REACH]
    plain = article == start and (not before or before.isspace())
    if len(right) == REACH or (plain and right[:1].isspace()):
        return True
    opening, closing = _trailing(view[max(0, start - REACH) : start]), len(right) - len(right.lstrip("_"))
    # Whether an emphasis that opens before the place ends in this paragraph can only be told at the paragraph's end.
    open_ended = opening not in (0, closing) or (article < start and _trailing(view[max(0, article - REACH) : article]))
    return bool(re.search(r"\s", right)) and (not open_ended or "\n\n" in right)


def _trailing(text: str) -> int:
    """The number of underscores at the end of a text."""
    return len(text) - len(text.rstrip("_"))


def _is_name(left: str, right: str, word: str) -> bool:
    """Whether a word is part of an identifier, an address or a path, or cut in two by a slash or a bracket."""
    left = re.split(r"\s", left)[-1]
    right = re.split(r"\s", right, maxsplit=1)[0]
    return bool(
        (right.startswith("(") and not right.startswith(_PLURAL))  # he(self)
        or re.match(r"\.[a-z]", right)  # he.name
        or (word[0].islower() and re.search(r"\w\.$", left))  # self.he
        or re.search(r"(?:[@\\$]|\$\{)$", left)  # @he, \he, $he
        or _SPLIT_WORD.search(left)
        or _ADDRESS.search(f"{left}{word}{right}")
    )


def _is_emphasis(left: str, right: str) -> bool:
    """Whether underscores beside a word are Markdown's emphasis: as many of them open and close it in one paragraph."""
    opening = len(left) - len(left.rstrip("_"))
    closing = len(right) - len(right.lstrip("_"))
    if opening == closing:
        return True
    if opening and not re.search(rf"(?<![\s_])_{{{opening}}}(?!{_WORD})", right.split("\n\n")[0]):
        return False
    return not closing or bool(re.search(rf"(?<!{_WORD})_{{{closing}}}(?![\s_])", left.split("\n\n")[-1]))
