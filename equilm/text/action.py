"""The group's action on text: swaps whole words and phrases, keeps their case, and leaves all else byte for byte."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from ..groups import CyclicGroup, direct_product
from ..words.axes import AxisLike, DemographicAxis, load_axes
from .forms import check_apart, check_distinct, check_phrase, word_character, written_forms


class _Place(NamedTuple):
    """Where a written form stands: in which axis, in which form of a list, and which of its words it is."""

    axis: int
    form: tuple[str, ...]
    member: int


class TextAction:
    """Turns each word of the axes that stands in a text into the next ones of its list.

    It is a group action on strings of any kind: ``act(text, 0) == text``, and ``act(act(text, h), g) ==
    act(text, group.compose(g, h))``. Lists for which this cannot hold are refused.

    * *Whole words.* A word goes on through letters, digits, ``_``, accents and other marks, and ends at anything else:
      *man* is found in ``man's``, ``he-man`` and ``man.``, and not in ``woman``, ``man2`` or ``man_page``. Scripts
      without spaces between words have no such ends.
    * *Case.* A word is found as its list writes it, with a capital, and in upper case; a phrase also with a capital for
      each of its words, unless its list has single words too. Its counterpart is put in the same form. ``mAn`` is left
      alone, and so is ``black`` where the list has ``Black``.
    * *Phrases.* A list may hold phrases, such as *African American*. If all its entries have as many words, any white
      space between the words is found, line breaks too, and kept; otherwise only single spaces are.
    * *No normalization.* An accent that is a character of its own is not the one that is part of a letter.

    R-EquiLM's general words play no role here: what stands in a list is swapped.

    Args:
        axes: axes, built-in names or paths of JSON files, one or several. The group is the product of theirs.

    Raises:
        EquiLMError: for a word that begins or ends with punctuation, for two words that can be written alike, and for
            phrases that can overlap in a text, such as *gay man* and *man*.

    Example:
        >>> action = TextAction("gender")
        >>> action.act("The man said: HE'S no mAn. A woman's job!", 1)
        "The woman said: SHE'S no mAn. A man's job!"
    """

    def __init__(self, axes: AxisLike | Sequence[AxisLike]):
        self.axes: tuple[DemographicAxis, ...] = load_axes(axes)
        factors = [CyclicGroup(axis.size) for axis in self.axes]
        self.group = direct_product(*factors)
        self._places: dict[str, _Place] = {}
        forms = []
        patterns: dict[str, str] = {}
        for number, axis in enumerate(self.axes):
            for entry in axis.words:
                for phrase in entry:
                    check_phrase(phrase, axis)
                # Only between equally many words can the white space of one phrase be put into another.
                space = r"\s+" if len({phrase.count(" ") for phrase in entry}) == 1 else " "
                for form in written_forms(entry):
                    forms.append((axis, form))
                    self._places.update((word, _Place(number, form, member)) for member, word in enumerate(form))
                    patterns.update((word, space.join(map(re.escape, word.split(" ")))) for word in form)
        check_distinct(forms)
        check_apart(self._places)
        word = word_character()
        # No phrase can begin another (`check_apart`), so at most one of these matches at a place, in whatever order.
        self._pattern = re.compile(rf"(?<!{word})(?:{'|'.join(patterns.values())})(?!{word})")

    def act(self, text: str, g: int) -> str:
        """``g·text``."""
        return self.act_on_continuation("", text, g)

    def act_on_continuation(self, prompt: str, continuation: str, g: int) -> str:
        """``g·continuation``, where it continues a prompt: swaps the words and phrases that begin in the continuation.

        A word belongs to the text in which it begins. One that the prompt has begun, such as *man* in ``"The wo"`` and
        ``"man"``, or *hood* in ``"The man"`` and ``"hood"``, stays as it is written. So the pair is acted on as
        ``(act(prompt, g), act_on_continuation(prompt, continuation, g))``, which is a group action on pairs, as whether
        a prompt ends inside a word is the same for all its swaps. Where no word crosses the boundary, the two parts
        together are ``act(prompt + continuation, g)``.

        Args:
            prompt: the text before, as it is before the action.
            continuation: the text that follows without anything between.
            g: the element that acts on both.
        """
        self.group.check_element(g)
        shifts = self.group.split(g)
        before = prompt[-1:]  # the only character that decides whether the continuation begins inside a word
        text = before + continuation
        pieces, end = [], len(before)
        for match in self._pattern.finditer(text, end):
            pieces += [text[end : match.start()], self._swap(match[0], shifts)]
            end = match.end()
        return "".join((*pieces, text[end:]))

    def orbit(self, text: str) -> list[str]:
        """All of ``g·text``, by element: shape ``(|G|,)``."""
        return [self.act(text, g) for g in self.group.elements]

    def stabilizer(self, text: str) -> list[int]:
        """The elements that leave a text as it is: all of them, if it holds no word of the axes."""
        return [g for g, image in enumerate(self.orbit(text)) if image == text]

    def _swap(self, found: str, shifts: tuple[int, ...]) -> str:
        phrase = " ".join(found.split())
        axis, form, member = self._places[phrase]
        swapped = form[(member + shifts[axis]) % len(form)]
        if found == phrase:
            return swapped
        spaces = iter(re.findall(r"\s+", found))
        return re.sub(" ", lambda _: next(spaces), swapped)
