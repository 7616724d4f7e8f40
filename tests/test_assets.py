"""Shipped models are found by name, and every way of not finding one says what to do next."""

from pathlib import Path

import pytest

from likewise import assets
from likewise.pretrain.stages import PARTS, STAGES


@pytest.mark.parametrize("name", assets.names())
def test_present_model_is_its_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "_HERE", tmp_path)
    (tmp_path / name).mkdir()
    assert assets.path(name) == tmp_path / name


@pytest.mark.parametrize("name", assets.names())
def test_absent_model_names_the_command_that_rebuilds_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "_HERE", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{name!r}.*`likewise pretrain ") as error:
        assets.path(name)
    part = str(error.value).rpartition("pretrain ")[2].strip("`")
    assert name in [STAGES[stage].model for stage in PARTS[part]]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("nano-context", "nano-kontext"),
        ("dinov2", "nano-dinov2"),
        ("evaluator_prompt", "evaluator-prompt"),
    ],
)
def test_unknown_name_suggests_the_nearest(typo: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"'{typo}': did you mean '{meant}'"):
        assets.path(typo)


@pytest.mark.parametrize("name", ["", "..", "zzz"])
def test_unknown_name_with_nothing_near_lists_all(name: str) -> None:
    with pytest.raises(ValueError, match=", ".join(assets.names())):
        assets.path(name)
