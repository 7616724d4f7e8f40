"""Natural-English prompts of the sticker world, and what they constrain.

A prompt sets up to three kinds of constraint: *scene* ("on the beach"), *property* (a colour) and
*layout* (size, place). Its complexity is the number of kinds; two or more make a *combination*.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from likewise.data.stickers.art import nearest
from likewise.data.stickers.rendering import COLOURS, PLACES, SIZES
from likewise.data.stickers.scenes import SCENES

KIND_OF_ATTRIBUTE = {"scene": "scene", "colour": "property", "size": "layout", "place": "layout"}

# The values of each attribute; the first is the usual one, which prompts leave unsaid.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "scene": ("none", *SCENES),
    "colour": ("none", *COLOURS),
    "size": ("normal", "tiny", "huge"),
    "place": ("centre", "left", "right"),
}

_SIZE_WORDS = {"tiny": ("tiny", "little"), "huge": ("huge", "giant")}
_PLACE_PHRASES = {"left": ("on the left", "at the left"), "right": ("on the right", "at the right")}
_OPENINGS = ("a picture of ", "a sticker of ")
# The nano generator reads 16 tokens: long prompts go without an opening, short ones often have one.
_LONGEST_WITH_OPENING = 8  # words


def constraints_of(look: Mapping[str, str]) -> dict[str, str]:
    """The attributes of `look` that differ from the usual (normal size, centre): what to ask for.

    Raises:
        ValueError: unknown attribute or value (the message names it).
    """
    known: dict[str, Mapping[str, object]] = {
        "scene": SCENES,
        "colour": COLOURS,
        "size": SIZES,
        "place": PLACES,
    }
    for attribute, value in look.items():
        if attribute not in known:
            raise ValueError(f"unknown attribute {attribute!r}{nearest(attribute, known)}")
        if value not in known[attribute]:
            raise ValueError(f"unknown {attribute} {value!r}{nearest(value, known[attribute])}")
    return {
        attribute: look[attribute]
        for attribute in known
        if look.get(attribute) not in (None, "normal", "centre")
    }


def kind_and_complexity(constraints: Mapping[str, str]) -> tuple[str, int]:
    """(kind, number of kinds of constraint); kind is "scene" for an unconstrained prompt."""
    kinds = {KIND_OF_ATTRIBUTE[attribute] for attribute in constraints}
    if len(kinds) > 1:
        return "combination", len(kinds)
    return (kinds.pop() if kinds else "scene"), max(1, len(kinds))


def write_prompt(name: str, constraints: Mapping[str, str], rng: np.random.Generator) -> str:
    """One of several phrasings, e.g. "a tiny red teapot on the left, in the snow"."""

    def choose(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    words = []
    if "size" in constraints:
        words.append(choose(_SIZE_WORDS[constraints["size"]]))
    if "colour" in constraints:
        words.append(constraints["colour"])
    words.append(name)
    noun_phrase = " ".join([_article(words[0]), *words])
    tail = []
    if "place" in constraints:
        tail.append(choose(_PLACE_PHRASES[constraints["place"]]))
    if "scene" in constraints:
        phrases = SCENES[constraints["scene"]].phrases
        tail.append(phrases[0] if tail else choose(phrases))
    prompt = " ".join([noun_phrase, ", ".join(tail)]).strip()
    if len(prompt.split()) <= _LONGEST_WITH_OPENING and rng.random() < 0.5:
        return choose(_OPENINGS) + prompt
    return prompt


def hard_negatives(
    name: str, constraints: Mapping[str, str], rng: np.random.Generator, count: int
) -> list[str]:
    """`count` prompts that are each wrong about exactly one attribute, all in different ways.

    The attribute is added, dropped or changed; all four are equally likely to be the wrong one.

    Raises:
        ValueError: more prompts are wanted than there are single changes (24).
    """
    changes, odds = [], []
    for attribute, values in ATTRIBUTES.items():
        now = constraints.get(attribute, values[0])
        others = [value for value in values if value != now]
        changes += [(attribute, value) for value in others]
        odds += [1.0 / (len(ATTRIBUTES) * len(others))] * len(others)
    if count > len(changes):
        raise ValueError(f"{count} hard negatives asked for, only {len(changes)} exist")
    chosen = rng.choice(len(changes), size=count, replace=False, p=odds)
    return [write_prompt(name, _changed(constraints, *changes[index]), rng) for index in chosen]


def _changed(constraints: Mapping[str, str], attribute: str, value: str) -> dict[str, str]:
    """The constraints with one attribute set; its usual value means "no constraint"."""
    kept = {key: old for key, old in constraints.items() if key != attribute}
    return kept if value == ATTRIBUTES[attribute][0] else {**kept, attribute: value}


def _article(word: str) -> str:
    sounds_like_a_vowel = word[0] in "aeiou" and not word.startswith(("uni", "ufo", "uku"))
    return "an" if sounds_like_a_vowel or word.startswith("hour") else "a"
