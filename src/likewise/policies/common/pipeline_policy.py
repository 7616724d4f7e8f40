"""A policy on a diffusers pipeline: everything but what the model at hand decides."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL.Image import Image
from torch import Tensor

from likewise.policies.common.cpu_attention import Float32Backward
from likewise.policies.common.embedding_cache import EmbeddingCache, NoCache
from likewise.policies.common.encoded import EncodedBatch, EncodedTask, Tensors, forward_by_shape
from likewise.policies.common.execution import KeptOnCpu, narrow_queries, set_up
from likewise.policies.common.pipeline_loading import load_pipeline
from likewise.policies.common.trainable import TrainablePolicy
from likewise.policies.common.trial import SMALLEST, try_out
from likewise.policies.common.visiting import Visitors
from likewise.pretrained.first_use import first_use
from likewise.types import Task


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (2207.12598): v = v⁻ + s·(v⁺ − v⁻).

    Attributes:
        scale: s ≥ 1; 1 is off. Above 1 every velocity costs two forwards.
        negative_prompt: What v⁻ is for.
        batched: v⁺ and v⁻ in one forward of twice the batch, where their shapes allow: faster on
            small models, and equal to two forwards up to rounding instead of exactly.
    """

    scale: float = 1.0
    negative_prompt: str = ""
    batched: bool = False

    def __post_init__(self) -> None:
        if not self.scale >= 1:
            raise ValueError(f"true_cfg_scale must be at least 1, not {self.scale}")

    @property
    def enabled(self) -> bool:
        return self.scale > 1


class PipelinePolicy(TrainablePolicy):
    """Implements :class:`likewise.protocols.Policy`, but for what a subclass says of its model.

    A subclass sets the class attributes, calls ``super().__init__`` and implements the methods that
    raise NotImplementedError here, each for one task, or for one forward of samples whose tensors
    have equal shapes.

    Args:
        pipeline: On its device; :meth:`from_pretrained` loads one. The policy freezes it.
        true_cfg_scale, negative_prompt, batched_cfg: See :class:`Guidance`.
        dtype: What the forward computes in; default: the denoiser's. (Quantised weights have a
            dtype of their own.)
        gradient_checkpointing: Recompute activations in the backward pass.
        offload_activations: What is kept for that, the inputs of blocks, waits on the CPU.
        compile: Compile each repeated block with torch.compile. A rollout and its replay are then
            other programs, whose results differ in the last bits: see objective.ratio_tolerance.
        attention: diffusers' attention backend, such as ``flash`` or ``native``; None: its default.
        vae_tiling: Encode and decode images in overlapping tiles where they are larger than one.
            Decoding is then another function: rewards see seams, and training is about them too.
        offload: Text encoders, image encoders and VAE wait on the CPU and visit the device for each
            use; for all tasks that are encoded together once. The denoiser stays.
        cache: Folder for embeddings of prompts and references, by content, shared between runs and
            processes; None: encode every time.

    Attributes:
        pipeline_classes: diffusers' pipelines that such a policy takes.
        unused_parts: Parts of a pipeline that are not loaded.
        max_references: Most references of a task that the model takes.
        text_sees_references: Whether text embeddings depend on the references too.
        lora_layout: Which table of names exports to other programs use; None: there is none.
    """

    parameterization: str = "flow"
    pipeline_classes: ClassVar[tuple[type, ...]] = ()
    unused_parts: ClassVar[tuple[str, ...]] = ()
    max_references: ClassVar[int] = 1
    text_sees_references: ClassVar[bool] = False
    lora_layout: ClassVar[str | None] = None

    def __init__(
        self,
        pipeline: Any,
        *,
        true_cfg_scale: float = 1.0,
        negative_prompt: str = "",
        batched_cfg: bool = False,
        dtype: torch.dtype | None = None,
        gradient_checkpointing: bool = False,
        offload_activations: bool = False,
        compile: bool = False,
        attention: str | None = None,
        vae_tiling: bool = False,
        offload: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(pipeline, dtype)
        self.guidance = Guidance(true_cfg_scale, negative_prompt, batched_cfg)
        self.offload_activations = offload_activations
        self.vae_tiling = vae_tiling
        if vae_tiling:
            pipeline.vae.enable_tiling()
        self.visitors = Visitors(self._others(), self.device if offload else None)
        self.cache = NoCache() if cache is None else EmbeddingCache(Path(cache), pipeline)
        self._compiled = compile
        set_up(self.denoiser, gradient_checkpointing, compile, attention)
        narrow_queries(self.denoiser, self.dtype)
        self._negative_text: Tensors | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        quantization: str | None = None,
        offload: bool = False,
        **options: Any,
    ) -> Self:
        """Load a directory or Hub name, and draw with it once (:mod:`trial`).

        The other options are those of the class.

        Args:
            quantization: Of the frozen denoiser; one of `pipeline_loading.QUANTIZATIONS`.

        Raises:
            ValueError: the pipeline is of another class, a part is missing, or an option is out of
                range.
            OSError: there is no such directory or Hub name.
        """
        pipeline = load_pipeline(
            name,
            cls.pipeline_classes,
            cls.denoiser_name,
            dtype,
            device,
            quantization=quantization,
            offload=offload,
            without=cls.unused_parts,
            parts=cls.parts,
        )
        with first_use(name, pipeline.components, "scheduler", (ValueError, OSError)):
            policy = cls(pipeline, dtype=dtype, offload=offload, **options)
        try_out(policy, name, options.get("height", 0), options.get("width", 0))
        return policy

    @classmethod
    def parts(cls, name: str | Path) -> dict[str, Any]:
        """Parts of the pipeline `name` that diffusers cannot load without further packages."""
        return {}

    # --- what the model decides ------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one image's latents x."""
        raise NotImplementedError

    def encode_text(self, prompt: str, references: Sequence[Image]) -> Tensors:
        """Embed a prompt as the stock pipeline does, on the policy's device."""
        raise NotImplementedError

    def encode_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        """Embed one task's references as the stock pipeline does, on the policy's device.

        Raises:
            ValueError: one of them is too small.
        """
        raise NotImplementedError

    def blank_task(self, references: Sequence[tuple[int, int]]) -> EncodedTask:
        """Zeros in the shapes that a task with references of these (height, width) pixels has."""
        raise NotImplementedError

    def initial_noise(self, seeds: Sequence[int]) -> Tensor:
        """See :class:`likewise.protocols.Policy`."""
        raise NotImplementedError

    def sigmas(self, num_steps: int, shift: float | None = None) -> Tensor:
        """See :class:`likewise.protocols.Policy`."""
        raise NotImplementedError

    def predict(
        self,
        x: Tensor,
        sigma: Tensor,
        texts: Sequence[Tensors],
        references: Sequence[tuple[Tensors, ...]],
    ) -> Tensor:
        """One forward of the denoiser for b samples whose tensors have equal shapes.

        Args:
            x: Latents [b, *latent] in the policy's dtype.
            sigma: Noise levels [b], as :meth:`velocity` got them.

        Returns:
            Of `parameterization`, float32 [b, *latent].
        """
        raise NotImplementedError

    def decode_latents(self, x: Tensor) -> Tensor:
        """Images float32 [B, 3, H, W] in [0, 1]; the VAE is on the device."""
        raise NotImplementedError

    def text_limit(self) -> tuple[Any, int] | None:
        """The tokenizer whose tokens are cut, and how many fit, special ones included.

        None where prompts of any length are read.
        """
        return None

    def tokenized(self, prompt: str) -> str:
        """What the tokenizer is given for a prompt."""
        return prompt

    def cut_prompts(self, prompts: Sequence[str]) -> list[str]:
        """The prompts that are longer than the text encoder reads: their ends have no effect."""
        limit = self.text_limit()
        if limit is None or not prompts:
            return []
        tokenizer, most = limit
        texts = [self.tokenized(prompt) for prompt in prompts]
        ids = tokenizer(texts, truncation=False, verbose=False).input_ids
        return [prompt for prompt, own in zip(prompts, ids, strict=True) if len(own) > most]

    # --- what follows from it --------------------------------------------------------------------

    def blank_condition(self, references: Sequence[tuple[int, int]]) -> EncodedBatch:
        """One :meth:`blank_task`."""
        return EncodedBatch((self.blank_task(references),))

    def zeros(self, *shape: int) -> Tensor:
        """As embeddings are: in the policy's dtype, on its device."""
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def take_part(self) -> Tensor:
        """See :class:`TrainablePolicy`."""
        task = self.blank_task([(SMALLEST, SMALLEST)])
        x, sigma = self.zeros(1, *self.latent_shape), torch.ones(1, device=self.device)
        with self.autocast():
            return self.predict(x, sigma, [task.text], [task.references])

    def negative_references(self, references: tuple[Tensors, ...]) -> tuple[Tensors, ...]:
        """What v⁻ sees of the references: all, unless a model was trained otherwise."""
        return references

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """v⁺ and v⁻ into the guided velocity, float32 [b, *latent]."""
        return negative + self.guidance.scale * (positive - negative)

    @torch.no_grad()
    def encode(self, tasks: Sequence[Task]) -> EncodedBatch:
        """One by one, so that no encoding depends on the batch that it was made in.

        All references come first, so that encoders of images and of texts are never together.
        """
        with self.visitors.staying():
            references = [self._references(task) for task in tasks]
        with self.visitors.staying():
            texts = [self._texts(task) for task in tasks]
        pairs = zip(texts, references, strict=True)
        return EncodedBatch(
            tuple(EncodedTask(text, images, negative) for (text, negative), images in pairs)
        )

    def velocity(self, x: Tensor, sigma: float | Tensor, condition: EncodedBatch) -> Tensor:
        """Samples whose embeddings differ in shape go through the denoiser in turn."""
        wanted = (len(condition), *self.latent_shape)
        if x.shape != wanted:
            raise ValueError(
                f"latents are {list(x.shape)}; {len(condition)} conditions of this model and "
                f"image size need {list(wanted)}"
            )
        level = torch.as_tensor(sigma, device=x.device)
        if level.shape not in ((), (len(x),)):
            raise ValueError(f"sigma is {list(level.shape)}: wanted a number, or one per sample")
        levels = level.expand(len(x))

        def forward(indices: slice | list[int], tasks: Sequence[EncodedTask]) -> Tensor:
            return self._guided(x[indices].to(self.dtype), levels[indices], tasks)

        with self.autocast(), self._fast_gradients(), self._kept_activations():
            return forward_by_shape(x, condition, forward)

    def _kept_activations(self) -> AbstractContextManager[Any]:
        return KeptOnCpu() if self.offload_activations else nullcontext()

    def _fast_gradients(self) -> AbstractContextManager[Any]:
        # Blocks that are compiled, or recomputed in the backward pass, do not see the context.
        unseen = self._compiled or self.denoiser.is_gradient_checkpointing
        narrow = self.device.type == "cpu" and self.dtype != torch.float32
        if narrow and torch.is_grad_enabled() and not unseen:  # the context slows every call a bit
            return Float32Backward()
        return nullcontext()

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        with self.visitors.visiting("vae"):
            return self.decode_latents(x)

    def _references(self, task: Task) -> tuple[Tensors, ...]:
        references = _checked(task, self.max_references)
        try:
            images = self.cache.get(
                self,
                "references",
                "",
                references,
                lambda: _flattened(self.embed_references(references)),
            )
        except ValueError as error:
            raise ValueError(f"task {task.id!r}: {error}") from error
        return tuple(_unflattened(images))

    def _texts(self, task: Task) -> tuple[Tensors, Tensors | None]:
        """Of its prompt, and of the negative one."""
        return self._text(task.prompt, task.references), self._negative(task.references)

    def embed_references(self, references: Sequence[Image]) -> tuple[Tensors, ...]:
        """As :meth:`encode_references`, with the encoders on the device and without the cache."""
        with self.visitors.visiting("vae", "image_encoder"):
            return self.encode_references(references)

    def embed_text(self, prompt: str, references: Sequence[Image]) -> Tensors:
        """As :meth:`encode_text`, with the encoders on the device and without the cache."""
        with self.visitors.visiting("text_encoder"):
            return self.encode_text(prompt, references)

    def _text(self, prompt: str, references: Sequence[Image]) -> Tensors:
        seen = references if self.text_sees_references else ()
        return self.cache.get(
            self, "text", prompt, seen, lambda: self.embed_text(prompt, references)
        )

    def _negative(self, references: Sequence[Image]) -> Tensors | None:
        """The negative prompt, embedded once where it does not depend on the references."""
        if not self.guidance.enabled:
            return None
        if self.text_sees_references:
            return self._text(self.guidance.negative_prompt, references)
        if self._negative_text is None:
            self._negative_text = self._text(self.guidance.negative_prompt, references)
        return self._negative_text

    def _guided(self, x: Tensor, sigma: Tensor, tasks: Sequence[EncodedTask]) -> Tensor:
        texts, references = [task.text for task in tasks], [task.references for task in tasks]
        if not self.guidance.enabled:
            return self.predict(x, sigma, texts, references)
        negative = [task.negative for task in tasks if task.negative is not None]
        if len(negative) < len(tasks):
            raise ValueError("true CFG needs a condition that was encoded with it switched on")
        others = [self.negative_references(own) for own in references]
        if self.guidance.batched and tasks[0].negative_fits_text:
            both = self.predict(
                x.repeat(2, *[1] * (x.ndim - 1)),
                sigma.repeat(2),
                texts + negative,
                references + others,
            )
            return self.combine(*both.chunk(2))
        positive = self.predict(x, sigma, texts, references)
        return self.combine(positive, self.predict(x, sigma, negative, others))

    def _others(self) -> dict[str, Any]:
        """All parts of the pipeline but the denoiser."""
        parts = self.pipeline.components.items()
        return {name: part for name, part in parts if name != self.denoiser_name}


def _checked(task: Task, most: int) -> tuple[Image, ...]:
    """A task's references.

    Raises:
        ValueError: too many, not RGB, or the prompt is empty.
    """
    if not task.prompt.strip():
        raise ValueError(f"task {task.id!r} has an empty prompt")
    if len(task.references) > most:
        raise ValueError(
            f"task {task.id!r} has {len(task.references)} references; this policy takes {most}"
        )
    for image in task.references:
        if image.mode != "RGB":
            raise ValueError(f"the reference of task {task.id!r} has mode {image.mode}, not RGB")
    return task.references


def _flattened(parts: Sequence[Tensors]) -> Tensors:
    """As one record, the way the cache stores it: ``0.tokens``, ``1.tokens`` …"""
    return {f"{i}.{name}": value for i, part in enumerate(parts) for name, value in part.items()}


def _unflattened(record: Tensors) -> list[Tensors]:
    parts: dict[int, dict[str, Tensor]] = {}
    for key, value in record.items():
        number, name = key.split(".", 1)
        parts.setdefault(int(number), {})[name] = value
    return [parts[number] for number in sorted(parts)]
