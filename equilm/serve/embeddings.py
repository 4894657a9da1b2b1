"""Embeddings that do not change under the group: the mean over a text's orbit."""

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..text.action import TextAction
from .answers import add_usage, malformed
from .refusals import invalid, refused
from .requests import Body
from .upstream import UpstreamClient

_PER_REQUEST = 256  # texts for one upstream request
_FIELDS = ("model", "input", "dimensions", "encoding_format", "user")


async def embed(body: Body, action: TextAction, client: UpstreamClient, headers: Mapping[str, str]) -> Body:
    """The answer to a request for embeddings: 1/|G| Σ_g f(gX) for each text X.

    The distinct texts of an orbit are embedded once each, in one order for all of its texts, so that they get the same
    numbers to the last bit if the upstream's do not depend on what is asked for beside them.

    Raises:
        GatewayError: for tokens instead of texts, fields that are not known, and upstream failures.
    """
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise refused("input", "input must be a text or a list of texts: tokens cannot be swapped. Send the text.")
    encoding = body.get("encoding_format") or "float"
    if encoding not in ("float", "base64"):
        raise invalid("encoding_format", f"encoding_format is {encoding!r}: expected float or base64.")
    model = body.get("model")
    if not isinstance(model, str):
        raise invalid("model", "model is missing: expected the name of a model.")
    for name in body:
        if name not in _FIELDS:
            raise refused(name, f"{name} is refused: the gateway does not know what it does to a text. Leave it out.")
    orbits = [sorted(set(action.orbit(text))) for text in texts]
    distinct = list(dict.fromkeys(text for orbit in orbits for text in orbit))
    sent = {"model": model, "encoding_format": "float"}
    sent |= {name: body[name] for name in ("dimensions", "user") if body.get(name) is not None}
    vectors: dict[str, npt.NDArray[np.float64]] = {}
    usages: list[Any] = []
    for start in range(0, len(distinct), _PER_REQUEST):
        asked = distinct[start : start + _PER_REQUEST]
        answer = await client.post(client.for_model(model), "/embeddings", headers, {**sent, "input": asked}, None)
        vectors.update(zip(asked, _vectors(answer, len(asked)), strict=True))
        usages.append(answer.get("usage"))
    data = []
    for index, orbit in enumerate(orbits):
        mean = np.mean([vectors[text] for text in orbit], axis=0).astype("<f4")
        written = base64.b64encode(mean.tobytes()).decode() if encoding == "base64" else mean.tolist()
        data.append({"object": "embedding", "index": index, "embedding": written})
    usage = {"usage": add_usage(usages)} if all(isinstance(usage, dict) for usage in usages) else {}
    return {"object": "list", "data": data, "model": model, **usage}


def _vectors(answer: Any, count: int) -> list[npt.NDArray[np.float64]]:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        raise malformed("another number of embeddings than of texts")
    found = dict(_vector(item, position) for position, item in enumerate(data))
    if set(found) != set(range(count)) or len({vector.shape for vector in found.values()}) != 1:
        raise malformed("embeddings of several sizes, or with other indices than the texts")
    return [found[index] for index in range(count)]


def _vector(item: Any, position: int) -> tuple[Any, npt.NDArray[np.float64]]:
    try:
        return item.get("index", position), np.array(item["embedding"], dtype=np.float64)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise malformed("an embedding that is no list of numbers") from None
