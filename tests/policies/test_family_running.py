"""However a policy runs, it draws the same: compiled, by other kernels, without its encoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from policies import suite
from policies.families import Family
from policies.ledger import YES, Ledger
from torch import nn

from likewise.policies.common.embedding_cache import EmbeddingCache
from likewise.policies.common.encoded import EncodedBatch
from likewise.policies.common.pipeline_policy import PipelinePolicy


@pytest.mark.slow  # a C++ compiler for minutes
def test_compiled_blocks(family: Family, ledger: Ledger) -> None:
    torch.compiler.reset()
    policy, tasks = family.policy(compile=True), suite.mixed_tasks(family)[:1]
    with torch.no_grad():
        apart = suite.away(
            suite.velocity(policy, tasks), suite.velocity(suite.plain(family), tasks)
        )
    assert any(module._compiled_call_impl is not None for module in policy.denoiser.modules())
    assert apart <= 1e-4
    suite.adapted(policy)
    assert suite.check_step(policy, tasks) <= 1e-4  # two programs: with gradient, and without
    ledger.record(family.name, "compile", apart)


def test_attention_backends(family: Family, ledger: Ledger) -> None:
    active = _AttentionBackendRegistry.get_active_backend()
    try:
        policy = family.policy(attention="_native_math")
    except ValueError as error:
        assert f"{type(suite.plain(family).denoiser).__name__} cannot change its" in str(error)
        ledger.record(family.name, "attention", "refused")
        return
    tasks = suite.mixed_tasks(family)
    with torch.no_grad():
        found = suite.velocity(policy, tasks)
        wanted = suite.velocity(suite.plain(family), tasks)
    assert _AttentionBackendRegistry.get_active_backend() == active  # others keep theirs
    apart = suite.away(found, wanted)
    assert 0 < apart <= 1e-5  # 0: the same kernel as before
    with torch.no_grad():
        native = suite.velocity(family.policy(attention="native"), tasks)
    assert torch.equal(native, wanted)
    ledger.record(family.name, "attention", apart)


def test_embeddings_come_from_disk(family: Family, ledger: Ledger, tmp_path: Path) -> None:
    policy, tasks = suite.plain(family), suite.mixed_tasks(family)
    wanted = family.policy(cache=tmp_path).encode(tasks)
    first = _files(tmp_path)
    _assert_equal(policy.encode(tasks), wanted)

    def reader() -> PipelinePolicy:
        """Without anything to encode with."""
        bare = family.policy(cache=tmp_path)
        for name in bare.pipeline.components:
            if name not in (bare.denoiser_name, "scheduler"):
                setattr(bare.pipeline, name, None)
        return bare

    stored = reader().encode(tasks)
    _assert_equal(stored, wanted)
    assert _files(tmp_path) == first
    x = policy.initial_noise(range(len(tasks)))
    with torch.no_grad():  # not even kernels see where they come from
        velocities = [policy.velocity(x, suite.SIGMA, rows) for rows in (wanted, stored)]
    assert torch.equal(*velocities)

    for name, content in first.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    _assert_equal(family.policy(cache=tmp_path).encode(tasks), wanted)
    assert _files(tmp_path) == first

    others = [family.policy(torch.bfloat16, cache=tmp_path), *_altered(family, tmp_path)]
    for count, other in enumerate(others, 2):
        other.encode(tasks)
        assert len(_files(tmp_path)) == count * len(first)
    assert first.items() <= _files(tmp_path).items()
    ledger.record(family.name, "cache", f"{YES} exact")


def test_what_sleeps_is_not_used(
    family: Family, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one device here: instead of moving, parts refuse to compute while they sleep."""
    policy, plain = family.policy(offload=True), suite.plain(family)
    tasks = suite.mixed_tasks(family)
    x = policy.initial_noise([1])
    with torch.no_grad():
        wanted = [plain.velocity(x, suite.SIGMA, plain.encode(tasks[:1])), plain.decode(x)]
    up: set[nn.Module] = set()
    used: set[str] = set()
    visits: Counter[str] = Counter()

    def arrive(name: str) -> None:
        visits[name] += 1
        up.add(parts[name])

    def leave(name: str) -> None:
        up.remove(parts[name])

    def watch(name: str, part: nn.Module) -> None:
        def check(*_: object) -> None:
            assert part in up, f"{name} is asked while it sleeps"
            used.add(name)

        for module in part.modules():
            module.register_forward_pre_hook(check)

    parts = {
        name: part
        for name, part in policy.pipeline.components.items()
        if isinstance(part, nn.Module) and name != policy.denoiser_name
    }
    for name, part in parts.items():
        watch(name, part)
    monkeypatch.setattr(policy.visitors, "arrive", arrive)
    monkeypatch.setattr(policy.visitors, "leave", leave)
    with torch.no_grad():
        condition = policy.encode(tasks)
        assert not up and set(visits.values()) == {1}  # for all tasks together
        first = condition.select([0])
        found = [policy.velocity(x, suite.SIGMA, first), policy.decode(x)]
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    assert used == parts.keys() == visits.keys()
    ledger.record(family.name, "offload", YES)


def _altered(family: Family, folder: Path) -> Iterator[PipelinePolicy]:
    """With another setting, and with other weights."""
    policy = family.policy(cache=folder)
    policy.a_setting = 1
    yield policy
    policy = family.policy()
    with torch.no_grad():
        for weights in policy.pipeline.text_encoder.parameters():
            weights += 0.01
    policy.cache = EmbeddingCache(folder, policy.pipeline)
    yield policy


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.safetensors")}


def _assert_equal(some: EncodedBatch, others: EncodedBatch) -> None:
    assert len(some) == len(others)
    for one, other in zip(some.tasks, others.tasks, strict=True):
        assert one.shapes == other.shapes
        pairs = zip(
            (one.text, *one.references, one.negative or {}),
            (other.text, *other.references, other.negative or {}),
            strict=True,
        )
        assert all(torch.equal(a[name], b[name]) for a, b in pairs for name in a)


def test_tiles_are_for_those_who_ask(family: Family) -> None:
    assert not family.policy().pipeline.vae.use_tiling
    assert family.policy(vae_tiling=True).pipeline.vae.use_tiling
