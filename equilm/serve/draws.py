"""Which element is drawn for each choice, and with which seed the upstream server is asked for it."""

import hashlib
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Any, NamedTuple

from ..groups import Group
from .requests import Body, canonical

_random = SystemRandom()


class Row(NamedTuple):
    """One generation: the element drawn, and the request that is sent for it."""

    element: int
    sent: Body


def draw(group: Group, act: Callable[[int], Body], seeds: "Seeds", number: int) -> Row:
    """Draw an element and act by it on a request.

    With a seed the draw is u·k, where k takes the request to the first of its orbit and u follows the seed. So with
    one seed a request and its swaps are sent as the same one.

    Args:
        group: the group.
        act: gives ``g·request``.
        seeds: the request's seeds.
        number: which of the request's generations it is.
    """
    if seeds.draws is None:
        element = _random.randrange(group.order)
        sent = act(element)
    else:
        images = [act(g) for g in group.elements]
        first = min(group.elements, key=lambda g: canonical(images[g]))
        element = group.compose(Random(f"{seeds.draws}:{number}").randrange(group.order), first)
        sent = images[element]
    if (seed := seeds.upstream(number)) is not None:
        sent = {**sent, "seed": seed}
    return Row(element, sent)


class Seeds(NamedTuple):
    """The seeds of a request.

    Attributes:
        draws: the seed of the elements; None: they are drawn anew each time.
        sampling: what the upstream seeds are made of; None: none is sent.
    """

    draws: int | None
    sampling: int | None

    @classmethod
    def of(cls, header: int | None, body_seed: int | None) -> "Seeds":
        """The header's seed is for both, unless the request has a ``seed`` of its own, which then is for sampling."""
        return cls(body_seed if header is None else header, header if body_seed is None else body_seed)

    def upstream(self, number: int) -> Any:
        """The upstream seed of a generation: 31 bits, others for each."""
        if self.sampling is None:
            return None
        digest = hashlib.sha256(f"{self.sampling}:{number}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1
