"""Prompts that a text encoder cuts are counted, and no others."""

from __future__ import annotations

import torch
from policies import suite
from policies.families import Family


def test_a_cut_prompt_is_one_whose_end_has_no_effect(family: Family) -> None:
    policy = suite.plain(family)
    short, long = "a duck", "a duck " + "in the snow " * 300
    unheard = {prompt: same(family, prompt, f"{prompt} on the beach") for prompt in (short, long)}
    assert policy.cut_prompts([short, long, short]) == [long] * unheard[long]
    assert not unheard[short]


def test_prompts_of_just_the_right_length_are_not_cut(family: Family) -> None:
    prompts = ["duck" + " snow" * count for count in range(600)]
    cut = suite.plain(family).cut_prompts(prompts)
    assert cut == prompts[len(prompts) - len(cut) :]
    if cut:
        fits = prompts[-len(cut) - 1]
        assert not same(family, fits, prompts[-len(cut) - 2])


def same(family: Family, one: str, other: str) -> bool:
    """Whether two prompts are embedded alike."""
    tasks = [suite.a_task(family, prompt=prompt) for prompt in (one, other)]
    first, second = suite.plain(family).encode(tasks).tasks
    return torch.equal(first.text["states"], second.text["states"])
