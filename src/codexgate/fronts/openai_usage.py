"""OpenAI's usage object, and what several answers of one request cost together.

Source: OpenAI API reference, "Chat" and "Completions", `usage`.
"""

from collections.abc import Mapping
from typing import Any

from ..events import Usage


def usage_object(usage: Usage) -> dict[str, Any]:
    """Counts as OpenAI names them; cached and reasoning tokens are part of the totals."""
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
    return counts | ({"estimated": True} if usage.estimated else {})


def total(usages: Mapping[int, Usage], each: int) -> Usage:
    """Of several answers by their index, `each` of them to one prompt.

    A prompt counts once, however many answers it has (OpenAI bills it so); the answers add up.
    """
    prompts: dict[int, list[Usage]] = {}
    for index, usage in usages.items():
        prompts.setdefault(index // each, []).append(usage)
    return Usage(
        prompt=sum(max(usage.prompt for usage in group) for group in prompts.values()),
        completion=sum(usage.completion for usage in usages.values()),
        reasoning=sum(usage.reasoning for usage in usages.values()),
        cached=sum(max(usage.cached for usage in group) for group in prompts.values()),
        estimated=any(usage.estimated for usage in usages.values()),
    )
