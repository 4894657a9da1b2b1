"""The group's action on text: swaps words, phrases and pronouns, keeps their case, leaves all else byte for byte."""

from collections.abc import Sequence
from functools import lru_cache

from ..groups import Group
from ..words.axes import AxisLike, DemographicAxis, load_axes
from .judges import Pronouns, as_judge
from .lexicon import Lexicon
from .reading import Reading, read


class TextAction:
    """Turns each word of the axes that stands in a text into the next ones of its list.

    It is a group action on strings of any kind: ``act(text, 0) == text``, and ``act(act(text, h), g) ==
    act(text, group.compose(g, h))``. Lists for which this cannot hold are refused.

    * *Whole words.* A word goes on through letters, digits, ``_``, accents and other marks, and ends at anything else:
      *man* is found in ``man's``, ``he-man`` and ``man.``, and not in ``woman``, ``man2`` or ``man_page``. Markdown's
      ``_man_`` and ``__man__`` end it too. Scripts without spaces between words have no such ends.
    * *Words only.* What is written like a word but is a name stays: e-mail addresses, URLs, paths (``/home/man/``),
      identifiers (``def he(self)``, ``self.he``, ``he.name``, ``@he``), and halves of words (``s/he``, ``(wo)man``).
    * *Case.* A word is found as its list writes it, with a capital, and in upper case; a phrase also with a capital for
      each of its words, unless its list has single words too. Its counterpart is put in the same form. ``mAn`` is left
      alone, and so is ``black`` where the list has ``Black``.
    * *Phrases.* A list may hold phrases, such as *African American*. If all its entries have as many words, any white
      space between the words is found, line breaks too, and kept; otherwise only single spaces are.
    * *Pronouns.* English *her* is *his* before a noun and *him* elsewhere. Where one axis is about he and she, his,
      him, her and hers are swapped by the class of their place: his ↔ her for a determiner, else him ↔ her and his ↔
      hers. The class is judged from a bounded window of the *canonical view*, the text with each word as the first of
      its list and each of these pronouns as *her*. All swaps of a text have one view, so the action stays exact even
      where the judge errs. Lists of these pronouns only, such as his/her, are not used then.
    * *Articles.* *a* or *an* before a swapped word goes on agreeing with it: *a man*, *an actor*. One that did not
      agree goes on not to. Words in between are not looked at.
    * *No normalization.* An accent that is a character of its own is not the one that is part of a letter.

    R-EquiLM's general words play no role here: what stands in a list is swapped.

    Args:
        axes: axes, built-in names or paths of JSON files, one or several. The group is the product of their factors: an
            axis is one, and a joint list belongs to several.
        pronouns: what judges the places of his, him, her and hers. ``"rules"``: built-in rules. ``"spacy"``: the small
            English pipeline of spaCy, if it is installed. A function of the text before and after a place that says
            whether it is a determiner's, always the same for the same texts, such as a `SpacyJudge` or a
            `CausalJudge`. None or False: pronouns are words like others.

    Raises:
        EquiLMError: for a word that begins or ends with punctuation, for two words that can be written alike, for
            phrases that can overlap in a text, such as *gay man* and *man*, and for a list that holds one of the
            pronouns beside other words.

    Example:
        >>> action = TextAction("gender")
        >>> action.act("The man took his coat, and his wife gave him her key. HE'S an actor.", 1)
        "The woman took her coat, and her husband gave her his key. SHE'S an actress."
    """

    def __init__(self, axes: AxisLike | Sequence[AxisLike], pronouns: Pronouns = "rules"):
        self.axes: tuple[DemographicAxis, ...] = load_axes(axes)
        judge = as_judge(pronouns)
        self.lexicon = Lexicon(self.axes, pronouns_on=judge is not None)
        self.group: Group = self.lexicon.group
        # Besides saving time, this keeps one class for one window while a text is swapped to and fro.
        self.judge = lru_cache(2**16)(judge or _no_judge)

    @property
    def swaps_pronouns(self) -> bool:
        """Whether his, him, her and hers are swapped by their place."""
        return self.lexicon.turns_pronouns

    def act(self, text: str, g: int) -> str:
        """``g·text``."""
        return self.act_on_continuation("", text, g)

    def act_on_continuation(self, prompt: str, continuation: str, g: int) -> str:
        """``g·continuation``, where it continues a prompt: swaps the words and phrases that begin in the continuation.

        A word belongs to the text in which it begins. One that the prompt has begun, such as *man* in ``"The wo"`` and
        ``"man"``, or *hood* in ``"The man"`` and ``"hood"``, stays as it is written. So the pair is acted on as
        ``(act(prompt, g), act_on_continuation(prompt, continuation, g))``, which is a group action on pairs, as whether
        a prompt ends inside a word is the same for all its swaps. Pronouns of the prompt are judged by the prompt
        alone, those of the continuation by both. Where no word crosses the boundary and the judge does not need the
        continuation to class a pronoun of the prompt, the two parts together are ``act(prompt + continuation, g)``.

        Args:
            prompt: the text before, as it is before the action.
            continuation: the text that follows without anything between.
            g: the element that acts on both.
        """
        self.group.check_element(g)
        return self._read(prompt, continuation).image(g)

    def canonical_view(self, text: str) -> str:
        """What judges see of a text, the same for all of its swaps: each word as the first of its list."""
        return self._read("", text).view

    def orbit(self, text: str) -> list[str]:
        """All of ``g·text``, by element: shape ``(|G|,)``."""
        reading = self._read("", text)
        return [reading.image(g) for g in self.group.elements]

    def stabilizer(self, text: str) -> list[int]:
        """The elements that leave a text as it is: all of them, if it holds no word of the axes."""
        return [g for g, image in enumerate(self.orbit(text)) if image == text]

    def _read(self, prompt: str, text: str) -> Reading:
        view = read(self.lexicon, self.judge, prompt).view if prompt else ""
        return read(self.lexicon, self.judge, text, prompt, view)


def _no_judge(before: str, after: str) -> bool:
    raise AssertionError("No pronoun is a slot without a judge.")
