"""What memories say: when two say the same, by which words one is found, and how well. Pure."""

import hashlib
import math
import re
import shlex
import unicodedata
from collections.abc import Sequence
from typing import Literal

from .errors import Fault, GateError
from .records import Entry, Match

Way = Literal["meaning", "words"]
Near = tuple[Entry, float]
"""An entry with its cosine distance from what was asked."""

WEAK = 0.5
"""The part of the best match's strength that a match must have."""
PART = 0.3
"""The part of what a query's words tell that an entry must hold to be found by words alone."""
RANKS = 60
"""What ranks count from in reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009)."""

WORDS = 12
"""Words of a query that are looked for."""
LONGEST = 64
"""Characters of a word: what is longer is none."""
SHORT = 3
"""Letters of a word that rarely matters, and of a beginning that two forms of one word share."""

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]+")
_DENIES = frozenset("cannot never no none nor not nothing without kein keine keinen nicht nie ohne".split())


def digest(content: str) -> str:
    """Of the normalised content (SHA-256, hexadecimal): NFC, and every run of white space one space."""
    normal = _SPACE.sub(" ", unicodedata.normalize("NFC", content)).strip()
    return hashlib.sha256(normal.encode()).hexdigest()


def words(text: str) -> tuple[str, ...]:
    """The words that `text`, a query, is looked for by, each once, the long ones first: they tell most.

    Letters and digits only, so that none of them means anything to a search language.
    """
    text = unicodedata.normalize("NFC", text).lower()
    found = dict.fromkeys(word for word in _WORD.findall(text) if 1 < len(word) <= LONGEST)
    return tuple(sorted(found, key=len, reverse=True)[:WORDS])


def begins(word: str) -> bool:
    """Whether words that begin with this one are meant too: "not" does not mean "nothing"."""
    return len(word) > SHORT


def agree(one: str, other: str) -> bool:
    """Whether texts that a model takes for the same (cosine) are so word by word too.

    Models hardly see a number, a "not", or who did what to whom ("Anna trusts Ben"): these have to be
    the same and in the same order. A text may have a few words more than the other; a word in the place
    of another may only be a short one ("for our", "for the") or the same with another ending.
    """
    ours, theirs = _WORD.findall(one.casefold()), _WORD.findall(other.casefold())
    if _telling(ours, theirs) != _telling(theirs, ours):
        return False
    added, missing = _new(ours, theirs), _new(theirs, ours)
    if added and missing:
        return False
    return len(added) + len(missing) <= 1 + min(len(ours), len(theirs)) // 20


def _telling(these: list[str], those: list[str]) -> list[str]:
    """Of `these` what must be in `those` too, and in the same order."""
    known = set(those)
    return [
        word
        for word in these
        if word in _DENIES or not word.isalpha() or (len(word) >= SHORT and word in known)
    ]


def _new(these: list[str], those: list[str]) -> set[str]:
    """The words of `these` that are not short and not in `those`, not even with another ending."""
    known, beginnings = set(those), {word[:SHORT] for word in set(those) - set(these)}
    return {w for w in these if len(w) > SHORT and w not in known and w[:SHORT] not in beginnings}


def mismatch(namespace: str, has: tuple[str, int], given: tuple[str, int]) -> GateError:
    """Vectors of one model do not go with those of another (409). `has`, `given`: model and dimension."""
    message = (
        f"The namespace '{namespace}' holds vectors of {has[0]} with {has[1]} dimensions; "
        f"{given[0]} makes vectors with {given[1]}."
    )
    advice = f"Run: {reembed(namespace, given[0])}"
    return GateError(Fault("conflict", message, advice, "dimension_mismatch"))


def reembed(namespace: str, model: str) -> str:
    """The command that embeds a namespace anew; without one, every one that `model` would embed otherwise."""
    where = f" --namespace {shlex.quote(namespace)}" if namespace else ""
    return f"codexgate memory reembed{where} --model {shlex.quote(model)}"


def strong(near: Sequence[Near]) -> list[Near]:
    """Those that are not much weaker than the best, which is the first."""
    best = max(1 - near[0][1], 0) if near else 0
    return [(entry, distance) for entry, distance in near if 1 - distance >= WEAK * best]


def _strong_words(query: str, worded: Sequence[Entry], among: Sequence[Entry]) -> list[Entry]:
    """Those that hold about as much of `query` as the best, and a good part of it.

    A word tells the more, the fewer of the entries at hand hold it: "the" tells nothing.
    """
    sought = words(query)
    texts = {entry.id: _said(entry) for entry in (*worded, *among)}
    tells = {
        word: math.log((len(texts) + 1) / (sum(word in text for text in texts.values()) + 0.5))
        for word in sought
    }
    strength = {e.id: sum(tells[word] for word in sought if word in texts[e.id]) for e in worded}
    least = max(WEAK * max(strength.values(), default=0.0), PART * sum(tells.values()))
    strong = [entry for entry in worded if strength[entry.id] >= least]
    return sorted(strong, key=lambda entry: -strength[entry.id])


def _said(entry: Entry) -> str:
    return " ".join((entry.summary, entry.content, *entry.tags)).lower()


def fuse(query: str, meant: Sequence[Sequence[Near]], worded: Sequence[Entry]) -> tuple[Match, ...]:
    """What was found by meaning, by each model, and by words as one list, the best first. Takes milliseconds.

    By ranks only: distances of two models cannot be compared.
    """
    near = {entry.id: (rank, distance) for each in meant for rank, (entry, distance) in enumerate(each, 1)}
    known = {entry.id: entry for each in meant for entry, _ in each}
    worded = _strong_words(query, worded, [*known.values()])
    held = {entry.id: rank for rank, entry in enumerate(worded, 1)}
    known |= {entry.id: entry for entry in worded}
    matches = []
    for id, entry in known.items():
        rank, distance = near.get(id, (0, None))
        ways: tuple[tuple[Way, int], ...] = (("meaning", rank), ("words", held.get(id, 0)))
        why = tuple(way for way, rank in ways if rank)
        score = sum(1 / (RANKS + rank) for _, rank in ways if rank)
        matches.append(Match(entry, distance, why, round(score, 6)))
    return tuple(sorted(matches, key=lambda match: (-match.score, match.distance or 2.0, match.entry.id)))
