"""Where a word is no word of English: addresses, code, halves of words; and where it is: emphasis, punctuation."""

import pytest

from equilm.text.action import TextAction
from equilm.words.axes import DemographicAxis

ACTION = TextAction(DemographicAxis("gender", [("man", "woman"), ("he", "she"), ("men", "women"), ("male", "female")]))


@pytest.mark.parametrize(
    "text",
    [
        "s/he S/he (s/he) and s/he.",
        "(s)he (wo)man wo/man fe/male (S)he",
        "he@x.com x@he.com mail <he@man.org>, first.he@x.com",
        "@he @man: \\he $man ${man}",
        "http://he.com https://x.org/man/he?he=man#he, (http://he.com/he)",
        "www.he.com he.com/man man.example.org x.he.org",
        "def he(self): he() man(1) self.he he.name",
        "/home/man/he.txt ~/man ./he ../man/x src/man/he.py C:\\man C:/man/he (/usr/man/x)",
        "man_page snake_man_case _he_is a_man man__x ____man____",
        "_man and he_x",
        "x he_, __man, y _he",
        "_man\n\nhe_",  # emphasis ends with its paragraph
        "[link](https://x.org/he)",
    ],
)
def test_what_stays(text: str) -> None:
    assert ACTION.act(text, 1) == text


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        (
            "_he_ *he* __he__ **he** ***he*** ___he___ `he` ~~he~~",
            "_she_ *she* __she__ **she** ***she*** ___she___ `she` ~~she~~",
        ),
        ("_he said_ and _so did he_, _the man_.", "_she said_ and _so did she_, _the woman_."),
        ("__the man and he__ man_page _man_page", "__the woman and she__ man_page _man_page"),
        ("he/she man/woman men/women, and/or he", "she/he woman/man women/men, and/or she"),
        ("man(s) men(es) (he) [man] {man}", "woman(s) women(es) (she) [woman] {woman}"),
        ("He left.He came. A man. He", "She left.She came. A woman. She"),
        ("he... he?he! he;he #he he's", "she... she?she! she;she #she she's"),
        ("he-man; \"man\" 'man' “man” <he>", "she-woman; \"woman\" 'woman' “woman” <she>"),
        ("See http://x.com, man. Ask he@x.com: he", "See http://x.com, woman. Ask he@x.com: she"),
    ],
)
def test_what_is_swapped(text: str, swapped: str) -> None:
    assert ACTION.act(text, 1) == swapped
    assert ACTION.act(swapped, 1) == text


def test_a_continuation_knows_what_it_continues() -> None:
    for prompt, continuation in (
        ("mail x@", "he.com"),
        ("s/", "he"),
        ("/home/", "man/x"),
        ("(s)", "he"),
        ("self.", "he"),
    ):
        assert ACTION.act_on_continuation(prompt, continuation, 1) == continuation
    assert ACTION.act_on_continuation("and _", "he_ left", 1) == "she_ left"
    assert ACTION.act_on_continuation("x_", "he_ left", 1) == "he_ left"
    assert ACTION.act_on_continuation("_", "he left", 1) == "he left"
