"""The gallery: several systems beside each other, and nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import EVIL, TASKS, make_images, references
from PIL import Image
from serving import served

from likewise.app.catalogue import Catalogue
from likewise.app.server import create_app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two systems, and one whose table names files outside."""
    root = tmp_path / "in"
    make_images(root / "e" / "before", 0.4, 0.0)
    make_images(root / "e" / "after", 0.6, 1.0)
    (root / "e" / "settings.json").write_text('{"benchmark": "made-up"}')
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    make_images(root / "bad", 0.5, 0.5)
    table = pq.read_table(root / "bad" / "scores.parquet").to_pylist()
    names = ["../../secret.png", str(tmp_path / "secret.png"), "scores.parquet", "images/link.png"]
    (root / "bad" / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    for row, name in zip(table, names, strict=True):
        row["file"] = name
    pq.write_table(pa.Table.from_pylist(table), root / "bad" / "scores.parquet")
    return root


def ids(folder: Path) -> dict[str, str]:
    return {Path(one.label).name: one.id for one in Catalogue([folder]).evaluations()}


def test_systems_stand_beside_each_other(folder: Path) -> None:
    known = ids(folder)
    assert set(known) == {"before", "after", "bad"}
    with served(create_app([folder], references=references)) as url:
        query = f"system={known['before']}&system={known['after']}"
        content = httpx2.get(f"{url}/gallery/data?{query}", trust_env=False, timeout=60).json()
        assert [Path(one["label"]).name for one in content["systems"]] == ["before", "after"]
        assert len(content["tasks"]) == len(TASKS)
        task = content["tasks"][0]
        assert task["prompt"] == EVIL and task["kind"] == "scene"
        assert [task["images"][number]["scores"]["evaluator/identity"] for number in "01"] == [
            0.4,
            0.6,
        ]
        image = httpx2.get(f"{url}/gallery/image/{known['after']}/0", trust_env=False)
        assert image.headers["content-type"] == "image/png"
        asked = f"{url}/gallery/reference?benchmark=made-up&task=t0"
        assert httpx2.get(asked, trust_env=False).headers["content-type"] == "image/webp"


def test_nothing_from_elsewhere_is_shown(folder: Path) -> None:
    known = ids(folder)
    paths = [f"/gallery/image/{known['bad']}/{index}" for index in range(4)]
    paths += [f"/gallery/image/{known['bad']}/4", "/gallery/image/nothing/0"]
    paths += [
        "/gallery/reference?benchmark=/etc&task=passwd",
        "/gallery/reference?benchmark=made-up",
    ]
    with served(create_app([folder], references=references)) as url:
        for path in paths:
            assert httpx2.get(url + path, trust_env=False, timeout=60).status_code == 404, path


def test_a_damaged_table_is_named(folder: Path) -> None:
    (folder / "e" / "after" / "scores.parquet").write_bytes(b"nothing")
    known = ids(folder)
    with served(create_app([folder])) as url:
        query = f"system={known['before']}&system={known['after']}"
        content = httpx2.get(f"{url}/gallery/data?{query}", trust_env=False, timeout=60).json()
    assert "damaged" in content["systems"][1]["problem"] and len(content["tasks"]) == len(TASKS)
