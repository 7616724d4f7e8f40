"""What the checkpoint calls its tensors, and what our model calls them.

``HPSv3.safetensors`` holds the whole model under the names of transformers 4.45; transformers
since 4.52 saves the same model under others, and such files are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping

Shape = tuple[int, ...]

# The first that fits holds: what a name in a file begins with, and in our model.
NEWER = (
    ("model.visual.", "backbone.visual."),
    ("model.language_model.", "backbone.language_model."),
)
PUBLISHED = (("visual.", "backbone.visual."), ("model.", "backbone.language_model."))
UNUSED = "lm_head.weight"  # predicts words, which no score needs
NAMED = 5  # tensors at most, in a message


def published_name(ours: str) -> str:
    """What the published checkpoint calls a tensor of our model."""
    for theirs, prefix in PUBLISHED:
        if ours.startswith(prefix):
            return theirs + ours.removeprefix(prefix)
    return ours


def our_name(key: str) -> str:
    """What our model calls a tensor of a file, in either layout; itself if nothing is known."""
    for theirs, prefix in (*NEWER, *PUBLISHED):
        if key.startswith(theirs):
            return prefix + key.removeprefix(theirs)
    return key


def placed(found: Mapping[str, Shape], wanted: Mapping[str, Shape], file: object) -> dict[str, str]:
    """Where in the file each tensor of our model is: our name → the file's.

    Args:
        found: Shapes of all tensors of the file, by its names.
        wanted: Shapes of all that must be there, by our names, UNUSED included.
        file: For messages.

    Raises:
        ValueError: one is missing, unknown, there twice, or of another shape; all or the first few
            are named.
    """
    names: dict[str, str] = {}
    twice = [
        f"{key} and {first}"
        for key in found
        if (first := names.setdefault(our_name(key), key)) != key
    ]
    complaints = {
        "are missing": [published_name(name) for name in wanted if name not in names],
        "are unknown": [key for name, key in names.items() if name not in wanted],
        "are two names of one tensor": twice,
        "have the wrong shape": [
            f"{key} {list(found[key])}, wanted {list(wanted[name])}"
            for name, key in names.items()
            if name in wanted and tuple(found[key]) != tuple(wanted[name])
        ],
    }
    if problems := [_listed(what, which) for what, which in complaints.items() if which]:
        raise ValueError(
            f"model: {file} is not an HPSv3 checkpoint of this base: {'; '.join(problems)}"
        )
    return names


def _listed(what: str, which: list[str]) -> str:
    more = f" and {len(which) - NAMED} more" if len(which) > NAMED else ""
    return f"{what}: {', '.join(which[:NAMED])}{more}"
