"""Pretraining: its data, exact resuming, and that the nano generator is a stock pipeline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FluxKontextPipeline
from torch import Tensor, nn

from likewise.data.stickers.art import shipped_art
from likewise.data.stickers.world import bench_tasks
from likewise.policies.flux.tokens import pack
from likewise.pretrain import evaluators, generator, identity, nano, pacing, pool, prompt, samples
from likewise.pretrain.device_batches import DeviceBatches
from likewise.pretrain.loop import FitRun, FitSettings, batches, fit, start_from
from likewise.pretrain.sampling import generate, load_pipeline
from likewise.seeding import numpy_rng

CPU = torch.device("cpu")
TINY = FitSettings("tiny", steps=12, batch_size=4, learning_rate=1e-2, log_every=4, save_every=5)


@pytest.fixture(scope="module")
def tokenizers():
    corpus = list(samples.prompt_corpus(2000))
    return nano.build_clip_tokenizer(corpus), nano.build_t5_tokenizer(corpus)


# What it trains on


def test_no_sample_of_any_training_shows_a_held_out_subject(monkeypatch) -> None:
    """Every sample function draws through `samples.draw` or asks `random_subject`: watch both."""
    held_out = set(shipped_art().subjects(held_out=True))
    drawn = []
    for module in (samples, pool, identity, evaluators, prompt):

        def watched(spec, *rest, original=module.draw, **named):
            drawn.append(spec.subject)
            return original(spec, *rest, **named)

        monkeypatch.setattr(module, "draw", watched)
    corpus = list(samples.prompt_corpus(300))
    text = prompt.PromptSamples(nano.build_clip_tokenizer(corpus))
    for index in range(60):
        samples.vae_sample(index)
        identity.identity_sample(index)
        evaluators.individual_sample(index)
        evaluators.attribute_sample(index)
        text(index)
        pool._Individuals(60)[index]
    assert len(drawn) > 60 * 13
    assert not set(drawn) & held_out
    assert not set(samples.training_subjects()) & held_out
    names = {shipped_art()[subject].name for subject in held_out}
    assert not names & set(samples.training_names())


def test_samples_depend_on_their_index_alone() -> None:
    for make in (samples.vae_sample, identity.identity_sample, evaluators.attribute_sample):
        first, again, other = make(5), make(5), make(6)
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)


def test_batches_are_the_same_under_any_number_of_workers(tmp_path: Path) -> None:
    settings = dataclasses.replace(TINY, steps=3)
    runs = [
        [
            batch["image"]
            for batch in batches(samples.vae_sample, settings, 1, FitRun(tmp_path, CPU, workers))
        ]
        for workers in (0, 2)
    ]
    assert len(runs[0]) == 2
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


# The loop


def line_sample(index: int) -> Mapping[str, Tensor]:
    x = torch.randn(3, generator=torch.Generator().manual_seed(index))
    return {"x": x, "y": x.sum()[None]}


class Line(nn.Module):
    """A bias outside of blocks and a matrix inside one, so that Muon has something to do."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(3, 1, bias=False)])
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](x) + self.offset


def train_line(
    folder: Path, minutes: float | None = None, settings: FitSettings = TINY
) -> tuple[bool, nn.Module]:
    torch.manual_seed(0)
    model = Line()

    def loss(batch, noise_source):
        noise = 0.01 * torch.randn(1, generator=noise_source)
        return (model(batch["x"]).float() - batch["y"] + noise).square().mean(), {}

    run = FitRun(folder, CPU, workers=0, minutes=minutes)
    return fit(model, line_sample, loss, settings, run), model


@pytest.mark.parametrize("muon_rate", [None, 3e-2])
def test_an_interrupted_training_ends_bit_identical(
    tmp_path: Path, muon_rate: float | None
) -> None:
    settings = dataclasses.replace(TINY, muon_rate=muon_rate)
    done, whole = train_line(tmp_path / "whole", settings=settings)
    assert done
    launches = 0
    done = False
    while not done:  # each launch ends after its first step
        done, pieces = train_line(tmp_path / "pieces", minutes=1e-9, settings=settings)
        launches += 1
    assert launches == TINY.steps
    for key, value in whole.state_dict().items():
        assert torch.equal(value, pieces.state_dict()[key])
    assert not list(tmp_path.rglob("*.tmp"))


def test_muon_trains_the_matrices_of_blocks_and_adamw_the_rest(tmp_path: Path) -> None:
    _, plain = train_line(tmp_path / "adamw")
    settings = dataclasses.replace(TINY, muon_rate=1e-12)
    _, still = train_line(tmp_path / "muon", settings=settings)
    torch.manual_seed(0)
    start = Line()
    torch.testing.assert_close(still.blocks[0].weight, start.blocks[0].weight)
    assert not torch.allclose(plain.blocks[0].weight, start.blocks[0].weight)
    assert still.offset.item() != 0


def test_what_was_logged_between_save_and_kill_is_logged_once(tmp_path: Path) -> None:
    train_line(tmp_path, minutes=1e-9)  # saves at step 1
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"step": 1, "samples": 4}\n{"step": 4, "samples": 12}\n')
    train_line(tmp_path)
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [1, 4, 8, 12]


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    _, first = train_line(tmp_path)
    log = (tmp_path / "metrics.jsonl").read_text()
    _, again = train_line(tmp_path)
    assert torch.equal(first.offset, again.offset)
    assert (tmp_path / "metrics.jsonl").read_text() == log


def test_steps_fill_the_time_after_those_already_done(tmp_path: Path, monkeypatch) -> None:
    train_line(tmp_path, minutes=1e-9)  # one step
    monkeypatch.setattr(pacing, "_seconds_per_step", lambda *_: 0.5)
    run = FitRun(tmp_path, CPU, minutes=10)
    settings, left = pacing.fill_time(Line(), line_sample, None, TINY, run)
    assert settings.steps == pytest.approx(1 + 2 * 600 * pacing.PLANNED_SHARE, abs=3)
    assert settings.save_every == 120  # a minute
    assert left.minutes == pytest.approx(10, abs=0.1)
    with pytest.raises(ValueError, match="set minutes"):
        pacing.fill_time(Line(), line_sample, None, TINY, FitRun(tmp_path, CPU))


def test_measuring_speed_teaches_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Line()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    calls = []

    def loss(batch, generator):
        calls.append(1)
        return (model(batch["x"]).float() - batch["y"]).square().mean(), {}

    run = FitRun(tmp_path, CPU, workers=0, minutes=1e-9)
    settings, _ = pacing.fill_time(model, line_sample, loss, TINY, run)
    assert len(calls) == 3 and settings.steps >= 1
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


# The generator


def made_up_pool(individuals: int) -> pool.Pool:
    """Tokens say which individual and which of its images they are of."""
    which = torch.arange(individuals).view(-1, 1, 1, 1)
    shown = {
        count: (10 * which + torch.arange(count).view(1, -1, 1, 1)).expand(-1, -1, 64, 32).half()
        for count in (pool.REFERENCES, pool.TARGETS)
    }
    names = [samples.training_names()[number] for number in range(individuals)]
    looks = [[{"scene": "snow"}] * pool.TARGETS for _ in range(individuals)]
    targets = shown[pool.TARGETS]
    return pool.Pool(shown[pool.REFERENCES], targets, targets[..., 0], names, looks)


def test_batches_made_on_the_device_are_what_samples_make(tokenizers, tmp_path: Path) -> None:
    settings = dataclasses.replace(generator.SETTINGS, steps=700, batch_size=64)
    make = generator.SampleMaker(made_up_pool(30), *tokenizers, settings)
    data = DeviceBatches(make, FitRun(tmp_path, CPU, workers=0))
    batch, wanted = data.batch(5), make(5 * 64)
    for key, value in wanted.items():
        assert batch[key].shape[1:] == value.shape and batch[key].dtype == value.dtype, key
    individual = batch["target"][:, 0, 0] // 10
    assert torch.equal(batch["reference"][:, 0, 0] // 10, individual)
    assert torch.equal(batch["coverage"][:, 0], batch["target"][:, 0, 0])
    assert len(individual.unique()) > 15
    assert not batch["text_only"].any() and data.batch(15)["text_only"].all()
    again, other = data.batch(5), data.batch(6)
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    assert not torch.equal(batch["t5_ids"], other["t5_ids"])


def test_captions_are_noisy_late_in_training(tokenizers, tmp_path: Path) -> None:
    """Two targets of four show snow, which is exactly what captions say at first."""
    source = made_up_pool(100)
    source = dataclasses.replace(source, looks=[[{"scene": "snow"}, {}] * 2] * 100)
    settings = dataclasses.replace(generator.SETTINGS, steps=700, batch_size=4000)
    make = generator.SampleMaker(source, *tokenizers, settings)
    data = DeviceBatches(make, FitRun(tmp_path, CPU, workers=0))

    def shares(batch: Mapping[str, Tensor]) -> tuple[float, ...]:
        """Of plain images, of captions that say snow, and of those that say beach."""
        texts = tokenizers[1].batch_decode(batch["t5_ids"], skip_special_tokens=True)
        said = [sum(word in text for text in texts) / len(texts) for word in ("snow", "beach")]
        return float((batch["target"][:, 0, 0] % 2).mean()), *said

    told = 1 - generator.EMPTY_PROMPT_SHARE
    assert shares(data.batch(599)) == pytest.approx((0.5, told / 2, 0), abs=0.03)
    lies = 0.75 * generator.MADE_UP_SCENE / 14
    wanted = (0.75, told * (0.25 + lies), told * lies)
    assert shares(data.batch(600)) == pytest.approx(wanted, abs=0.03)
    drawn = [make(600 * 4000 + index) for index in range(2000)]
    batch = {key: torch.stack([one[key] for one in drawn]) for key in ("target", "t5_ids")}
    assert shares(batch) == pytest.approx(wanted, abs=0.04)


def test_a_pool_made_in_little_time_begins_the_whole_one() -> None:
    vae = nano.build_vae()
    vae.register_to_config(shift_factor=0.1, scaling_factor=0.9)
    part = pool.build_pool(vae, 40, CPU, 0, seconds=0.0)
    whole = pool.build_pool(vae, 16, CPU, 0)
    assert len(part.names) == 16 and part.names == whole.names and part.looks == whole.looks
    assert torch.equal(part.targets, whole.targets)
    assert torch.equal(part.weights, whole.weights)


def test_pack_equals_the_pipelines() -> None:
    latent = torch.randn(2, nano.LATENT_CHANNELS, 16, 16)
    stock = FluxKontextPipeline._pack_latents(latent, 2, nano.LATENT_CHANNELS, 16, 16)
    assert torch.equal(pack(latent), stock)


def test_position_ids_equal_the_pipelines() -> None:
    own = FluxKontextPipeline._prepare_latent_image_ids(1, 8, 8, CPU, torch.float32)
    reference = own.clone()
    reference[:, 0] = 1
    assert torch.equal(nano.image_ids(CPU, True), torch.cat([own, reference]))
    assert torch.equal(nano.image_ids(CPU, False), own)


def test_new_generator_looks_at_the_same_place_of_the_reference(tokenizers) -> None:
    """What `start_copying` promises, measured in the attention of the first block."""
    model = nano.NanoGenerator(*tokenizers)
    attention = model.transformer.transformer_blocks[0].attn
    hidden = torch.randn(1, 128, model.transformer.inner_dim)
    cos, sin = model.transformer.pos_embed(nano.image_ids(CPU, True))
    from diffusers.models.embeddings import apply_rotary_emb

    def rotated(linear, norm):
        heads = linear(hidden).unflatten(-1, (nano.HEADS, nano.HEAD_SIZE))
        return apply_rotary_emb(norm(heads), (cos, sin), sequence_dim=1)[0, :, 0]

    query, key = (
        rotated(attention.to_q, attention.norm_q),
        rotated(attention.to_k, attention.norm_k),
    )
    best = (query[:64] @ key.T).argmax(dim=1)
    assert (best == torch.arange(64, 128)).float().mean() > 0.9


def test_recoloured_targets_are_drawn_more_often(tokenizers, tmp_path: Path) -> None:
    """One target of four shows another colour: 1/4 at first, and 3/4·1/4 of the second draws."""
    source = made_up_pool(40)
    source = dataclasses.replace(source, looks=[[{"colour": "red"}, {}, {}, {}]] * 40)
    settings = dataclasses.replace(generator.SETTINGS, batch_size=4000)
    make = generator.SampleMaker(source, *tokenizers, settings)
    data = DeviceBatches(make, FitRun(tmp_path, CPU, workers=0))
    number = torch.stack([make(index)["target"][0, 0] for index in range(2000)])
    for shown in (number, data.batch(0)["target"][:, 0, 0]):
        assert (shown % 10 == 0).float().mean() == pytest.approx(7 / 16, abs=0.035)


def test_noisy_captions_are_wrong_about_as_often_as_they_say() -> None:
    for scene, share in (("snow", 0.0), (None, generator.MADE_UP_SCENE)):
        look = {"place": "left", **({"scene": scene} if scene else {})}
        said = [generator.noisy(look, numpy_rng("noisy", index)) for index in range(4000)]
        wrong = [mention["scene"] for mention in said if mention.get("scene") != scene]
        assert len(wrong) / 4000 == pytest.approx(share, abs=0.015)
        assert len(set(wrong)) == (14 if share else 0)
        assert {mention["place"] for mention in said} == {"left"}


def test_a_tiny_subject_counts_as_much_as_a_usual_one() -> None:
    usual, tiny = torch.zeros(64), torch.zeros(64)
    usual[:10], tiny[:3] = 1.0, 1.0
    weights = generator.token_weights(torch.stack([usual, tiny, torch.zeros(64)]))
    extra = (weights - 1).sum(dim=1)
    assert extra.tolist() == pytest.approx([30.0, 30.0, 0.0])
    assert float(weights.max()) <= 1 + generator.SUBJECT_WEIGHT * generator.MOST_EXTRA


def test_byte_pairs_are_merged_by_frequency_then_alphabet() -> None:
    merges = nano.byte_pair_merges({"aab": 2, "cab": 2, "cd": 3}, 4)
    assert merges == [("a", "b</w>"), ("c", "d</w>"), ("a", "ab</w>"), ("c", "ab</w>")]


def test_tokenizers_are_the_same_every_time(tokenizers) -> None:
    corpus = list(samples.prompt_corpus(2000))
    assert nano.build_clip_tokenizer(corpus).get_vocab() == tokenizers[0].get_vocab()
    assert nano.build_t5_tokenizer(corpus).get_vocab() == tokenizers[1].get_vocab()


def test_prompts_of_world_and_bench_fit_into_16_tokens(tokenizers) -> None:
    clip, t5 = tokenizers
    prompts = list(samples.prompt_corpus(500)) + [task.prompt for task in bench_tasks()]
    assert max(len(t5(text).input_ids) for text in prompts) <= nano.TEXT_LENGTH
    assert max(len(clip(text).input_ids) for text in prompts) <= nano.CLIP_LENGTH
    assert not any(t5.unk_token_id in t5(text).input_ids for text in prompts)


def test_tiny_training_gives_a_stock_pipeline_and_resumes(tmp_path: Path) -> None:
    vae = nano.build_vae()
    vae.register_to_config(shift_factor=0.1, scaling_factor=0.9)
    vae.save_pretrained(tmp_path / "vae")
    settings = dataclasses.replace(
        generator.SETTINGS, steps=2, batch_size=2, save_every=100, log_every=1
    )
    run = FitRun(tmp_path / "work", CPU, workers=0)
    target = tmp_path / "pipeline"
    assert generator.train(run, tmp_path / "vae", target, settings, individuals=4)
    assert (tmp_path / "work" / "sheet-000002.png").exists()
    assert not [file for file in target.rglob("*.json") if str(tmp_path) in file.read_text()]
    pipeline = load_pipeline(target, CPU)
    assert isinstance(pipeline, FluxKontextPipeline)
    tasks = bench_tasks()[:3]
    together = generate(pipeline, tasks, steps=2)
    assert [image.size for image in together] == [(64, 64)] * 3
    alone = generate(pipeline, tasks[1:2], steps=2)[0]
    difference = torch.frombuffer(bytearray(alone.tobytes()), dtype=torch.uint8).int()
    difference -= torch.frombuffer(bytearray(together[1].tobytes()), dtype=torch.uint8).int()
    assert difference.abs().max() <= 1  # rounding only: images do not depend on their batch
    state = (tmp_path / "work" / "state.safetensors").read_bytes()
    assert generator.train(run, tmp_path / "vae", target, settings, individuals=4)
    assert (tmp_path / "work" / "state.safetensors").read_bytes() == state


def test_warm_start_begins_with_weights_and_words_of_a_model(tokenizers, tmp_path: Path) -> None:
    model = nano.NanoGenerator(*tokenizers)
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.1)
    vae = nano.build_vae()
    vae.register_to_config(shift_factor=0.1, scaling_factor=0.9)
    finished = tmp_path / "models" / "nano-kontext"
    nano.save_pipeline(model, vae, *tokenizers, finished)
    run = FitRun(tmp_path / "work", CPU, workers=0, warm_start=tmp_path / "models")
    clip, t5, begun = generator.begin(run)
    assert clip.get_vocab() == tokenizers[0].get_vocab()
    assert t5.get_vocab() == tokenizers[1].get_vocab()
    assert all(map(torch.equal, begun.state_dict().values(), model.state_dict().values()))
    with pytest.raises(ValueError, match=r"cannot start from .*vae"):
        start_from(_smaller_vae(), finished / "vae")


def _smaller_vae() -> AutoencoderKL:
    config = dict(nano.build_vae().config)
    return AutoencoderKL.from_config({**config, "latent_channels": 4})


def test_training_velocity_equals_the_pipelines_first_step(tokenizers, tmp_path: Path) -> None:
    """The loss and stock sampling must see the same model: compare one Euler step."""
    model = nano.NanoGenerator(*tokenizers).eval()
    torch.nn.init.normal_(model.transformer.proj_out.weight, std=0.1)  # it starts at zero
    vae = nano.build_vae()
    vae.register_to_config(shift_factor=0.1, scaling_factor=0.9)
    nano.save_pipeline(model, vae, *tokenizers, tmp_path)
    pipeline = load_pipeline(tmp_path, CPU)
    task = bench_tasks()[40]
    noise = torch.randn(1, 64, nano.TOKEN_CHANNELS, generator=torch.Generator().manual_seed(0))
    stock = pipeline(
        image=task.reference,
        prompt=task.prompt,
        height=64,
        width=64,
        max_area=64 * 64,
        num_inference_steps=1,
        latents=noise,
        max_sequence_length=nano.TEXT_LENGTH,
        _auto_resize=False,
        output_type="latent",
    ).images
    with torch.no_grad():
        pixels = pipeline.image_processor.preprocess(task.reference, 64, 64)
        latent = (vae.eval().encode(pixels).latent_dist.mode() - 0.1) * 0.9
        ids = [generator.token_ids(tokenizer, task.prompt)[None] for tokenizer in tokenizers]
        velocity = model.velocity(noise, pack(latent), torch.ones(1), *ids)
    torch.testing.assert_close(noise - velocity, stock, atol=1e-5, rtol=1e-5)
