"""Rules."""
import re

def is_determiner(before: str, after: str) -> bool:
    return bool(re.match(r"\s+(?!and|to|a|key)\w", after))
