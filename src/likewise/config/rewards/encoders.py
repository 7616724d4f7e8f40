"""Rewards that an encoder computes in the training process."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from likewise.config.rewards.reward_section import RewardSection, Role


class EncoderSection(RewardSection):
    """A reward with models in the training process."""

    device: str | None = Field(
        None,
        pattern=r"^(cpu|cuda:\d+|cuda:\+\d+)$",
        description="where it computes: cpu, a GPU such as cuda:7, or cuda:+4, four GPUs after "
        "that of the process; null: the run's device",
    )


class Clip(EncoderSection):
    """CLIP's cosine: with the prompt (CLIP-T), or with the reference (CLIP-I)."""

    kind: Literal["clip"] = "clip"
    side: Role = Field(
        "prompt", description="as everywhere; with compare_to reference the default is identity"
    )
    model: str = Field("nano-clip", description="shipped model, directory, or Hub name")
    compare_to: Literal["prompt", "reference"] = "prompt"

    @model_validator(mode="before")
    @classmethod
    def _side_of_reference(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("compare_to") == "reference":
            return {"side": "identity", **given}
        return given


class Dino(EncoderSection):
    """Cosine of CLS tokens of DINO, DINOv2 or DINOv3: is it the same subject?"""

    kind: Literal["dino"] = "dino"
    side: Role = "identity"
    model: str = Field("nano-dinov2", description="shipped model, directory, or Hub name")
    segment: bool = Field(
        False,
        description="against the reference's subject alone (the paper): by the task's mask, "
        "else by the segmenter",
    )
    segment_generated: bool = Field(
        False, description="and of the generated image the subject alone, by the segmenter"
    )
    segmenter: str | None = Field(
        None,
        description="finds subjects: directory or Hub name of a transformers segmentation model, "
        "an .onnx file of U2-Net's layout, or module:function",
    )
    band: Literal["all", "coarse", "fine"] = Field(
        "all",
        description="what is compared: all of an image, what a blur leaves of it (colours, shape), "
        "or what the blur takes away (texture, marks)",
    )
    blur: float = Field(
        0.05, gt=0, le=1, description="std of that blur, as a share of the shorter side"
    )

    @model_validator(mode="after")
    def _blur_counts(self) -> Dino:
        if self.band == "all" and self.blur != type(self).model_fields["blur"].default:
            raise ValueError("blur does nothing where band is all: choose coarse or fine")
        return self

    @model_validator(mode="after")
    def _segmenter_fits(self) -> Dino:
        if self.segment_generated and not self.segmenter:
            raise ValueError("segment_generated needs a segmenter: tasks have no masks of it")
        if self.segmenter and not (self.segment or self.segment_generated):
            raise ValueError("segmenter does nothing unless segment or segment_generated is true")
        return self


class PickScore(EncoderSection):
    """PickScore: which image would people pick for this prompt?"""

    kind: Literal["pickscore"] = "pickscore"
    side: Role = "prompt"
    model: str = Field("yuvalkirstain/PickScore_v1", description="directory or Hub name")
    processor: str | None = Field(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        description="directory or Hub name of its processor; null: the model's own",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


class HpsV3(EncoderSection):
    """HPSv3: how much would people prefer this image for this prompt? About -1 to 15."""

    kind: Literal["hpsv3"] = "hpsv3"
    side: Role = "prompt"
    model: str = Field(
        "MizzenAI/HPSv3/HPSv3.safetensors",
        description="the checkpoint: a file, or owner/repository/file on the Hub",
    )
    base: str = Field(
        "Qwen/Qwen2-VL-7B-Instruct",
        description="directory or Hub name of the configuration and processor it was tuned from",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    batch: PositiveInt = Field(8, description="images per forward")


class CopyIndex(EncoderSection):
    """How much of the reference is copied, by DINO's cosine; with a side, minus that: a penalty.

    The index is 1 for a copy of the reference and about 0 for an image like the subject's other
    photos, of which tasks need some.
    """

    kind: Literal["copy-index"] = "copy-index"
    model: str = Field("nano-dinov2", description="shipped model, directory, or Hub name")


class InGroupDiversity(EncoderSection):
    """How different an image is from the others of its group: mean distance, by DINO's cosine."""

    kind: Literal["in-group-diversity"] = "in-group-diversity"
    model: str = Field("nano-dinov2", description="shipped model, directory, or Hub name")
