"""Units, their order, their commands, and what the disk says of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from likewise.algorithm.timeweights import tdw
from likewise.config import Study, load_recipe, load_study
from likewise.config.study import unit_recipe
from likewise.records import CheckpointStore, RunDirectory, RunDirectoryError
from likewise.rollout.steps import plan_steps
from likewise.study.existing import check_folder
from likewise.study.journal import Journal
from likewise.study.units import BASE_UNIT, Plan, Unit

TRAIN, EVALUATE = Unit("train", "ours", 7), Unit("evaluate", "ours", 7)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    study = Study.model_validate(
        {
            "name": "small",
            "overrides": {"run.iterations": 2, "run.trackers": []},
            "seeds": [7, 0],
            "arms": {"ours": {"recipe": "stickers"}, "naive": {"recipe": "stickers-naive"}},
            "baseline": "naive",
            "evaluation": {"tasks": 5, "seed": 3},
        }
    )
    return Plan(study, tmp_path / "out")


def make_run(plan: Plan, unit: Unit = TRAIN, *overrides: str, name: str = "stickers") -> Path:
    """A run as it is before its first checkpoint."""
    assert unit.seed is not None
    seeds = [f"seed={unit.seed}", f"data.seed={unit.seed}", "run.iterations=2", "run.trackers=[]"]
    RunDirectory.create(plan.run(unit), load_recipe(name, [*seeds, *overrides]), {})
    return plan.run(unit)


def save(run: Path, iteration: int) -> Path:
    store = CheckpointStore(run / "checkpoints", 1)
    return store.save(iteration, lambda folder: (folder / "adapter").write_text("trained"))


def make_evaluation(plan: Plan, unit: Unit, **settings: object) -> Path:
    """One that is begun."""
    folder = plan.evaluation(unit)
    folder.mkdir(parents=True)
    planned = {"benchmark": "sticker-bench", "protocol": "single-ref", "tasks": 5, "seed": 3}
    (folder / "settings.json").write_text(json.dumps({**planned, **settings}))
    return folder


def test_units_come_by_seed_and_evaluation_after_training(plan: Plan) -> None:
    assert [str(unit) for unit in plan.units] == [
        "evaluate base",
        *("train ours seed 7", "evaluate ours seed 7"),
        *("train naive seed 7", "evaluate naive seed 7"),
        *("train ours seed 0", "evaluate ours seed 0"),
        *("train naive seed 0", "evaluate naive seed 0"),
    ]
    assert EVALUATE.needs == TRAIN and TRAIN.needs is None and BASE_UNIT.needs is None


def test_evaluations_trust_the_code_of_the_studys_own_arms(tmp_path: Path) -> None:
    reward = {"kind": "function", "side": "prompt", "target": "examples.vivid:vivid"}
    own = {"recipe": "stickers", "overrides": {"rewards.vivid": reward}}
    arms = {"own": own, "naive": {"recipe": "stickers-naive"}}
    content = {"name": "small", "seeds": [7], "arms": arms, "baseline": "naive"}
    plan = Plan(Study.model_validate(content), tmp_path)
    assert "--trust-code" in plan.words(Unit("evaluate", "own", 7))
    assert "--trust-code" not in plan.words(Unit("evaluate", "naive", 7))


def test_a_training_is_new_started_and_finished(plan: Plan) -> None:
    words = plan.words(TRAIN)
    assert plan.state(TRAIN) == "new"
    run = make_run(plan)
    assert plan.state(TRAIN) == "started"
    assert plan.words(TRAIN) == ["train", "--resume", str(run)]
    save(run, 1)
    assert plan.state(TRAIN) == "started"
    last = save(run, 2)
    assert plan.state(TRAIN) == "finished"
    (last / "adapter").write_text("damaged")
    with pytest.warns(UserWarning, match="has 7 bytes instead of|has changed"):
        assert plan.state(TRAIN) == "started"
    assert plan.words(TRAIN, afresh=True) == words


def test_the_command_of_a_unit_gives_the_planned_recipe(plan: Plan) -> None:
    command, recipe, option, path, *overrides = plan.words(TRAIN)
    assert (command, option, path) == ("train", "--run-dir", str(plan.run(TRAIN)))
    assert (
        load_recipe(recipe, overrides) == plan.recipe(TRAIN) == unit_recipe(plan.study, "ours", 7)
    )


def test_an_evaluation_is_finished_with_its_summary(plan: Plan) -> None:
    assert plan.state(EVALUATE) == "new"
    folder = make_evaluation(plan, EVALUATE)
    assert plan.state(EVALUATE) == "started"
    (folder / "after").mkdir()
    (folder / "after" / "scores.parquet").touch()
    assert plan.state(EVALUATE) == "started"
    (folder / "summary.json").write_text("{}")
    assert plan.state(EVALUATE) == "finished"


def test_commands_of_evaluations(plan: Plan) -> None:
    settings = ["--benchmark", "sticker-bench", "--protocol", "single-ref", "--tasks", "5"]
    settings += ["--seed", "3", "--out"]
    run, out = str(plan.run(TRAIN)), str(plan.run(TRAIN) / "evaluation" / "study")
    assert plan.words(EVALUATE) == ["evaluate", run, "--only", "after", *settings, out]
    base = plan.folder / "base"
    target = ["nano-kontext", "--recipe", str(base / "drawn-by.yaml")]
    assert plan.words(BASE_UNIT) == ["evaluate", *target, *settings, str(base)]


def test_preparing_writes_study_and_the_untrained_models_recipe(plan: Plan) -> None:
    plan.prepare(plan.units)
    assert load_study(plan.folder / "study.yaml") == plan.study
    assert load_recipe(plan.folder / "base" / "drawn-by.yaml") == plan.recipe(BASE_UNIT)


def test_preparing_clears_runs_that_a_kill_left_without_recipe(plan: Plan) -> None:
    run = make_run(plan)
    (run / "recipe.yaml").rename(run / ".tmp-recipe.yaml-1")
    check_folder(plan)
    plan.prepare(plan.units)
    assert not run.exists()


def test_runs_of_this_study_are_taken_over_from_anywhere(plan: Plan) -> None:
    make_run(plan, TRAIN, "run.threads=3", "run.device=cpu", "run.processes=2", "name=other")
    make_run(plan, Unit("train", "naive", 0), "description=mine", name="stickers-naive")
    make_evaluation(plan, EVALUATE, encoders={"dino": "nano"})
    check_folder(plan)


def test_what_a_run_has_settled_is_of_this_study(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dtype that was auto, and the absolute path of a relative one."""
    monkeypatch.chdir(tmp_path)
    Path("nano").mkdir()
    make_run(plan, TRAIN, "policy.dtype=bfloat16", f"rewards.prompt.model={tmp_path / 'nano'}")
    overrides = ["rewards.prompt.model=nano", "policy.dtype=auto"]
    study = plan.study.model_copy(update={"overrides": [*plan.study.overrides, *overrides]})
    check_folder(Plan(study, plan.folder))


def test_a_run_with_another_recipe_is_refused(plan: Plan) -> None:
    run = make_run(plan, TRAIN, "rollout.tasks=4", "credit.clip=4")
    with pytest.raises(RunDirectoryError) as caught:
        check_folder(plan)
    assert str(caught.value).startswith(
        f"{run} is another run than the study plans: rollout.tasks is 4, not 8; credit.clip is "
        "4.0, not 5.0: move it away"
    )


def test_a_run_with_the_seed_of_another_is_refused(plan: Plan) -> None:
    shutil.move(make_run(plan), plan.run(Unit("train", "ours", 0)))
    with pytest.raises(RunDirectoryError, match=r"seed is 7, not 0; data\.seed is 7, not 0"):
        check_folder(plan)


def test_a_folder_with_something_else_is_refused(plan: Plan) -> None:
    plan.run(TRAIN).mkdir(parents=True)
    (plan.run(TRAIN) / "photos.zip").touch()
    with pytest.raises(RunDirectoryError, match="is not a run directory: move it away"):
        check_folder(plan)


def test_an_evaluation_with_other_settings_is_refused(plan: Plan) -> None:
    make_evaluation(plan, BASE_UNIT, tasks=150)
    with pytest.raises(RunDirectoryError, match="tasks is 150, not 5: remove it to evaluate again"):
        check_folder(plan)


@pytest.mark.parametrize(
    ("name", "option", "stored"),
    [("steps", "--steps", "num_steps"), ("images_per_prompt", "--images-per-prompt", None)],
)
def test_what_a_study_may_leave_to_the_command(
    plan: Plan, name: str, option: str, stored: str | None
) -> None:
    evaluation = plan.study.evaluation.model_copy(update={name: 4})
    other = Plan(plan.study.model_copy(update={"evaluation": evaluation}), plan.folder)
    assert f"{option} 4" in " ".join(other.words(EVALUATE))
    make_evaluation(plan, BASE_UNIT, **{stored or name: 6})
    check_folder(plan)
    with pytest.raises(RunDirectoryError, match=f"{name} is 6, not 4"):
        check_folder(other)


def test_a_damaged_evaluation_is_named(plan: Plan) -> None:
    (make_evaluation(plan, BASE_UNIT) / "settings.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"settings.json is damaged"):
        check_folder(plan)


def test_typical_seconds_are_of_whole_units_that_went_well(plan: Plan) -> None:
    plan.prepare(plan.units)
    journal = Journal(plan)
    assert journal.typical_seconds("train") is None
    run = RunDirectory.open(make_run(plan))
    save(run.path, 2)
    for iteration in (1, 2):
        run.append_timings({"iteration": iteration, "seconds/total": 10.0 * iteration})
    assert journal.typical_seconds("train") == 30.0  # from the run, which was made elsewhere
    for seconds, code, resumed in ((8.0, 0, False), (6.0, 0, False), (1.0, 1, False), (2, 0, True)):
        journal.add(TRAIN, seconds, code, resumed)
    with journal.file.open("a") as file:
        file.write('{"torn')
    assert journal.typical_seconds("train") == 7.0
    assert journal.typical_seconds("evaluate") is None


def test_metrics_of_a_study_are_part_of_its_evaluations(plan: Plan) -> None:
    metrics = {"dino": "facebook/dino-vits16", "clip-t": "nano-clip"}
    evaluation = plan.study.evaluation.model_copy(update={"metrics": metrics})
    other = Plan(plan.study.model_copy(update={"evaluation": evaluation}), plan.folder)
    words = " ".join(other.words(BASE_UNIT))
    assert "--metric dino=facebook/dino-vits16 --metric clip-t=nano-clip --out" in words
    folder = other.evaluation(BASE_UNIT)
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text('{"encoders": {"dino": "elsewhere"}}')
    with pytest.raises(RunDirectoryError, match="encoder of dino is 'elsewhere', not 'facebook/"):
        check_folder(other)


def test_the_matched_weight_is_the_mean_of_tdw() -> None:
    study = load_study("stickers-2")
    ours, matched = (unit_recipe(study, arm, 20) for arm in ("sars-tdw", "matched"))
    levels, rollout = ours.credit.time_weights, ours.rollout
    weights = tdw(rollout.num_steps, levels.high, levels.low, levels.final)
    plans = [plan_steps(rollout, 20, iteration) for iteration in range(ours.run.iterations)]
    trained = [float(weights[step]) for plan in plans for step in plan.trained]
    assert matched.credit.time_weights.prompt == pytest.approx(fmean(trained), abs=0.005)
