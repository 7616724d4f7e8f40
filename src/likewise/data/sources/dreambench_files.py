"""What a folder in google/dreambooth's layout holds: classes, prompts, photos.

Two forms are read, the repository's own and one with the photos in a folder of their own:

    dataset/prompts_and_classes.txt          prompts_and_classes.txt
    dataset/<subject>/00.jpg …               images/<subject>/00.jpg …
                                             single_reference.json      optional in both

``prompts_and_classes.txt`` has the sections "Classes" (lines ``subject,class``), "Object Prompts"
and "Live Subject Prompts" (quoted templates, "a {0} {1} in the snow"). ``single_reference.json``
has ``{"reference": {subject: file name}}``, the photo that conditions the generator.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from likewise.images import SUFFIXES, is_litter

PROMPTS = "prompts_and_classes.txt"
REFERENCES = "single_reference.json"
OBJECT, LIVE = "Object Prompts", "Live Subject Prompts"

HOW_TO_GET = f"""\
DreamBench is the folder `dataset` of https://github.com/google/dreambooth: get it with
    git clone https://github.com/google/dreambooth
and give the path dreambooth/dataset. In it are {PROMPTS} and a folder of photos per subject
(dog/00.jpg, …), directly or under images/."""

_SECTIONS = re.compile(rf"^(Classes|Prompts|{OBJECT}|{LIVE})\s*$", re.MULTILINE)
_TEMPLATE = re.compile(r"""^\s*(['"])(.+?)\1""", re.MULTILINE)
_SLOT = re.compile(r"\{\d?\}")


@dataclass(frozen=True)
class Sheet:
    """The prompts file.

    Attributes:
        classes: Subject → plain name of its class, in the file's order.
        templates: ``OBJECT`` and ``LIVE`` → templates with one or two slots, in the file's order.
    """

    classes: dict[str, str]
    templates: dict[str, list[str]]


def find_root(folder: Path) -> Path:
    """Where the prompts file is: `folder`, or its ``dataset``.

    Raises:
        FileNotFoundError: it is in neither (the message says where to get it).
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}. {HOW_TO_GET}")
    for root in (folder, folder / "dataset"):
        if (root / PROMPTS).is_file():
            return root
    raise FileNotFoundError(f"{folder} has no {PROMPTS}. {HOW_TO_GET}")


def read_sheet(root: Path) -> Sheet:
    """Classes and templates.

    Raises:
        ValueError: a section is missing or empty, or a template has no slot for the class.
    """
    file = root / PROMPTS
    parts = _SECTIONS.split(file.read_text(encoding="utf-8-sig"))
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    pairs = [line.split(",", 1) for line in sections.get("Classes", "").splitlines() if "," in line]
    classes = {subject.strip(): name.strip() for subject, name in pairs}
    classes.pop("subject_name", None)  # the header
    templates = {
        name: [template for _, template in _TEMPLATE.findall(sections.get(name, ""))]
        for name in (OBJECT, LIVE)
    }
    for name, found in {"Classes": classes, **templates}.items():
        if not found:
            raise ValueError(f"{file} has no list {name!r}, or nothing in it. {HOW_TO_GET}")
    for template in (template for found in templates.values() for template in found):
        if not 1 <= len(_SLOT.findall(template)) <= 2:
            raise ValueError(f"{file}: {template!r} needs {{0}} {{1}}, a token and the class")
    return Sheet(classes, templates)


def fill(template: str, class_name: str) -> str:
    """The prompt: the class in the last slot, and nothing in one for a unique token."""
    *token, subject = _SLOT.finditer(template)
    start = token[0].start() if token else subject.start()
    end = token[0].end() if token else start
    words = template[:start] + template[end : subject.start()] + class_name
    return " ".join((words + template[subject.end() :]).split())


def photo_files(root: Path, subject: str) -> list[Path]:
    """A subject's photos: the reference, then the others in the order of their names.

    Raises:
        FileNotFoundError: the subject's folder is missing, has no photo, or the reference that
            ``single_reference.json`` names is not among them.
        ValueError: ``single_reference.json`` is damaged.
    """
    around = root / "images" if (root / "images").is_dir() else root
    folder = around / subject
    if not folder.is_dir():
        raise FileNotFoundError(f"subject {subject!r} of {root / PROMPTS} has no folder {folder}")
    files = sorted(file for file in folder.iterdir() if is_photo(file))
    if not files:
        raise FileNotFoundError(
            f"subject {subject!r} has no photos ({', '.join(sorted(SUFFIXES))}) in {folder}"
        )
    reference = folder / read_references(root).get(subject, files[0].name)
    if reference not in files:
        raise FileNotFoundError(f"{root / REFERENCES} names {reference}, which is not there")
    return [reference, *(file for file in files if file != reference)]


def is_photo(file: Path) -> bool:
    """Whether a name is a photo's; that of a link which leads nowhere is one too."""
    return file.suffix.lower() in SUFFIXES and not is_litter(file.name) and not file.is_dir()


def read_references(root: Path) -> dict[str, str]:
    """Subject → file name of the photo that conditions; empty without ``single_reference.json``.

    Raises:
        ValueError: the file is damaged.
    """
    file = root / REFERENCES
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))["reference"]
        return {str(subject): str(name) for subject, name in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{file} should have {{"reference": {{subject: file name}}}}: {error!r}'
        ) from error
