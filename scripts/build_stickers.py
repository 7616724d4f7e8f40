"""Rebuild the vendored sticker set from its two npm packages.

    python scripts/build_stickers.py [--packages FOLDER]

`scripts/stickers.tsv` is the curated list: plain name, category, split, code point. Art comes from
`@lobehub/fluent-emoji-3d` (Microsoft Fluent Emoji 3D, MIT). The curated names started from
`emoji-datasource-google` (MIT); the script checks that every code point still exists there.
Each image is trimmed to its opaque box, scaled to at most 112 px and stored as WebP.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "scripts" / "stickers.tsv"
TARGET = ROOT / "src" / "likewise" / "data" / "art"
PACKAGES = ("@lobehub/fluent-emoji-3d@1.1.0", "emoji-datasource-google@16.0.0")
LONGEST_SIDE = 112


def unpack(folder: Path) -> None:
    """Download (unless already there) and unpack the members that the build reads."""
    for package in PACKAGES:
        stem = package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz"
        if not (folder / stem).exists():
            subprocess.run(["npm", "pack", package], cwd=folder, check=True, capture_output=True)
        with tarfile.open(folder / stem) as archive:
            wanted = [
                member
                for member in archive.getmembers()
                if member.name.endswith((".webp", "emoji.json"))
            ]
            archive.extractall(folder, members=wanted, filter="data")


def known_code_points(folder: Path) -> set[str]:
    """Every code point sequence that the emoji data source lists, in lower case."""
    entries = json.loads((folder / "package" / "emoji.json").read_text(encoding="utf-8"))
    points = {
        entry[key].lower()
        for entry in entries
        for key in ("unified", "non_qualified")
        if entry[key]
    }
    return points | {point.replace("-fe0f", "") for point in points}


def save_sticker(source: Path, target: Path) -> None:
    """Trim to the opaque box, shrink, and store as WebP with alpha."""
    image = Image.open(source).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    image = image.crop(box)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    image.save(target, "WEBP", quality=88, alpha_quality=95, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--packages", type=Path, help="folder that holds (or receives) the tarballs"
    )
    folder = parser.parse_args().packages or Path(tempfile.mkdtemp())
    unpack(folder)
    known = known_code_points(folder)
    with LIST.open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    for old in TARGET.glob("*.webp"):
        old.unlink()
    subjects = []
    for row in rows:
        point = row["code_point"]
        if point not in known:
            raise SystemExit(
                f"{LIST.name}: {row['name']}: code point {point} is not in the emoji data"
            )
        file = row["name"].replace(" ", "_") + ".webp"
        save_sticker(folder / "package" / "assets" / f"{point}.webp", TARGET / file)
        subjects.append({**row, "file": file})
    (TARGET / "subjects.json").write_text(json.dumps(subjects, indent=0) + "\n", encoding="utf-8")
    print(f"{len(subjects)} stickers written to {TARGET.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
