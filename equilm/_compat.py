"""The names of the cache: `past_key_values`, or `cache` since transformers 5.24; some models have their own name."""

import inspect
from dataclasses import fields
from typing import Any

from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from .errors import EquiLMError

# The name of the cache in generate() and in outputs, in the installed version of transformers.
CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"
# Its names for users and models, in all versions. RWKV's state, XLNet's mems and Reformer's past_buckets_states are not
# a `Cache`: they cannot be forked, so these models run without one.
SPELLINGS = ("cache", "past_key_values", "cache_params")


def cache_argument(module: Any) -> str | None:
    """The name of the cache in a model's forward pass; None for a model without a `Cache`."""
    parameters = inspect.signature(type(module).forward).parameters
    return next((name for name in SPELLINGS if name in parameters), None)


def cache_of(outputs: Any) -> Any:
    """The `Cache` in a model's outputs, or None."""
    for name in SPELLINGS:
        if name in outputs.keys() and isinstance(outputs[name], Cache):  # noqa: SIM118 - `in` logs where a name is old
            return outputs[name]
    return None


def pop_cache(arguments: dict[str, Any]) -> Any:
    """Take the cache out of arguments, under any of its names; None if there is none.

    Raises:
        EquiLMError: if two caches are given.
    """
    given = {name: arguments.pop(name, None) for name in SPELLINGS}
    return one_cache(**{name: cache for name, cache in given.items() if cache is not None})


def one_cache(**given: Any) -> Any:
    """The one cache that is given, under any of its names, or None.

    Raises:
        EquiLMError: if two caches are given, or an object that is not a cache.
    """
    caches = {name: cache for name, cache in given.items() if cache is not None}
    if len(caches) > 1:
        raise EquiLMError(f"The cache is given twice, as {' and as '.join(caches)}. Give it once, as {CACHE}.")
    if not caches:
        return None
    ((name, cache),) = caches.items()
    if not isinstance(cache, Cache):
        raise EquiLMError(f"{name} is a {type(cache).__name__}; pass a Cache of transformers, or None.")
    return cache
