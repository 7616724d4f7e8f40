"""`likewise evaluate`: runs, models, other systems' images, real photos; and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from running import TINY, run, said
from tiny import photo

import likewise
from likewise import assets
from likewise.evaluation.summary import read_summary
from likewise.records import RunDirectory

IDENTITY = ["dinov2", "dinov2/held-out", "dinov2/copy-index"]
PROMPTS = """Classes
subject_name,class
mug,mug
cat2,cat
Prompts
Object Prompts
'a {0} {1} in the jungle'
'a red {0} {1}'
Live Subject Prompts
'a {0} {1} in the jungle'
"""


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def compared(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the tiny run, evaluated, and what the command said."""
    folder = tmp_path_factory.mktemp("compared") / "tiny"
    shutil.copytree(finished_run, folder)
    result = run("evaluate", folder, "--tasks", "4")
    assert result.exit_code == 0, result.output
    return folder, said(result)


@pytest.fixture(scope="module")
def dreambench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects with two photos each; three tasks."""
    folder = tmp_path_factory.mktemp("dreambench")
    (folder / "prompts_and_classes.txt").write_text(PROMPTS)
    for index, subject in enumerate(("mug", "cat2")):
        (folder / "images" / subject).mkdir(parents=True)
        for number in range(2):
            image = photo(70, 90, 2 * index + number)
            image.save(folder / "images" / subject / f"{number:02d}.png")
    return folder


def test_a_run_is_compared_with_its_model_before(compared: tuple[Path, str]) -> None:
    words = ("4 tasks", "prompt reward", "identity reward", "same subject (evaluator)", "change")
    words += ("single-ref", "dinov2/held-out", "dinov2/copy-index", "background")
    assert all(text in compared[1] for text in words)
    folder = compared[0] / "evaluation" / "sticker-bench-single-ref"
    with Image.open(folder / "before-after.png") as sheet:
        assert sheet.size == (4 * 132, 3 * 146)
    summary = read_summary(folder)
    rewards = ["reward/prompt", "reward/identity", "evaluator/identity", "evaluator/prompt"]
    assert set(summary.systems) == {"before", "after"} and summary.settings.seed == 3407
    assert summary.settings.source == "iteration-000001" and summary.settings.num_steps == 3
    for name in (*rewards, *IDENTITY):
        assert summary.systems["after"][name].n == summary.change[name].n > 0
    manifests = [(folder / name / "manifest.jsonl").read_text() for name in ("before", "after")]
    assert manifests[0] == manifests[1]  # the same noise
    table = pq.read_table(folder / "after" / "scores.parquet").to_pydict()
    assert table["file"] == [json.loads(line)["file"] for line in manifests[1].splitlines()]
    mean = sum(table["reward/prompt"]) / 4
    assert summary.systems["after"]["reward/prompt"].mean == pytest.approx(mean)


def test_before_is_what_the_model_draws(compared: tuple[Path, str], tmp_path: Path) -> None:
    result = run("evaluate", "nano-kontext", "--tasks", "2", "--steps", "3", "--out", tmp_path)
    assert result.exit_code == 0 and "change" not in said(result), result.output
    before = compared[0] / "evaluation" / "sticker-bench-single-ref" / "before" / "images"
    images = contents(tmp_path / "model" / "images")
    assert len(images) == 2
    for name in images:  # of two tasks at once and of four, bfloat16 rounds differently
        with Image.open(before / name) as one, Image.open(tmp_path / "model/images" / name) as two:
            pairs = list(zip(one.tobytes(), two.tobytes(), strict=True))
        assert sum(abs(a - b) for a, b in pairs) / len(pairs) < 3


def test_a_second_call_goes_on_and_other_settings_are_refused(compared: tuple[Path, str]) -> None:
    folder = compared[0] / "evaluation" / "sticker-bench-single-ref"
    wanted = contents(folder)
    assert run("evaluate", compared[0], "--tasks", "4").exit_code == 0
    assert contents(folder) == wanted
    for option, value, words in (
        ("--tasks", "5", "tasks: 4, not 5"),
        ("--seed", "1", "seed: 3407, not 1"),
        ("--steps", "2", "num_steps: 3, not 2"),
        ("--metric", "dinov2=elsewhere", "encoder of dinov2: nano-dinov2, not elsewhere"),
    ):
        words_given = ("--tasks", "4") if option != "--tasks" else ()
        result = run("evaluate", compared[0], *words_given, option, value)
        assert result.exit_code == 2 and words in said(result)
    result = run("evaluate", compared[0], "--tasks", "4", "--protocol", "uno", "--out", folder)
    assert result.exit_code == 2 and "protocol: single-ref, not uno" in said(result)
    assert contents(folder) == wanted


def test_one_system_of_a_run_alone(compared: tuple[Path, str], tmp_path: Path) -> None:
    words = ("evaluate", compared[0], "--tasks", "4", "--out", tmp_path)
    result = run(*words, "--only", "after")
    assert result.exit_code == 0 and not (tmp_path / "before").exists(), result.output
    assert "change" not in said(result) and not (tmp_path / "before-after.png").exists()
    assert run(*words, "--only", "before").exit_code == 0
    assert contents(tmp_path) == contents(compared[0] / "evaluation" / "sticker-bench-single-ref")
    with pytest.raises(ValueError, match="did you mean 'before'"):
        likewise.evaluate(compared[0], only="befor")


def test_evaluations_share_a_table_only_where_they_may(
    compared: tuple[Path, str], tmp_path: Path
) -> None:
    folder = compared[0] / "evaluation" / "sticker-bench-single-ref"
    own = ("evaluate", folder / "after", "--beside", folder, "--name", "again")
    result = run(*own, "--recipe", "stickers", "--out", tmp_path / "fits")
    assert result.exit_code == 0, result.output
    assert all(name in said(result) for name in ("1/before", "1/after", "2/again"))
    result = run(*own, "--protocol", "uno", "--out", tmp_path / "uno")
    assert result.exit_code == 2 and "must not share a table: protocol is" in said(result)
    result = run(*own, "--beside", tmp_path, "--out", tmp_path / "more")
    assert result.exit_code == 2 and "is not a finished evaluation" in said(result)


def test_images_of_another_system_are_scored(compared: tuple[Path, str], tmp_path: Path) -> None:
    """Those of the run, handed in as a stranger's: the same numbers."""
    own = compared[0] / "evaluation" / "sticker-bench-single-ref" / "after"
    theirs = tmp_path / "theirs"
    shutil.copytree(own / "images", theirs / "images")
    rows = [json.loads(line) for line in (own / "manifest.jsonl").read_text().splitlines()]
    lines = [json.dumps({key: row[key] for key in ("file", "subject", "prompt")}) for row in rows]
    (theirs / "manifest.jsonl").write_text("\n".join(lines))
    out = tmp_path / "out"
    words = ("evaluate", theirs, "--recipe", "stickers", "--name", "rival", "--out", out)
    result = run(*words)
    assert result.exit_code == 0 and "rival" in said(result), result.output
    table = pq.read_table(out / "rival" / "scores.parquet")
    wanted = pq.read_table(own / "scores.parquet")
    assert table.drop_columns("file").equals(wanted.drop_columns("file"))
    assert [(out / "rival" / file).resolve() for file in table["file"].to_pylist()] == [
        theirs / row["file"] for row in rows
    ]
    (theirs / "manifest.jsonl").write_text("\n".join(lines[::-1]))
    result = run(*words)
    assert result.exit_code == 2 and "lists other images" in said(result)
    (theirs / "manifest.jsonl").write_text("\n".join(lines[:2]))
    result = run(*words)
    assert result.exit_code == 2 and "tasks: 4, not 2" in said(result)


def test_real_photos_of_a_benchmark_of_photos(dreambench: Path, tmp_path: Path) -> None:
    encoder = f"dino={assets.path('nano-dinov2')}"
    words = ("evaluate", "real", "--benchmark", dreambench, "--out", tmp_path)
    result = run(*words, "--protocol", "dreambooth", "--metric", encoder)
    assert result.exit_code == 0 and "real" in said(result), result.output
    table = pq.read_table(tmp_path / "real" / "scores.parquet").to_pydict()
    assert table["task"] == ["mug-real", "mug-real", "cat2-real", "cat2-real"]
    assert [row.index(None) for row in table["dino/photos"]] == [0, 1, 0, 1]
    summary = read_summary(tmp_path)
    assert summary.systems["real"]["dino"].n == 4 and summary.settings.protocol == "dreambooth"


def test_a_model_draws_photos_of_any_size(dreambench: Path, tmp_path: Path) -> None:
    words = ("evaluate", "nano-kontext", "--benchmark", dreambench, "--protocol", "dreambooth")
    encoders = ("--metric", "dinov2=nano-dinov2", "--metric", "clip-t=nano-clip")
    result = run(*words, *encoders, "--steps", "2", "--images-per-prompt", "2", "--out", tmp_path)
    assert result.exit_code == 0 and "evaluator" not in said(result), result.output
    table = pq.read_table(tmp_path / "model" / "scores.parquet").to_pydict()
    assert table["number"] == [0, 1] * 3 and None not in table["dinov2/diversity"]
    assert None not in table["clip-t"] and table["reward/identity"] == [None] * 6  # no masks
    with Image.open(tmp_path / "model" / table["file"][0]) as image:
        assert image.size == (64, 64)


def test_flat_images_of_another_system_have_no_scores(dreambench: Path, tmp_path: Path) -> None:
    rows = [
        {"file": f"{n}.png", "subject": subject, "prompt": f"a red {name}"}
        for n, (subject, name) in enumerate((("mug", "mug"), ("mug", "mug"), ("cat2", "cat")))
    ]
    rows[2]["prompt"] = "a cat in the jungle"
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for row, image in zip(rows, (photo(64, 64), Image.new("RGB", (64, 64))) * 2, strict=False):
        image.save(theirs / row["file"])
    (theirs / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("evaluate", theirs, "--benchmark", dreambench, "--out", tmp_path / "out")
    result = run(*words, "--metric", "dinov2=nano-dinov2", "--metric", "clip-t=nano-clip")
    assert result.exit_code == 0, result.output
    assert "theirs: flat images: 1 (missing in all scores)" in said(result)
    summary = read_summary(tmp_path / "out")
    assert summary.spoilt == {"theirs": {"flat": 1}}
    assert summary.systems["theirs"]["dinov2"].n == summary.systems["theirs"]["clip-t"].n == 2
    table = pq.read_table(tmp_path / "out" / "theirs" / "scores.parquet").to_pydict()
    assert table["spoilt"] == [None, "flat", None] and table["clip-t/truncated"][1] is None


def test_photos_are_scored_by_the_evaluators_of_the_recipe(
    dreambench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("bright.py").write_text(
        "def bright(images, tasks):\n"
        "    return [image.convert('L').resize((1, 1)).getpixel((0, 0)) for image in images]\n"
    )
    own = "{kind: function, side: prompt, target: 'bright:bright'}"
    Path("own.yaml").write_text(f"extends: stickers\nname: own\nevaluators: {{prompt: {own}}}\n")
    (tmp_path / "theirs").mkdir()
    photo(64, 64).save(tmp_path / "theirs" / "0.png")
    row = {"file": "0.png", "subject": "mug", "prompt": "a red mug"}
    (tmp_path / "theirs" / "manifest.jsonl").write_text(json.dumps(row))
    words = ("evaluate", "theirs", "--recipe", "own.yaml", "--benchmark", dreambench)
    metrics = ("--metric", "dino=nano-dinov2", "--metric", "clip-t=nano-clip", "--metric")
    result = run(
        *words, *metrics, f"pickscore={assets.path('nano-clip')},processor=", "--out", "out"
    )
    assert result.exit_code == 0 and "prompt followed (evaluator)" in said(result), result.output
    assert "pickscore" in said(result)
    table = pq.read_table(tmp_path / "out" / "theirs" / "scores.parquet").to_pydict()
    assert 100 < table["evaluator/prompt"][0] < 155
    assert table["pickscore"][0] is not None and table["clip-t/truncated"] == [False]
    assert read_summary(tmp_path / "out").settings.encoders["evaluator/prompt"] == "bright:bright"


def test_a_run_trained_on_the_benchmark_is_labelled(dreambench: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "teapot").mkdir(parents=True)
    shutil.copy(dreambench / "images" / "mug" / "01.png", tmp_path / "mine" / "teapot" / "a.png")
    (tmp_path / "mine" / "prompts.txt").write_text("a {} on the moon")
    data = f"data={{kind: folder, path: {tmp_path / 'mine'}, held_out: null, workers: 0}}"
    words = (*TINY, data, "rewards.identity.segment=false", "--run-dir", tmp_path / "run")
    result = run("train", *words)
    assert result.exit_code == 0, result.output
    words = ("--benchmark", dreambench, "--only", "after", "--metric", "dinov2=nano-dinov2")
    result = run("evaluate", tmp_path / "run", *words, "--tasks", "2", "--device", "cpu")
    assert result.exit_code == 0 and "after*" in said(result), result.output
    assert "trained on 1 of the benchmark's 2 subjects (mug)" in said(result)


def test_what_is_no_target_is_named(tmp_path: Path) -> None:
    result = run("evaluate", tmp_path / "nowhere")
    assert result.exit_code == 2 and f"there is no {tmp_path / 'nowhere'}" in result.output
    result = run("evaluate", tmp_path)
    assert result.exit_code == 2 and "is not a run directory" in said(result)
    result = run("evaluate", "no-such-owner/no-such-model", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "no-such-model" in said(result)
    assert not (tmp_path / "out").exists()


def test_a_run_without_checkpoints_says_so(tmp_path: Path, finished_run: Path) -> None:
    recipe = RunDirectory.open(finished_run).recipe
    RunDirectory.create(tmp_path / "new", recipe, {})
    result = run("evaluate", tmp_path / "new")
    assert result.exit_code == 2 and "has no intact checkpoint" in said(result)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--benchmark", "dreambench"], "git clone https://github.com/google/dreambooth"),
        (["--benchmark", "EMPTY"], "prompts_and_classes.txt"),
        (["--benchmark", "sticker-benhc"], "did you mean 'sticker-bench'?"),
        (["--metric", "dyno=nano-dinov2"], "no metric 'dyno'; did you mean 'dino'?"),
        (["--metric", "dino"], "write NAME=MODEL"),
        (["--metric", "dino=EMPTY"], "metric dino: cannot load"),
        (["--best"], "the best checkpoint is that of a run"),
        (["--recipe", "stickers"], "a recipe is for models and images"),
        (["--name", "x"], "a name is for a folder of images"),
        (["--only", "after"], "has no system 'after'"),
    ],
)
def test_a_wrong_option_is_one_clear_error(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = [word.replace("EMPTY", str(tmp_path / "empty")) for word in words]
    result = run("evaluate", "real", *given, "--out", tmp_path / "out")
    assert result.exit_code == 2 and message in said(result)
    assert said(result).count("error:") == 1


def test_a_wrong_choice_is_one_clear_error() -> None:
    for option in ("--protocol", "--only"):
        result = run("evaluate", "real", option, "ono")
        assert result.exit_code == 2 and "'ono' is not one of" in said(result)
    with pytest.raises(ValueError, match="did you mean 'dreambooth'"):
        likewise.evaluate("real", likewise.EvaluationSettings(protocol="dreamboth"))


def test_a_damaged_benchmark_is_one_clear_error(dreambench: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "bench", tmp_path / "out"
    shutil.copytree(dreambench, folder)
    (folder / "images" / "mug" / "01.png").write_bytes(b"not an image")
    result = run("evaluate", "real", "--benchmark", folder, "--out", out)
    assert result.exit_code == 2 and "mug/01.png is none of JPEG" in result.output
    shutil.rmtree(folder / "images" / "mug")
    result = run("evaluate", "real", "--benchmark", folder, "--out", out)
    assert result.exit_code == 2 and "mug" in said(result) and not out.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"sujbect": "mug"}, "line 1: sujbect: unknown key; did you mean 'subject'?"),
        ({"subject": "jug"}, "subject 'jug' is not in the benchmark; did you mean 'mug'?"),
        ({"file": "gone.png"}, "there is no such file"),
        ({"file": "torn.png"}, "torn.png is none of JPEG"),
    ],
)
def test_a_wrong_manifest_is_one_clear_error(
    line: dict[str, str], message: str, dreambench: Path, tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    photo(64, 64).save(tmp_path / "0.png")
    row = {"file": "0.png", "subject": "mug", "prompt": "a red mug", **line}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    words = ("evaluate", tmp_path, "--benchmark", dreambench, "--metric", "dinov2=nano-dinov2")
    result = run(*words, "--out", tmp_path / "out")
    assert result.exit_code == 2 and message in said(result)


def test_two_evaluations_in_one_folder_take_turns(compared: tuple[Path, str]) -> None:
    from likewise.records.locks import exclusive

    folder = compared[0] / "evaluation" / "sticker-bench-single-ref"
    with exclusive(folder / ".lock", lambda _: AssertionError("it is free")):
        result = run("evaluate", compared[0], "--tasks", "4")
    assert result.exit_code == 2 and "is in use: process" in said(result)
