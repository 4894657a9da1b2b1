"""What a gateway has on, as a text."""

from ..text.action import TextAction
from .config import GatewayConfig
from .plan import Axes


def overview(config: GatewayConfig) -> str:
    """Axes, upstream servers and limits of a gateway.

    Args:
        config: the operator's settings.
    """
    axes = Axes(config)
    lines = [
        "equilm serve: answers Y to X with probability 1/|G| Σ_g P(gY|gX), whatever P of the upstream server is.",
        "",
    ]
    action: TextAction | None = axes.action(None) if axes.always else None
    switches = [("always on ", axis) for axis in axes.always] + [("on request", axis) for axis in axes.allowed]
    lines += [
        f"axis, {on}     {axis.name}: {'/'.join(axis.words[0])}, {len(axis.words)} lists" for on, axis in switches
    ]
    if action is not None:
        lines.append(f"group                of order {action.group.order}; one generation for each choice")
        pronouns = "by their place (his, him, her, hers)" if action.swaps_pronouns else "as the lists have them"
        lines.append(f"pronouns             {pronouns}")
    else:
        lines.append("group                none unless a request names an axis; one that does not is refused")
    for upstream in config.upstreams:
        models = ", ".join(upstream.models) or "all others"
        key = f"the key in {upstream.api_key_env}" if upstream.api_key_env else "the client's key"
        lines.append(f"upstream             {upstream.url}, models: {models}; {key}")
    lines.append(
        f"limits               {config.max_generations} generations at once, n up to {config.max_choices}, "
        f"bodies up to {config.max_body_mb:g} MB"
    )
    lines.append(
        f"timeouts             connect {config.connect_timeout:g} s, stalled {config.stall_timeout:g} s, "
        f"total {config.total_timeout:g} s"
    )
    lines.append(f"text in the log      {'yes' if config.log_text else 'no'}")
    lines.append("refused              logprobs, logit_bias, tokens as prompts, and fields or endpoints not known")
    return "\n".join(lines)
