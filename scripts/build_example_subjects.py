"""Write the data set examples/subjects: python scripts/build_example_subjects.py."""

from __future__ import annotations

from pathlib import Path

from likewise.data.stickers.world import shipped_art, subject_photos

FOLDER = Path(__file__).parents[1] / "examples" / "subjects"
SUBJECTS = ("penguin", "teapot")  # held out: the nano generator never saw them
PROMPTS = """\
# one prompt a line; {} is where the class goes
a {} on the beach
a {} in the snow
a blue {}
"""


def main() -> None:
    for subject in SUBJECTS:
        photos = subject_photos(subject, "example", shipped_art())
        masks = FOLDER / subject / "masks"
        masks.mkdir(parents=True, exist_ok=True)
        photos.reference.mask.save(masks / "0.png")
        for number, image in enumerate((photos.reference.image, *photos.others)):
            image.save(FOLDER / subject / f"{number}.png")
    (FOLDER / "prompts.txt").write_text(PROMPTS, encoding="utf-8")


if __name__ == "__main__":
    main()
