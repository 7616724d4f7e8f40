"""Names, files, `extends`, overrides, and what a person reads when one of them is wrong."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from likewise.config import (
    Recipe,
    RecipeError,
    layers,
    load_recipe,
    load_study,
    shipped_recipes,
    to_yaml,
)
from likewise.config.study import unit_recipe
from likewise.config.yaml_text import dump, parse

ROOT = Path(__file__).parents[2]
DEMO = "stickers-nft-measured-tdw"
SHIPPED = sorted(shipped_recipes())
ARMS = {
    "stickers-naive": ("none", "constant"),
    "stickers-naive-1-1.5": ("none", "constant"),
    "stickers-sars-only": ("sars", "constant"),
    "stickers-tdw-only": ("none", "tdw"),
    "stickers-reversed-tdw": ("sars", "reversed-tdw"),
    "stickers-tdw-as-released": ("sars", "tdw-as-released"),
    "stickers-measured-tdw": ("sars", "measured"),
    "stickers-gains": ("gains", "tdw"),
    "stickers-minimum": ("minimum", "constant"),
    "stickers-harmonic": ("harmonic", "constant"),
    "stickers-gdpo": ("gdpo", "constant"),
    "stickers-gd2po": ("gd2po", "constant"),
    "stickers-hinge-gate": ("hinge-gate", "constant"),
    "stickers-identity-only": ("single", "constant"),
    "stickers-prompt-only": ("single", "constant"),
}


def error(name_or_path: str | Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name_or_path, overrides)
    return str(caught.value)


# --- shipped recipes -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_loads_and_survives_a_round_trip(name: str, write) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(write("resolved.yaml", to_yaml(recipe))) == recipe


def test_shipped_recipes_are_described_and_sorted() -> None:
    found = shipped_recipes()
    assert list(found) == sorted(found)
    assert found.keys() >= {"stickers"} | ARMS.keys()
    assert all(load_recipe(name).description == text != "" for name, text in found.items())


def test_no_two_recipes_have_equal_content() -> None:
    contents = [load_recipe(n).model_dump(exclude={"name", "description"}) for n in SHIPPED]
    assert not [content for content in contents if contents.count(content) > 1]


@pytest.mark.parametrize("name", ARMS)
def test_arm_is_what_it_says_and_differs_in_credit_only(name: str) -> None:
    arm, stickers = load_recipe(name), load_recipe()
    assert (arm.credit.shaping.kind, arm.credit.time_weights.kind) == ARMS[name]
    own = {"name", "description", "credit"}
    assert arm.model_dump(exclude=own) == stickers.model_dump(exclude=own)
    assert arm.credit.clip == stickers.credit.clip


def test_the_nft_recipe_differs_in_objective_and_rate_only() -> None:
    own = {"name": True, "description": True, "objective": True, "optimizer": {"learning_rate"}}
    arm, stickers = load_recipe("stickers-nft"), load_recipe()
    assert arm.objective.kind == "nft"
    assert arm.model_dump(exclude=own) == stickers.model_dump(exclude=own)


def test_the_demo_is_the_arm_that_won() -> None:
    arm = unit_recipe(load_study("stickers-2"), "nft-measured-tdw", 20)
    own = {"name", "description", "seed", "data", "run"}
    assert load_recipe(DEMO).model_dump(exclude=own) == arm.model_dump(exclude=own)
    assert f"likewise train {DEMO} " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ARMS)
def test_arm_keeps_the_numbers_of_stickers_under_another_kind(name: str) -> None:
    """Another kind starts from defaults, so tuning `stickers` could leave its arms behind."""
    arm, stickers = load_recipe(name).credit, load_recipe().credit
    for section in ("shaping", "time_weights"):
        here, there = (getattr(c, section).model_dump(exclude={"kind"}) for c in (arm, stickers))
        shared = here.keys() & there
        assert {key: here[key] for key in shared} == {key: there[key] for key in shared}


def test_prompt_weights_of_the_naive_arms() -> None:
    assert load_recipe("stickers-naive").credit.time_weights.prompt == 0.5
    ratio = load_recipe("stickers-naive-1-1.5").credit.time_weights.prompt
    assert (1 - ratio) / ratio == pytest.approx(1.5)


def test_single_reward_arms_train_on_what_they_name() -> None:
    for reward in ("identity", "prompt"):
        assert load_recipe(f"stickers-{reward}-only").credit.shaping.reward == reward


# --- extends -------------------------------------------------------------------------------------


def test_extends_merges_mappings_and_replaces_the_rest(write) -> None:
    text = "extends: stickers\nname: mine\noptimizer: {betas: [0.8, 0.99]}\nrun: {trackers: []}\n"
    mine, stickers = load_recipe(write("mine.yaml", text)), load_recipe()
    assert (mine.name, mine.optimizer.betas, mine.run.trackers) == ("mine", (0.8, 0.99), [])
    assert mine.optimizer.learning_rate == stickers.optimizer.learning_rate
    assert mine.rewards == stickers.rewards


def test_extends_over_generations_and_directories(write) -> None:
    write("old.yaml", "extends: stickers-naive\nname: old\nseed: 1\nrun: {iterations: 7}\n")
    write("deep/young.yml", "extends: ../old.yaml\nname: young\nseed: 2\n")
    young = load_recipe("deep/young.yml")
    assert (young.name, young.seed, young.run.iterations) == ("young", 2, 7)
    assert young.credit == load_recipe("stickers-naive").credit


def test_a_file_needs_no_suffix_and_a_path_may_be_a_path(write) -> None:
    name = write("plain", "extends: stickers\nname: plain\n")
    assert load_recipe(Path(name)) == load_recipe(name)


def test_bom_is_ignored(write) -> None:
    assert load_recipe(write("b.yaml", "\ufeffextends: stickers\nname: b\n")).name == "b"


def test_another_kind_replaces_the_section(write) -> None:
    text = "extends: stickers\ncredit: {shaping: {kind: minimum}, time_weights: {kind: constant}}\n"
    credit = load_recipe(write("minimum.yaml", text)).credit
    assert credit.shaping.model_dump() == {"kind": "minimum"}
    assert credit.time_weights.model_dump() == {"kind": "constant", "prompt": 0.5}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (
            "extends: sticker\n",
            "m.yaml: extends: there is no recipe 'sticker'; did you mean 'stick",
        ),
        ("extends: gone.yaml\n", "m.yaml: extends: there is no file 'gone.yaml'"),
        ("extends: 3\n", "m.yaml: extends: should be a recipe or a file, not 3"),
        ("extends:\n", "m.yaml: extends: should be a recipe or a file, not None"),
        ("extends: m.yaml\n", "m.yaml: extends: goes in a circle: m.yaml → m.yaml"),
    ],
)
def test_bad_extends(text: str, fragment: str, write) -> None:
    assert fragment in error(write("m.yaml", text))


def test_longer_circle_names_all_files(write) -> None:
    write("a.yaml", "extends: b.yaml\n")
    write("b.yaml", "extends: ./c.yaml\n")
    write("c.yaml", "extends: a.yaml\n")
    message = "c.yaml: extends: goes in a circle: a.yaml → b.yaml → c.yaml → a.yaml"
    assert error("a.yaml") == message


# --- overrides -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.learning_rate=1e-5", 1e-5),
        ("optimizer.learning_rate=.5E+1", 5.0),
        ("optimizer.betas=[0.5, 0.6]", (0.5, 0.6)),
        ("optimizer.ema_decay=0.9", 0.9),
        ("optimizer.ema_decay=null", None),
        ("optimizer.ema_decay=", None),
        ("optimizer.schedule= cosine", "cosine"),
        (" objective . guard =true", True),
        ("description='a=b: [c'", "a=b: [c"),
        ("description=x=y", "x=y"),
        ("description=''", ""),
        ("policy.model=1:30", "1:30"),
        ("policy.model=no", "no"),
        ("policy.model=2026-11-23", "2026-11-23"),
        ("adapter.targets=[to_q, to_k]", ["to_q", "to_k"]),
        ("adapter={kind: lora, rank: 4}", None),
    ],
)
def test_override_takes_yaml(override: str, value: object) -> None:
    found: object = load_recipe("stickers", [override])
    if override.startswith("adapter={"):
        assert isinstance(found, Recipe) and (found.adapter.rank, found.adapter.alpha) == (4, 32)
        return
    for key in override.partition("=")[0].split("."):
        found = getattr(found, key.strip())
    assert found == value


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("description=my photos #2", "my photos #2"),
        ("description=#2", "#2"),
        ("description=a #b #c", "a #b #c"),
        ("description='my photos #2'", "my photos #2"),
        ("description=a#b", "a#b"),
    ],
)
def test_a_hash_in_an_override_is_no_comment(override: str, value: str) -> None:
    assert load_recipe("stickers", [override]).description == value


@pytest.mark.parametrize("value", ["'a' # b", "[a, b] # c", "{kind: lora} #"])
def test_a_comment_beside_other_values_is_refused(value: str) -> None:
    assert "'#' begins a comment there" in error("stickers", f"description={value}")


@pytest.mark.parametrize("escape", ["\\0", "\\ud83d"])
def test_text_that_no_file_can_hold_is_refused(escape: str) -> None:
    assert "half of a surrogate pair, or a NUL" in error("stickers", f'description="a{escape}"')


def test_the_later_override_counts() -> None:
    assert load_recipe("stickers", ["seed=1", "seed=2"]).seed == 2


SWITCH = ["credit.time_weights.kind=constant", "credit.shaping.kind=single"]


def test_override_of_kind_drops_keys_of_the_other_kind() -> None:
    shaping = load_recipe("stickers", [SWITCH[0], "credit.shaping.kind=minimum"]).credit.shaping
    assert shaping.model_dump() == {"kind": "minimum"}


def test_override_of_the_same_kind_keeps_the_others() -> None:
    overrides = ["credit.shaping.gamma=0.5", "credit.shaping.kind=sars"]
    assert load_recipe("stickers", overrides).credit.shaping.gamma == 0.5


def test_keys_of_another_kind_may_come_before_it() -> None:
    overrides = ["credit.shaping.reward=prompt", *SWITCH]
    assert load_recipe("stickers", overrides).credit == load_recipe("stickers-prompt-only").credit


def test_delete_then_add() -> None:
    overrides = ["~rewards.identity", "rewards.identity={kind: clip, side: identity}"]
    assert load_recipe("stickers", overrides).rewards["identity"].kind == "clip"
    assert "kind: clip" in to_yaml(load_recipe("stickers", overrides))


def test_deleted_key_has_its_default() -> None:
    assert load_recipe("stickers", ["~policy.dtype"]).policy.dtype == "float32"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "rollout",
            "override 'rollout' has no '='; write key=value, for example rollout.group_size=8, "
            "or ~key to delete a key",
        ),
        ("", "override '' has no '='"),
        ("=1", "override '=1' has an empty key"),
        ("a..b=1", "override 'a..b=1' has an empty key"),
        ("~", "override '~' has an empty key"),
        ("~seed=1", "override ~seed=1: ~ deletes a key and takes no value"),
        ("~rewards.idntity", "there is no rewards.idntity; did you mean 'identity'?"),
        ("~nothing.here", "override ~nothing.here: there is no section nothing"),
        ("~seed.x", "override ~seed.x: there is no section seed"),
        ("seed=[1", "override seed=[1, line 1: "),
        ("policy={kind: a, kind: b}", "line 1: the key 'kind' occurs twice"),
    ],
)
def test_malformed_override(override: str, message: str) -> None:
    assert message in error("stickers", override)


# --- what is wrong, and where --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.group_sizes=3", "rollout.group_sizes: unknown key; did you mean 'group_size'?"),
        (
            "objective.zzz=1",
            "objective.zzz: unknown key of kind 'grpo'; known: kind,",
        ),
        ("credit.shaping.gama=1", "credit.shaping.gama: unknown key of kind 'sars'; did you mean"),
        ("credit.shaping.sars=1", "credit.shaping.sars: unknown key of kind 'sars'; known: kind,"),
        ("credit.shaping.kind=sarz", "credit.shaping.kind: unknown kind 'sarz'; did you mean 'sar"),
        ("credit.shaping=sars", "credit.shaping: 'sars' is a kind; write credit.shaping.kind=sars"),
        ("credit.shaping=[1]", "credit.shaping: should be a mapping of keys, not [1]"),
        ("policy.kind=kontext", "policy.kind: unknown kind 'kontext'; did you mean 'flux-kon"),
        ("policy=", "policy: should be a mapping of keys, not None"),
        ("rewards=3", "rewards: should be a mapping of keys, not 3"),
        ("rewards.x={}", "rewards.x.kind: required, but missing; known: clip, dino, pickscore"),
        ("rewards.prompt.modle=x", "rewards.prompt.modle: unknown key of kind 'clip'; did you mea"),
        ("rollout.transition=sde", "rollout.transition: unknown value 'sde'; did you mean '"),
        ("rollout.tasks=0", "rollout.tasks: should be greater than 0, not 0"),
        ("rollout.trained.size=0", "rollout.trained.size: should be greater than 0, not 0"),
        ("run.trackers=[wand]", "run.trackers.0: unknown value 'wand'; did you mean 'wandb'?"),
        ("run.processes=0", "run.processes: should be greater than 0 or should be 'auto', not 0"),
        ("name=a b", r"name: should match pattern '^\w[\w.-]*$', not 'a b'"),
        ("~name", "name: required, but missing"),
        ("~credit.shaping.kind", "credit.shaping.kind: required, but missing; known: sars,"),
    ],
)
def test_invalid_value_is_told_with_override_path_and_way_out(override: str, message: str) -> None:
    assert error("stickers", override).startswith(f"override {override}: {message}")


def test_missing_key_of_a_kind_names_file_and_override() -> None:
    start = "stickers.yaml with credit.shaping.kind=single: credit.shaping.reward: required"
    assert error("stickers", *SWITCH).startswith(start)


def test_each_problem_has_its_line_and_its_source(write) -> None:
    write("parent.yaml", "extends: stickers\nrollout: {group_sizes: 3}\nseed: -1\n")
    write("child.yaml", "extends: parent.yaml\nname: child\nrun: {patience: 0}\n")
    assert set(error("child.yaml", "policy.width=x", "seed=-2").splitlines()) == {
        "parent.yaml: rollout.group_sizes: unknown key; did you mean 'group_size'?",
        "child.yaml: run.patience: should be greater than 0, not 0",
        "override policy.width=x: policy.width: should be a valid integer, unable to parse string "
        "as an integer, not 'x'",
        "override seed=-2: seed: should be greater than or equal to 0, not -2",
    }


def test_a_long_value_is_shortened() -> None:
    assert "x" * 80 not in error("stickers", f"policy.width={'x' * 5000}").partition(": ")[2]


def test_cross_field_error_in_a_file_names_it(write) -> None:
    text = "extends: stickers\nrollout: {deterministic_tail: 10}\n"
    assert error(write("m.yaml", text)).startswith("m.yaml: rollout: deterministic_tail must leave")


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("sticker", ["there is no recipe 'sticker'; did you mean 'stickers'?", *SHIPPED]),
        ("stickers-naive-1-1.6", ["did you mean 'stickers-naive-1-1.5'?"]),
        ("qqq", ["there is no recipe 'qqq'; shipped recipes: klein-4b, klein-nft, kontext"]),
        ("stickers.yaml", ["there is no file 'stickers.yaml'; did you mean 'stickers'?"]),
        (".", [". is a directory, not a recipe file"]),
    ],
)
def test_no_such_recipe(name: str, fragments: list[str], write) -> None:
    message = error(name)
    assert all(fragment in message for fragment in fragments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yaml: empty; a recipe has at least 'extends', or 'name' and 'rewards'"),
        ("# only a comment\n", "m.yaml: empty"),
        ("- a\n", "m.yaml: should be a mapping of keys, as in 'extends: stickers', not ['a']"),
        ("stickers\n", "m.yaml: should be a mapping"),
        ("name: a\nseed: [1\n", "m.yaml, line 3: "),
        ("name: a\nrun: b: c\n", "m.yaml, line 2: mapping values are not allowed here"),
        ("name: a\nseed: 1\nname: b\n", "m.yaml, line 3: the key 'name' occurs twice"),
        ("rollout:\n  tasks: 1\n  'tasks': 2\n", "m.yaml, line 3: the key 'tasks' occurs twice"),
        ("a: &a {b: 1}\nc: *a\n", "m.yaml, line 2: aliases (*name) are refused"),
        ("a: &a [*a]\n", "m.yaml, line 1: aliases"),
        ("a: !!python/object/apply:os.getcwd []\n", "m.yaml, line 1: tags (tag:yaml.org,2002:pyt"),
        ("a: !!int x\n", "m.yaml, line 1: tags"),
        ("[1]: 2\n", "m.yaml, line 1: found unhashable key"),
        ("a: 1\n---\nb: 1\n", "m.yaml, line 2: "),
        ("a: \0\n", "m.yaml: "),
        (f"a: {'9' * 5000}\n", "m.yaml: no value that a recipe could hold"),
        (f"a: {'[' * 1000}\n", "m.yaml: no value that a recipe could hold"),
        ("extends: stickers\n1: 2\n", "m.yaml: 1"),
        ("name: a\n", "m.yaml: rewards: required, but missing"),
    ],
)
def test_bad_file(text: str, message: str, write) -> None:
    assert error(write("m.yaml", text)).startswith(message)


def test_file_that_is_no_text(write) -> None:
    write("m.yaml", "")
    Path("m.yaml").write_bytes(b"\xff\xfe\x00")
    assert error("m.yaml") == "m.yaml: not a text file in UTF-8"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(write) -> None:
    Path(write("m.yaml", "name: a")).chmod(0)
    assert error("m.yaml") == "m.yaml: Permission denied"


# --- YAML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1E3", -1000.0),
        ("+1.5e2", 150.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("0", 0),
        ("-12", -12),
        ("true", True),
        ("FALSE", False),
        ("", None),
        ("~", None),
        ("yes", "yes"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("e4", "e4"),
        ("<<", "<<"),
    ],
)
def test_plain_scalars(text: str, value: object) -> None:
    found = parse(text, "test")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["1e-4", "1:30", "no", "010", "null", "", " a ", "a: b", "é\n\u2028\t#", "2026-11-23"]
)
def test_strings_survive_and_other_readers_agree(text: str) -> None:
    """Quoted wherever our rules or stock PyYAML's would take them for something else."""
    written = dump({"key": text, "same": [(1.0, 1e-6)] * 2})
    for read in (parse(written, "test"), yaml.safe_load(written)):
        assert read["key"] == text
    assert parse(written, "test")["same"] == [[1.0, 1e-6]] * 2


def test_a_long_path_is_written_in_one_line() -> None:
    path = "/home/somebody/" + "a folder with blanks/" * 20 + "my photos #2"
    written = dump({"path": path})
    assert written.count("\n") == 1 and path in written and parse(written, "x") == {"path": path}


def test_to_yaml_is_complete_and_in_order() -> None:
    recipe = load_recipe("stickers-gdpo", ["description='1e3'"])
    content = yaml.safe_load(to_yaml(recipe))
    assert list(content) == list(Recipe.model_fields)
    assert list(content["rollout"]) == list(type(recipe.rollout).model_fields)
    assert content["run"]["checkpoints"]["every"] == 8


# --- nothing is changed, nothing heavy is loaded -------------------------------------------------


def test_merge_and_apply_change_none_of_their_arguments() -> None:
    parent = {"a": {"kind": "x", "b": [1], "c": {"d": 1}}, "e": 1}
    child = {"a": {"kind": "x", "c": {"f": [2]}}}
    kept = copy.deepcopy([parent, child])
    merged = layers.merge(parent, child)
    changed = layers.apply([layers.parse_override(t) for t in ("~a.b", "a.c.f.g=1")], merged)
    assert changed == {"a": {"kind": "x", "c": {"d": 1, "f": {"g": 1}}}, "e": 1}
    merged["a"]["b"].append(2)
    merged["a"]["c"]["f"].append(3)
    assert [parent, child] == kept


def test_loading_leaves_no_trace_in_later_loads() -> None:
    before = {name: load_recipe(name) for name in SHIPPED}
    constant = "credit.time_weights.kind=constant"
    load_recipe("stickers", ["~rewards.identity", "credit.shaping.kind=none", constant, "seed=9"])
    load_recipe("stickers").run.trackers.append("wandb")
    load_recipe("stickers").rewards.clear()
    assert {name: load_recipe(name) for name in SHIPPED} == before


def test_config_needs_no_torch() -> None:
    code = (
        "import sys; from likewise.config import *; to_yaml(load_recipe());"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
