"""Studies: their files, the recipes of their runs, and equal compute."""

from __future__ import annotations

from pathlib import Path

import pytest

from likewise.config import RecipeError, load_recipe, load_study, shipped_studies
from likewise.config.comparing import differences
from likewise.config.credit_rules import READ_WEIGHTS
from likewise.config.study import study_yaml, unit_recipe

SMALL = """
name: small
overrides: {run.iterations: 3, run.evaluation: {every: 0}}
seeds: [0, 7]
arms:
  ours: {recipe: stickers}
  naive: {recipe: stickers-naive, label: naive 1:1}
baseline: naive
"""


def error(file: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_study(file)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_studies())
def test_the_shipped_study_resolves_for_all_seeds(name: str) -> None:
    study = load_study(name)
    assert study.name == name and study.description == shipped_studies()[name] != ""
    for arm in study.arms:
        for seed in study.seeds:
            recipe = unit_recipe(study, arm, seed)
            assert (recipe.seed, recipe.data.seed) == (seed, seed)


def test_the_ablation_is_what_the_issue_asks_for() -> None:
    study = load_study("stickers-ablation")
    kinds = {
        arm: unit_recipe(study, arm, 0).credit.model_dump(include={"shaping", "time_weights"})
        for arm in study.arms
    }
    pairs = {arm: (k["shaping"]["kind"], k["time_weights"]["kind"]) for arm, k in kinds.items()}
    assert pairs.items() >= {
        ("sars-tdw", ("sars", "tdw")),
        ("naive", ("none", "constant")),
        ("sars-only", ("sars", "constant")),
        ("tdw-only", ("none", "tdw")),
        ("reversed-tdw", ("sars", "reversed-tdw")),
        ("tdw-as-released", ("sars", "tdw-as-released")),
        ("minimum", ("minimum", "constant")),
        ("harmonic", ("harmonic", "constant")),
        ("gdpo", ("gdpo", "constant")),
        ("identity-only", ("single", "constant")),
        ("prompt-only", ("single", "constant")),
    }
    weights = {arm: kinds[arm]["time_weights"]["prompt"] for arm in kinds if arm.startswith("nai")}
    assert weights == {"naive": 0.5, "naive-1-1.5": 0.4}
    assert study.baseline == "naive" and len(study.seeds) >= 5


def test_arms_of_one_name_share_what_the_name_says() -> None:
    study = load_study("stickers-2")
    recipes = {arm: unit_recipe(study, arm, 20) for arm in study.arms}
    nft = [recipe for arm, recipe in recipes.items() if arm.startswith("nft-")]
    assert len({recipe.objective.model_dump_json() for recipe in nft}) == 1
    assert len({recipe.optimizer.learning_rate for recipe in nft}) == 1
    for credit in ("naive", "sars-tdw", "measured-tdw"):
        assert recipes[credit].credit == recipes[f"nft-{credit}"].credit


def test_seeds_of_the_choice_are_not_those_of_the_comparison() -> None:
    final, choice = load_study("stickers-2"), load_study("stickers-2-rivals")
    assert len(final.seeds) >= 10 and not set(final.seeds) & {0, *choice.seeds}
    benchmarks = (final.evaluation.benchmark, choice.evaluation.benchmark)
    assert benchmarks == ("sticker-bench", "sticker-tuning")


def test_a_run_has_overrides_of_study_and_arm_and_its_seed(write) -> None:
    text = SMALL.replace("stickers}", "stickers, overrides: [credit.shaping.gamma=0.9]}")
    study = load_study(write("small.yaml", text))
    ours, naive = (unit_recipe(study, arm, 7) for arm in ("ours", "naive"))
    assert ours.credit.shaping.gamma == 0.9
    assert ours.run.iterations == naive.run.iterations == 3
    assert ours.run.evaluation.every == 0 and ours.run.evaluation.tasks == 64
    assert (ours.seed, ours.data.seed) == (naive.seed, naive.data.seed) == (7, 7)


def test_overrides_are_a_mapping_or_a_list(write) -> None:
    as_list = "overrides: [run.iterations=3, 'run.evaluation={every: 0}']"
    lines = SMALL.replace("overrides: {run.iterations: 3, run.evaluation: {every: 0}}", as_list)
    one, other = (load_study(write(f"{n}.yaml", text)) for n, text in enumerate((SMALL, lines)))
    assert unit_recipe(one, "ours", 0) == unit_recipe(other, "ours", 0)


def test_a_recipe_file_is_found_from_its_study_and_once_saved(write) -> None:
    write("mine/arm.yaml", "extends: stickers\nname: arm\ncredit: {shaping: {gamma: 0.1}}\n")
    file = write("mine/small.yaml", SMALL.replace("recipe: stickers}", "recipe: arm.yaml}"))
    study = load_study(file)
    assert study.arms["ours"].recipe == "mine/arm.yaml"
    saved = load_study(write("runs/study.yaml", study_yaml(study, Path("runs"))))
    assert unit_recipe(saved, "ours", 0) == unit_recipe(study, "ours", 0)
    assert saved.model_copy(update={"arms": study.arms}) == study


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: small", "", "s.yaml: name: required, but missing"),
        ("name: small", "name: a/b", "s.yaml: name: should match pattern"),
        ("seeds: [0, 7]", "seeds: []", "s.yaml: seeds: List should have at least 1 item"),
        ("seeds: [0, 7]", "seeds: [7, 7]", "seeds must differ from each other, not [7, 7]"),
        ("seeds: [0, 7]", "seeds: [-1]", "s.yaml: seeds.0: should be greater than or equal to 0"),
        ("seeds:", "seedz:", "s.yaml: seedz: unknown key; did you mean 'seeds'?"),
        ("baseline: naive", "baseline: naiv", "'naiv', which is not an arm; did you mean 'naive'?"),
        ("ours: {", "our/s: {", "the arm 'our/s' names a folder"),
        ("label:", "lable:", "arms.naive.lable: unknown key; did you mean 'label'?"),
        (
            "baseline: naive",
            "baseline: naive\ncontrasts: [[ours, naiv]]",
            "contrasts name 'naiv', which is not an arm; did you mean 'naive'?",
        ),
        (
            "baseline: naive",
            "baseline: naive\ncontrasts: [[ours, ours]]",
            "contrasts are of two different arms",
        ),
        ("{recipe: stickers}", "stickers", "s.yaml: arms.ours: should be a mapping of keys"),
        ("recipe: stickers}", "recipe: stikers}", "arms.ours: there is no recipe 'stikers'; did"),
        ("recipe: stickers}", "recipe: x.yaml}", "arms.ours: there is no file 'x.yaml'"),
        (
            "run.iterations: 3",
            "run.iterationz: 3",
            "s.yaml: arms.ours: override run.iterationz=3: run.iterationz: unknown key",
        ),
        ("baseline: naive", "baseline: naive\nworkers: 0", "s.yaml: workers: should be greater"),
        (
            "baseline: naive",
            "baseline: naive\nevaluation: {protocol: single}",
            "evaluation.protocol: unknown value 'single'; did you mean 'single-ref'?",
        ),
        (
            "baseline: naive",
            "baseline: naive\nevaluation: {aims: [evaluator/identty, clip-t]}",
            "nothing measures 'evaluator/identty'; did you mean 'evaluator/identity'?",
        ),
        (
            "baseline: naive",
            "baseline: naive\nevaluation: {aims: [clip-t, clip-t]}",
            "evaluation.aims: the two must differ",
        ),
        (
            "baseline: naive",
            "baseline: naive\nevaluation: {benchmark: photos, aims: [evaluator/identity, clip-t]}",
            "nothing measures 'evaluator/identity'",
        ),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str, write) -> None:
    assert old in SMALL
    assert message in error(write("s.yaml", SMALL.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.iterations=4", "run.iterations is 4, not 3"),
        ("rollout.group_size=24", "rollout.group_size is 24, not 12"),
        ("rewards.prompt.model=other", "rewards.prompt.model is 'other', not 'nano-clip'"),
        ("~rewards.prompt", "rewards.prompt.kind is 'not set', not 'clip'"),
    ],
)
def test_an_arm_with_more_than_other_credit_is_refused(override: str, message: str, write) -> None:
    unequal = f"{{recipe: stickers-identity-only, overrides: [{override}]}}"
    found = error(write("s.yaml", SMALL.replace("{recipe: stickers}", unequal)))
    assert f"s.yaml: arms.ours: {message} as in naive, the baseline" in found


@pytest.mark.parametrize("kind", READ_WEIGHTS)
def test_an_arm_may_differ_in_credit_and_in_weights_of_rewards(kind: str, write) -> None:
    combined = f"credit.shaping.kind={kind}, credit.time_weights.kind=constant"
    own = f"{{recipe: stickers, overrides: [{combined}, rewards.prompt.weight=2, credit.clip=4]}}"
    assert load_study(write("s.yaml", SMALL.replace("{recipe: stickers}", own)))


def test_arms_may_differ_in_what_the_study_varies(write) -> None:
    unequal = "{recipe: stickers-nft, overrides: [run.iterations=3, optimizer.learning_rate=1e-4]}"
    text = SMALL.replace("{recipe: stickers}", unequal)
    found = error(write("s.yaml", text))
    assert "arms.ours: objective.kind is 'nft', not 'grpo' as in naive" in found
    assert "may differ in credit alone (vary)" in found
    assert load_study(write("s.yaml", f"{text}vary: [credit, objective, optimizer, run]\n"))
    found = error(write("s.yaml", f"{text}vary: [credit, objective, run]\n"))
    assert "optimizer.learning_rate is 0.0001" in found and "objective.kind" not in found


def test_what_is_varied_must_exist(write) -> None:
    found = error(write("s.yaml", f"{SMALL}vary: [credit, objectiv]\n"))
    assert "vary: there is no 'objectiv' in a recipe; did you mean 'objective'?" in found


def test_no_such_study() -> None:
    assert "did you mean 'stickers-ablation'? shipped studies: " in error("stickers-ablatio")


def test_an_empty_file_says_what_a_study_has(write) -> None:
    assert "empty; a study has at least 'name', 'seeds', 'arms'" in error(write("s.yaml", ""))


def test_differences_are_named_apart_from_what_may_differ() -> None:
    one = load_recipe("stickers", ["seed=3", "run.trackers=[]", "run.threads=2"])
    found = differences(one, load_recipe("stickers"), ["run.threads", "see"])
    assert found == ["seed is 3, not 0", "run.trackers is [], not ['tensorboard']"]
    assert differences(one, load_recipe("stickers"), ["run", "seed"]) == []
