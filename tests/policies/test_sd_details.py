"""SD 1.5 and SDXL with an IP-Adapter: what the suite of all policies does not ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from policies.families import Family
from policies.families.sd_ip_adapter import (
    FAMILIES,
    HEIGHT,
    PUBLISHED,
    WEIGHTS,
    WIDTH,
    call,
    image_encoder,
    sd15_pipeline,
)
from safetensors.torch import load_file, save_file
from tiny import a_task, photo
from torch import Tensor

from likewise.algorithm.schedule import nearest_timestep, variance_preserving_alpha
from likewise.policies.sd.ddim_levels import ddim_scheduler, step_levels
from likewise.policies.sd.ip_adapter import install, load_ip_adapter
from likewise.policies.sd_ip_adapter import SdIpAdapterPolicy
from likewise.rollout.sampler import Sampler
from likewise.rollout.trajectories import integrate
from likewise.types import Task

SD15, SDXL = FAMILIES
ZERO_SNR: dict[str, Any] = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
BOTH = pytest.mark.parametrize("family", FAMILIES, ids=["sd15", "sdxl"])


def scheduler(**settings: Any) -> DDIMScheduler:
    return DDIMScheduler.from_config(PUBLISHED | settings)


def policy_with(**settings: Any) -> SdIpAdapterPolicy:
    """SD 1.5 with another scheduler."""
    pipeline = SD15.policy().pipeline
    pipeline.scheduler = scheduler(**settings)
    return SdIpAdapterPolicy(pipeline, HEIGHT, WIDTH)


@torch.no_grad()
def drawn(policy: SdIpAdapterPolicy, task: Task, steps: int, seed: int) -> Tensor:
    sampler = Sampler(policy.sigmas(steps), "ddim", 1.0, policy.parameterization)
    noise, condition = policy.initial_noise([seed]), policy.encode([task])
    return integrate(policy, sampler, noise, condition, range(steps))


def two_references() -> Task:
    return replace(a_task(), more_references=(photo(40, 30, 1),))


# --- equal to stock ------------------------------------------------------------------------------


@BOTH
def test_references_negative_prompt_and_guidance_are_as_stock(family: Family) -> None:
    for options in ({"negative_prompt": "the snow"}, {"guidance_scale": 1.0}):
        policy = family.policy(**options)
        latents = drawn(policy, two_references(), 3, 5)
        assert torch.equal(latents, family.stock(policy, two_references(), 3, 5))


@pytest.mark.parametrize(
    "settings", [ZERO_SNR, {"set_alpha_to_one": True, "steps_offset": 0}], ids=["v", "to one"]
)
def test_other_schedulers_as_stock(settings: dict[str, Any]) -> None:
    policy = policy_with(**settings)
    assert policy.parameterization == settings.get("prediction_type", "epsilon")
    assert torch.equal(drawn(policy, a_task(), 4, 5), SD15.stock(policy, a_task(), 4, 5))


@pytest.mark.parametrize("settings", [{}, ZERO_SNR], ids=["epsilon", "v"])
def test_stochastic_steps_are_those_of_the_stock_scheduler(settings: dict[str, Any]) -> None:
    stock, steps, eta = scheduler(**settings), 5, 0.8
    stock.set_timesteps(steps)
    sampler = Sampler(step_levels(stock, steps), "ddim", eta, stock.config.prediction_type)
    x, output, noise = torch.randn(3, 2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    for t, time in enumerate(stock.timesteps):
        mean, std = sampler.stochastic(x, output, t)
        wanted = stock.step(output, time, x, eta=eta, variance_noise=noise).prev_sample
        torch.testing.assert_close(mean + std * noise, wanted, rtol=1e-6, atol=1e-5)
        before = time - 1000 // steps
        torch.testing.assert_close(std, eta * stock._get_variance(time, before).sqrt())


@BOTH
def test_images_as_stock(family: Family) -> None:
    policy = family.policy()
    wanted = call(policy, a_task(), 2, 5, "pt")
    assert wanted.shape == (1, 3, HEIGHT, WIDTH) and wanted.std() > 0.01
    assert torch.equal(policy.decode(family.stock(policy, a_task(), 2, 5)), wanted)


def test_the_vae_of_sdxl_decodes_in_float32_against_overflow() -> None:
    policy = SDXL.policy(torch.float16)
    vae, latents = policy.pipeline.vae, policy.initial_noise([1])
    assert vae.config.force_upcast
    images = policy.decode(latents)
    assert vae.dtype == torch.float16
    vae.float()  # from the same float16 weights
    assert torch.equal(images, policy.decode(latents))


def test_sdxl_takes_zeros_for_an_empty_negative_prompt() -> None:
    policy = SDXL.policy()
    negative = policy.encode([a_task()]).tasks[0].negative
    assert not any(value.any() for value in negative.values())
    policy.pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    encoded = policy.encode_text("")
    assert all(value.any() for value in encoded.values())


# --- noise levels --------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, ZERO_SNR], ids=["sd15", "zero snr"])
def test_levels_give_alphas_and_timesteps_back_exactly(settings: dict[str, Any]) -> None:
    policy = policy_with(**settings)
    stock = policy.pipeline.scheduler
    for steps in (1, 4, 20, 50):
        sigmas = policy.sigmas(steps)
        stock.set_timesteps(steps)
        assert sigmas.dtype == torch.float64 and (sigmas.diff() < 0).all()
        alphas = variance_preserving_alpha(sigmas)
        assert torch.equal(alphas[:-1], stock.alphas_cumprod[stock.timesteps])
        assert alphas[-1] == stock.final_alpha_cumprod
        assert torch.equal(nearest_timestep(sigmas[:-1], policy.levels), stock.timesteps)
    every = torch.arange(1000)
    assert torch.equal(nearest_timestep(policy.levels, policy.levels), every)


def test_a_step_ends_where_the_next_one_starts() -> None:
    stock = scheduler(timestep_spacing="linspace", set_alpha_to_one=True)
    alphas = variance_preserving_alpha(step_levels(stock, 7))
    stock.set_timesteps(7)
    assert torch.equal(alphas[:-1], stock.alphas_cumprod[stock.timesteps])
    assert alphas[-1] == 1


def test_clipping_is_off_as_in_the_stock_pipeline() -> None:
    clipping = DDPMScheduler.from_config(PUBLISHED | {"clip_sample": True})
    assert clipping.config.clip_sample and not ddim_scheduler(clipping).config.clip_sample


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prediction_type": "sample"}, "prediction_type 'sample'; this policy takes epsilon and"),
        ({"thresholding": True}, "thresholding on"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr with prediction_type epsilon"),
    ],
)
def test_schedulers_that_no_gaussian_step_can_follow(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        policy_with(**settings)


def test_bad_numbers_of_steps() -> None:
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no beta_schedule"):
        ddim_scheduler(FlowMatchEulerDiscreteScheduler())
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"num_steps must be 1 to 1000, not {steps}"):
            step_levels(scheduler(), steps)
    with pytest.raises(ValueError, match="num_steps 1000 with the scheduler's steps_offset 1"):
        step_levels(scheduler(), 1000)
    with pytest.raises(ValueError, match="last step stays at the level where it starts"):
        step_levels(scheduler(steps_offset=0), 20)
    with pytest.raises(ValueError, match=r"shift 3\.0: a diffusion's noise levels cannot"):
        SD15.policy().sigmas(4, 3.0)


# --- conditioning --------------------------------------------------------------------------------


@BOTH
def test_the_negative_half_sees_neither_prompt_nor_reference(family: Family) -> None:
    policy = family.policy(guidance_scale=3.0)
    x, sigma = policy.initial_noise([1]), policy.sigmas(4)[1]
    a, b = (policy.encode([a_task(reference=photo(30, 20, seed))]).tasks[0] for seed in (1, 2))
    level = sigma.expand(1)
    with torch.no_grad():
        wanted = policy.predict(x, level, [a.text], [a.references])
        other = policy.predict(x, level, [a.text], [b.references])
        none = [policy.negative_references(encoded.references) for encoded in (a, b)]
        negative = [policy.predict(x, level, [a.negative], [images]) for images in none]
        guided = policy.velocity(x, sigma, policy.encode([a_task(reference=photo(30, 20, 1))]))
    assert (wanted - other).abs().max() > 0.01  # the reference matters
    assert torch.equal(*negative)
    torch.testing.assert_close(guided, negative[0] + 3 * (wanted - negative[0]))


def test_the_scale_weighs_the_attention_to_the_reference() -> None:
    def velocity(scale: float) -> Tensor:
        policy = SD15.policy(ip_adapter_scale=scale, guidance_scale=1.0)
        with torch.no_grad():
            return policy.velocity(policy.initial_noise([1]), 0.6, policy.encode([a_task()]))

    whole, half, hardly = velocity(1.0), velocity(0.5), velocity(1e-6)
    assert (whole - hardly).abs().mean() > (half - hardly).abs().mean() > 1e-3


@BOTH
def test_blank_tasks_have_the_shapes_of_encoded_ones(family: Family) -> None:
    policy = family.policy()
    encoded = policy.encode([two_references()]).tasks[0]
    blank = policy.blank_task([(21, 14), (40, 30)])
    assert blank.shapes == encoded.shapes
    assert blank.text["states"].dtype == encoded.text["states"].dtype
    assert family.policy(guidance_scale=1.0).blank_task([(21, 14)]).negative is None


# --- training ------------------------------------------------------------------------------------


@BOTH
def test_a_lora_leaves_the_ip_adapter_alone(family: Family) -> None:
    per_block = {"attention": 8, "all": 10}
    for preset, modules in per_block.items():
        policy = family.policy()
        blocks = [n for n in policy.denoiser.attn_processors if n.endswith("attn2.processor")]
        transformers = {name.split(".transformer_blocks")[0] for name in blocks}
        ends = 2 * len(transformers) if preset == "all" else 0  # proj_in, proj_out
        policy.add_lora(2, 4, preset)
        adapted = [n for n, _ in policy.denoiser.named_parameters() if "lora_A" in n]
        assert len(adapted) == modules * len(blocks) + ends
        assert not [n for n in adapted if "_ip" in n or "encoder_hid_proj" in n]


def test_full_fine_tuning_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be trained in full: use a LoRA"):
        SD15.policy().train_all()


# --- loading -------------------------------------------------------------------------------------


@BOTH
def test_loaded_from_files_it_draws_the_same(family: Family, tmp_path: Path) -> None:
    pairs = [one.removeprefix("policy.").split("=", 1) for one in family.save(tmp_path)]
    named = {key: int(value) if value.isdigit() else value for key, value in pairs}
    policy = SdIpAdapterPolicy.from_pretrained(named.pop("model"), **named)
    assert isinstance(policy.pipeline.scheduler, DDIMScheduler)
    assert not policy.pipeline.scheduler.config.set_alpha_to_one  # as published
    policy.pipeline.set_progress_bar_config(disable=True)
    assert torch.equal(drawn(policy, a_task(), 2, 5), drawn(family.policy(), a_task(), 2, 5))


def test_bad_files_of_an_ip_adapter(tmp_path: Path) -> None:
    SD15.save(tmp_path)
    source = tmp_path / "ip-adapter"
    good = load_file(source / WEIGHTS)
    pipeline = sd15_pipeline()

    def load(weights: str = WEIGHTS, encoder: str = "models/image_encoder") -> None:
        load_ip_adapter(pipeline, source, weights, encoder)

    def bad(changes: dict[str, Tensor | None]) -> str:
        weights = {key: value for key, value in {**good, **changes}.items() if value is not None}
        save_file(weights, source / "bad.safetensors")
        return "bad.safetensors"

    with pytest.raises(ValueError, match=r"'models/ip-adapter\.bin' is not a safetensors file"):
        load("models/ip-adapter.bin")
    with pytest.raises(ValueError, match=r"there is no IP-Adapter file .*none\.safetensors"):
        load("none.safetensors")
    with pytest.raises(ValueError, match=r"no image encoder at 'elsewhere'"):
        load(encoder="elsewhere")
    (source / "damaged.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=r"damaged\.safetensors is damaged"):
        load("damaged.safetensors")
    with pytest.raises(ValueError, match=r"is not an IP-Adapter: it has a key 'unet\.x'"):
        load(bad({"unet.x": torch.zeros(1)}))
    key = "ip_adapter.1.to_k_ip.weight"
    with pytest.raises(
        ValueError, match=r"another UNet: its 1\.to_k_ip\.weight is \[3, 16\], this UNet has \[16"
    ):
        load(bad({key: torch.zeros(3, 16)}))
    with pytest.raises(ValueError, match=r"1\.to_k_ip\.weight is missing, this UNet has \[16, 16"):
        load(bad({key: None}))
    with pytest.raises(ValueError, match="needs an image encoder with projection_dim 9, not 8"):
        load(bad({"image_proj.proj.weight": torch.zeros(64, 9)}))
    with pytest.raises(ValueError, match="its tokens have 15 channels, this UNet takes 16"):
        load(bad({"image_proj.proj.weight": torch.zeros(60, 8)}))
    with pytest.raises(ValueError, match="of another kind than plain, full face, plus: FaceID"):
        load(bad({"image_proj.proj.weight": None}))
    with pytest.raises(ValueError, match=r"(?s)bad\.safetensors is incomplete: .*norm\.weight"):
        load(bad({"image_proj.norm.weight": None}))


def test_the_published_file_of_sd15_fits_its_unet() -> None:
    """Sizes and order of h94/IP-Adapter's ip-adapter_sd15.safetensors: down, up, then middle."""
    widths = [320, 320, 640, 640, 1280, 1280, *[1280] * 3, *[640] * 3, *[320] * 3, 1280]
    pipeline = sd15_pipeline()
    encoder = image_encoder()
    encoder.config.projection_dim = 1024
    with torch.device("meta"):
        pipeline.unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        attention = {
            f"{2 * number + 1}.{part}_ip.weight": torch.empty(width, 768)
            for number, width in enumerate(widths)
            for part in ("to_k", "to_v")
        }
        shapes = {"proj.weight": (3072, 1024), "proj.bias": (3072,)}
        shapes |= {"norm.weight": (768,), "norm.bias": (768,)}
        projection = {key: torch.empty(size) for key, size in shapes.items()}
        pipeline.register_modules(image_encoder=encoder)
        install(pipeline, {"image_proj": projection, "ip_adapter": attention}, "published")
    assert pipeline.unet.encoder_hid_proj.num_ip_adapters == 1


def test_pipelines_and_numbers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the UNet has no IP-Adapter: name one as ip_adapter"):
        SdIpAdapterPolicy(sd15_pipeline(), HEIGHT, WIDTH)
    pipeline = SD15.policy().pipeline
    with pytest.raises(ValueError, match="must be multiples of 8, not 16 and 20"):
        SdIpAdapterPolicy(pipeline, 16, 20)
    with pytest.raises(ValueError, match="ip_adapter_scale must be positive, not 0"):
        SdIpAdapterPolicy(pipeline, HEIGHT, WIDTH, ip_adapter_scale=0.0)
    pipeline.image_encoder = None
    with pytest.raises(ValueError, match="the pipeline has no image_encoder"):
        SdIpAdapterPolicy(pipeline, HEIGHT, WIDTH)
    pipeline.unet.register_to_config(time_cond_proj_dim=8)
    with pytest.raises(ValueError, match=r"distilled and has its guidance embedded \(LCM\)"):
        SdIpAdapterPolicy(pipeline, HEIGHT, WIDTH)


def test_a_pipeline_of_another_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxKontextPipeline"}')
    with pytest.raises(
        ValueError,
        match="is a FluxKontextPipeline, not a StableDiffusionPipeline or StableDiffusionXLPip",
    ):
        SdIpAdapterPolicy.from_pretrained(tmp_path, height=HEIGHT, width=WIDTH)
