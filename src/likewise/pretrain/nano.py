"""The shapes of the nano generator: how large each part is.

Everything is a stock diffusers/transformers class; only the numbers, and how the weights start,
are ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from likewise.policies.flux.tokens import position_ids
from likewise.tensors import save_pretrained

LATENT_CHANNELS = 8
TOKEN_CHANNELS = LATENT_CHANNELS * 4  # FLUX packs 2×2 latents into one token
TEXT_LENGTH = 16  # T5 tokens; FLUX pads without a mask, so training and use must agree
CLIP_LENGTH = 24  # CLIP tokens, which only make the pooled embedding
CLIP_VOCABULARY = 1400
WORD_END = "</w>"  # CLIP's mark on the last piece of a word
PIECE_MINIMUM = 3  # occurrences among training words that earn a piece its token
HEADS, HEAD_SIZE = 4, 32
ROPE_AXES = (8, 12, 12)  # image index, row, column
TEXT_WIDTH = 96
SHIFT = 1.5  # of the σ grid; the 3 of large images would leave few steps for details


def build_vae() -> AutoencoderKL:
    """f4 autoencoder: [B, 3, 64, 64] ↔ [B, 8, 16, 16]; purely convolutional, no attention."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
    )


def load_vae(folder: Path) -> AutoencoderKL:
    """A trained autoencoder whose config, unlike ``from_pretrained``'s, does not keep its path."""
    stored = AutoencoderKL.from_pretrained(folder)
    vae = build_vae()
    vae.load_state_dict(stored.state_dict())
    statistics = {key: stored.config[key] for key in ("shift_factor", "scaling_factor")}
    vae.register_to_config(**statistics)
    return vae


def build_clip_tokenizer(corpus: Iterable[str]) -> CLIPTokenizer:
    """A byte-pair tokenizer learnt on the world's prompts.

    Learnt here, because the tokenizers library breaks ties between equally frequent pairs at
    random: the same corpus would give another vocabulary each time.
    """
    words = Counter(word.strip(",") for line in corpus for word in line.split())
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + WORD_END for letter in letters)]
    merges = byte_pair_merges(words, CLIP_VOCABULARY - len(tokens) - 2)
    tokens += ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
    tokenizer.model_max_length = CLIP_LENGTH
    return tokenizer


def kept_clip_tokenizer(
    folder: Path, corpus: Iterable[str], start: Path | None = None
) -> CLIPTokenizer:
    """The tokenizer in `folder`, built and kept there at first: a training's ids never change.

    Args:
        start: A folder with the tokenizer of the weights to begin with, instead of a new one.
    """
    if not (folder / "tokenizer.json").exists():
        new = CLIPTokenizer.from_pretrained(start) if start else build_clip_tokenizer(corpus)
        save_pretrained(new, folder)
    return CLIPTokenizer.from_pretrained(folder)


def byte_pair_merges(words: Mapping[str, int], count: int) -> list[tuple[str, str]]:
    """The `count` merges of byte-pair encoding: most frequent pair first, ties by alphabet."""
    spelling = {word: [*word[:-1], word[-1] + WORD_END] for word in words}
    merges: list[tuple[str, str]] = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelling.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        if not pairs:
            break
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        spelling = {word: _merged(parts, merges[-1]) for word, parts in spelling.items()}
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with every occurrence of `pair` joined, from left to right."""
    result: list[str] = []
    for part in parts:
        # A joined pair cannot be mistaken for its own second half: it is longer.
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


def build_t5_tokenizer(corpus: Iterable[str]) -> T5TokenizerFast:
    """A unigram tokenizer with every word of the corpus whole, and short pieces for other words.

    The usual unigram training optimises likelihood on running text; on this small language it
    splits common words, and 16 tokens are too few for that.
    """
    words = Counter(word.strip(",") for line in corpus for word in line.split())
    pieces: Counter[str] = Counter()
    for word in words:
        marked = "\u2581" + word
        for length in (1, 2, 3, 4, 5):
            pieces.update(marked[i : i + length] for i in range(len(marked) - length + 1))
    vocabulary = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, ",": -2.0}
    vocabulary |= {f"\u2581{word}": -2.0 for word in sorted(words)}
    for piece, count in sorted(pieces.items()):
        if len(piece) == 1 or count >= PIECE_MINIMUM:
            # Fewer, longer pieces always win over more, shorter ones; all lose to a whole word.
            vocabulary.setdefault(piece, -12.0 + len(piece))
    tokenizer = T5TokenizerFast(vocab=list(vocabulary.items()), extra_ids=0)
    tokenizer.model_max_length = TEXT_LENGTH
    return tokenizer


def kept_t5_tokenizer(
    folder: Path, corpus: Iterable[str], start: Path | None = None
) -> T5TokenizerFast:
    """As :func:`kept_clip_tokenizer`."""
    if not (folder / "tokenizer.json").exists():
        new = T5TokenizerFast.from_pretrained(start) if start else build_t5_tokenizer(corpus)
        save_pretrained(new, folder)
    return T5TokenizerFast.from_pretrained(folder)


class NanoGenerator(nn.Module):
    """The trainable parts of the pipeline: both text encoders and the transformer."""

    def __init__(self, clip_tokens: CLIPTokenizer, t5_tokens: T5TokenizerFast) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip_tokens),
                hidden_size=TEXT_WIDTH,
                intermediate_size=2 * TEXT_WIDTH,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CLIP_LENGTH,
                projection_dim=TEXT_WIDTH,
                bos_token_id=clip_tokens.bos_token_id,
                eos_token_id=clip_tokens.eos_token_id,
                pad_token_id=clip_tokens.pad_token_id,
                initializer_range=0.05,
            )
        )
        self.text_encoder_2 = T5EncoderModel(
            T5Config(
                vocab_size=len(t5_tokens),
                d_model=TEXT_WIDTH,
                d_kv=TEXT_WIDTH // 4,
                d_ff=2 * TEXT_WIDTH,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.0,
                pad_token_id=t5_tokens.pad_token_id,
                eos_token_id=t5_tokens.eos_token_id,
            )
        )
        self.transformer = FluxTransformer2DModel(
            in_channels=TOKEN_CHANNELS,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=HEAD_SIZE,
            num_attention_heads=HEADS,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            axes_dims_rope=ROPE_AXES,
        )
        start_copying(self.transformer)

    def velocity(
        self,
        latent: Tensor,
        reference: Tensor | None,
        sigma: Tensor,
        clip_ids: Tensor,
        t5_ids: Tensor,
    ) -> Tensor:
        """Predicted velocity [B, 64, 32] of packed latents, as FluxKontextPipeline computes it."""
        tokens = latent if reference is None else torch.cat([latent, reference], dim=1)
        ids = image_ids(latent.device, with_reference=reference is not None)
        output = self.transformer(
            hidden_states=tokens,
            timestep=sigma,
            pooled_projections=self.text_encoder(clip_ids).pooler_output,
            encoder_hidden_states=self.text_encoder_2(t5_ids).last_hidden_state,
            txt_ids=torch.zeros(t5_ids.shape[1], 3, device=latent.device),
            img_ids=ids,
            return_dict=False,
        )[0]
        return output[:, : latent.shape[1]]


def start_copying(transformer: FluxTransformer2DModel, heads: int = 2, gain: float = 1.5) -> None:
    """Start `heads` heads of every block as "look at the same position of the reference".

    With rotary positions a constant query and key attend by relative position alone: a query pair
    turned by angle α peaks where (position_key − position_query)·frequency = α. Row and column get
    α = 0, the image index α = 1, because the reference's index is 1 and its lowest-index frequency
    is 1. From random weights, finding this head is the slow part of learning to copy a subject.
    """
    query, key = torch.zeros(HEAD_SIZE), torch.zeros(HEAD_SIZE)
    row, column = ROPE_AXES[0], ROPE_AXES[0] + ROPE_AXES[1]
    index_strength, position_strength = 4.0, 2.0  # squares sum to HEAD_SIZE: RMS norm keeps them
    query[0], query[1] = index_strength * math.cos(1.0), index_strength * math.sin(1.0)
    key[0] = index_strength
    for pair in (row, row + 2, column, column + 2):
        query[pair] = key[pair] = position_strength
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    with torch.no_grad():
        for block in blocks:
            for linear, constant in ((block.attn.to_q, query), (block.attn.to_k, key)):
                linear.weight[: heads * HEAD_SIZE] *= 0.25
                linear.bias[: heads * HEAD_SIZE] = constant.repeat(heads)
            block.attn.norm_q.weight.fill_(gain)
            block.attn.norm_k.weight.fill_(gain)
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()


def image_ids(device: torch.device, with_reference: bool) -> Tensor:
    """Position ids [64 or 128, 3] of an 8×8 token grid, then of the reference (index 1)."""
    indices = (0, 1) if with_reference else (0,)
    return torch.cat([position_ids((8, 8), index) for index in indices]).to(device)


def save_pipeline(
    generator: NanoGenerator,
    vae: AutoencoderKL,
    clip: CLIPTokenizer,
    t5: T5TokenizerFast,
    target: Path,
) -> None:
    """Write a stock ``FluxKontextPipeline`` directory (safetensors)."""
    pipeline = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=generator.text_encoder,
        tokenizer=clip,
        text_encoder_2=generator.text_encoder_2,
        tokenizer_2=t5,
        transformer=generator.transformer,
    )
    save_pretrained(pipeline.to("cpu", torch.float32), target, safe_serialization=True)
