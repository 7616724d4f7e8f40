"""A sample's result depends on its task and its seed only, whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch

from likewise.policies.flux.tokens import pack, position_ids, unpack

# The grids 5×3, 3×5 and 10×2, mixed so that grouping and its inverse are different orders.
SIZES = [(20, 12), (12, 20), (40, 9), (20, 12), (40, 9)]


@pytest.fixture
def mixed_tasks(task, image):
    prompts = ["a red duck", "a blue teapot", "the snow", "on the beach", "a wooden floor"]
    return [
        task(prompt, image(*size, seed))
        for seed, (prompt, size) in enumerate(zip(prompts, SIZES, strict=True))
    ]


@torch.no_grad()
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_references_of_different_sizes_equal_one_by_one(make_policy, mixed_tasks, scale) -> None:
    policy = make_policy(guidance_embeds=True, true_cfg_scale=scale)
    condition = policy.encode(mixed_tasks)
    x, sigma = policy.initial_noise(range(5)), torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])
    together = policy.velocity(x, sigma, condition)
    for index, task in enumerate(mixed_tasks):
        alone = policy.velocity(x[index : index + 1], float(sigma[index]), policy.encode([task]))
        assert (together[index] - alone[0]).abs().max() < 1e-5
    assert (together[0] - together[3]).abs().max() > 0.01  # same size, other task


@torch.no_grad()
def test_repeat_makes_consecutive_groups(make_policy, mixed_tasks) -> None:
    policy = make_policy()
    condition = policy.encode(mixed_tasks[:2])
    group = condition.repeat(3)
    assert len(group) == 6
    grids = [encoded.references[0]["tokens"].shape[:2] for encoded in group.tasks]
    assert grids == [(5, 3)] * 3 + [(3, 5)] * 3
    assert group.tasks[0] is group.tasks[2]  # a group costs the memory of one task
    noise = policy.initial_noise([7])
    v = policy.velocity(noise.repeat(6, 1, 1), 0.5, group)
    assert (v[0] - v[2]).abs().max() < 1e-5 < (v[0] - v[3]).abs().max()
    with pytest.raises(ValueError, match="at least 1"):
        condition.repeat(0)


def test_select_takes_slices_and_numbers_in_order(make_policy, mixed_tasks) -> None:
    condition = make_policy(true_cfg_scale=2.0).encode(mixed_tasks)
    assert condition.select([4, 0]).tasks == (condition.tasks[4], condition.tasks[0])
    assert condition.select(slice(1, 3)).tasks == condition.tasks[1:3]
    assert condition.select(slice(None, None, -2)).tasks == condition.tasks[::-2]
    assert condition.tasks[0].negative is condition.tasks[1].negative is not None


def test_to_keeps_rows_shared(make_policy, mixed_tasks) -> None:
    condition = make_policy(true_cfg_scale=2.0).encode(mixed_tasks[:2]).repeat(2).to("meta")
    assert condition.tasks[0] is condition.tasks[1] is not condition.tasks[2]
    encoded = condition.tasks[3]
    parts = (encoded.references[0]["tokens"], encoded.text["states"], encoded.negative["pooled"])
    assert {part.device.type for part in parts} == {"meta"}


def test_noise_depends_on_the_seed_alone(make_policy) -> None:
    policy = make_policy()
    all_at_once = policy.initial_noise([3, 2**62, 5])
    assert all_at_once.shape == (3, 24, 16)
    assert all_at_once.dtype == torch.float32
    split = torch.cat([policy.initial_noise([3]), policy.initial_noise([2**62, 5])])
    assert torch.equal(all_at_once, split)
    assert abs(float(policy.initial_noise(range(64)).std()) - 1) < 0.02
    assert torch.equal(make_policy(torch.bfloat16).initial_noise([3, 2**62, 5]), all_at_once)


def test_encoding_does_not_depend_on_the_batch(make_policy, mixed_tasks) -> None:
    policy = make_policy()
    together, alone = policy.encode(mixed_tasks), policy.encode(mixed_tasks[3:4])
    for kind in ("states", "pooled"):
        ours, theirs = together.tasks[3].text[kind], alone.tasks[0].text[kind]
        assert torch.equal(ours, theirs)
        assert not ours.requires_grad
    ours, theirs = together.tasks[3].references[0], alone.tasks[0].references[0]
    assert torch.equal(ours["tokens"], theirs["tokens"])


def test_packing_is_invertible_and_ordered_as_in_flux() -> None:
    latents = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    tokens = pack(latents)
    assert tokens.shape == (2, 6, 12)
    assert torch.equal(unpack(tokens, (2, 3)), latents)
    # Token 4 is at row 1, column 1 of the grid; its last channel is the lower right of channel 2.
    assert tokens[1, 4, -1] == latents[1, 2, 3, 3]


def test_position_ids_count_rows_then_columns() -> None:
    assert position_ids((2, 3), 1).tolist() == [
        [1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 1, 0], [1, 1, 1], [1, 1, 2],
    ]  # fmt: skip
    assert position_ids((300, 1), 0)[257, 1] == 257


def test_a_static_shift_may_replace_the_pipelines_rule(make_policy) -> None:
    policy = make_policy()
    assert torch.allclose(policy.sigmas(2, 3.0), torch.tensor([1, 0.75, 0]))
    assert torch.equal(policy.sigmas(7, 3.0), policy.sigmas(7, None))
    assert len(policy.pipeline.scheduler.timesteps) == 1000  # the pipeline's own is untouched
    with pytest.raises(ValueError, match="num_steps"):
        policy.sigmas(0, None)


def test_bad_tasks_are_named(make_policy, task, image) -> None:
    policy = make_policy()
    with pytest.raises(ValueError, match="empty prompt"):
        policy.encode([task(), task("  ")])
    with pytest.raises(ValueError, match="mode RGBA, not RGB"):
        policy.encode([task(reference=image(20, 12).convert("RGBA"))])
    with pytest.raises(ValueError, match=r"'a red duck!'.*3×20 pixels.*at least 4"):
        policy.encode([task(reference=image(20, 3))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 18}, "multiples of 4"),
        ({"width": 0}, "multiples of 4"),
        ({"max_sequence_length": 513}, "1 to 512"),
        ({"true_cfg_scale": 0.5}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(make_policy, options, message) -> None:
    pipeline = make_policy().pipeline
    with pytest.raises(ValueError, match=message):
        type(make_policy())(pipeline, **{"height": 16, "width": 16, **options})


def test_shapes_that_do_not_fit_are_refused(make_policy, task) -> None:
    policy = make_policy()
    condition = policy.encode([task(), task()])
    with pytest.raises(ValueError, match=r"\[2, 24, 16\]"):
        policy.velocity(policy.initial_noise([1]), 0.5, condition)
    with pytest.raises(ValueError, match="one per sample"):
        policy.velocity(policy.initial_noise([1, 2]), torch.tensor([0.5]), condition)
    with pytest.raises(ValueError, match="true CFG"):
        make_policy(true_cfg_scale=2.0).velocity(policy.initial_noise([1, 2]), 0.5, condition)
