"""A model's parameters in shards, and the plain tensors that an optimiser works on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from likewise.sharding.lockstep import Lockstep
from likewise.sharding.mesh import SHARD


def shard_module(
    module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype, trained: torch.dtype | None = None
) -> None:
    """Spread a model's parameters over a mesh, in place, block by block.

    Gradients become sums over all processes, in shards as well.

    Args:
        module: On its device. Its class says which blocks repeat, as diffusers' do.
        dtype: What the forward computes in. bfloat16 weights are gathered where those in shards are
            float32: what autocast would make of them anyway. Sums of gradients stay float32.
        trained: Give the parameters this dtype first, so that no process ever holds all of them
            in it; None: leave them.
    """
    policy = MixedPrecisionPolicy()
    if dtype == torch.bfloat16:
        # Inputs stay as they are: autocast narrows them where that is right, and positions and
        # times are float32 without sharding too.
        policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    for part in [*blocks_of(module), module]:
        if trained is not None:
            _widen(part, trained)
        # The root too, so that weights put in place between two forwards are always seen.
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        assert isinstance(part, FSDPModule)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)


def _widen(module: nn.Module, dtype: torch.dtype) -> None:
    """Give everything that is not in shards yet another dtype."""
    for one in (*module.parameters(), *module.buffers()):
        if not isinstance(one, DTensor) and one.is_floating_point():
            one.data = one.data.to(dtype)


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """The blocks that repeat, inner ones first."""
    names = set(getattr(module, "_no_split_modules", None) or ())
    names |= set(getattr(module, "_repeated_blocks", None) or ())
    found = [one for one in module.modules() if type(one).__name__ in names and one is not module]
    return found[::-1]


class Shards:
    """The trained parameters of a model that :func:`shard_module` has spread.

    Args:
        module: The model.
        take_part: One forward of it on an input of zeros; see `Lockstep`.
        timeout: How long one process may wait for another.

    Attributes:
        names: Of the trained parameters.
        parameters: They themselves, as the model has them.
        plain: This process's shard of each: an ordinary parameter with the same memory, on which
            optimisers, averages and copies work as they do without sharding.
        lockstep: Keeps forwards in step.
    """

    def __init__(
        self,
        module: nn.Module,
        mesh: DeviceMesh,
        take_part: Callable[[], Tensor],
        timeout: timedelta,
    ) -> None:
        self.mesh = mesh
        named = [(name, one) for name, one in module.named_parameters() if one.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters: list[DTensor] = [one for _, one in named]  # type: ignore[misc]
        self.plain = [nn.Parameter(one.to_local().detach()) for one in self.parameters]
        self.is_main = dist.get_rank() == 0
        self._words = _group_of_words(mesh, timeout)
        self.lockstep = Lockstep(self._smallest, take_part)
        module.register_forward_pre_hook(self.lockstep.before_forward, prepend=True)
        # Of its last layer's output, which policies never write on.
        name = type(module).__name__
        warnings.filterwarnings("ignore", rf"FSDP2-wrapped module \({name}\) returned a view")

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters, as what they are too."""
        return list(self.parameters)  # type: ignore[arg-type]

    def take_gradients(self) -> None:
        """Move the model's gradients, which are sums over processes, to the plain parameters.

        Missing ones count as 0.
        """
        for parameter, plain in zip(self.parameters, self.plain, strict=True):
            found, parameter.grad = parameter.grad, None
            plain.grad = torch.zeros_like(plain) if found is None else found.to_local()  # type: ignore[attr-defined]

    def forget_gradients(self) -> None:
        """Drop the model's gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def norm(self, tensors: Sequence[Tensor]) -> Tensor:
        """Of tensors in shards, the norm that they have together."""
        own = nn.utils.get_total_norm(tensors)
        square = own.double().square()
        dist.all_reduce(square, group=self.mesh.get_group(SHARD))
        return square.sqrt().to(own.dtype)

    def all(self, flag: bool) -> bool:
        """Logical AND over processes; a collective call."""
        return bool(self._smallest(int(flag)))

    def wrapped(self, index: int, plain: Tensor) -> DTensor:
        """A tensor like parameter `index`, from this process's shard of it."""
        like = self.parameters[index]
        return DTensor.from_local(
            plain,
            self.mesh,
            like.placements,
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )

    def whole(self, tensors: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Tensors like the parameters, put together one by one, by name: on the CPU of the main
        process, empty elsewhere. A collective call; all of it has to be consumed."""
        for index, (name, plain) in enumerate(zip(self.names, tensors, strict=True)):
            full = self.wrapped(index, plain.detach()).full_tensor()
            yield name, full.cpu() if self.is_main else full.new_empty(0)

    def own(self, index: int, full: Tensor) -> Tensor:
        """This process's shard of a tensor like parameter `index`.

        Raises:
            ValueError: it has another shape.
        """
        like = self.parameters[index]
        if full.shape != like.shape:
            raise ValueError(
                f"{self.names[index]} is {list(full.shape)} there, {list(like.shape)} here"
            )
        rank, size = self.mesh.get_local_rank(SHARD), self.mesh.size(self.mesh.ndim - 1)
        parts = list(full.chunk(size, 0))
        plain = self.plain[index]
        part = parts[rank] if rank < len(parts) else full[:0]
        return part.to(plain.device, plain.dtype)

    @torch.no_grad()
    def fill(self, values: Mapping[str, Tensor]) -> None:
        """Give the parameters values, which every process has whole.

        Raises:
            ValueError: some are missing, or of another shape.
        """
        if missing := [name for name in self.names if name not in values]:
            raise ValueError(f"{missing[0]} is missing there, and {len(missing) - 1} more")
        parts = [self.own(index, values[name]) for index, name in enumerate(self.names)]
        for plain, part in zip(self.plain, parts, strict=True):
            plain.copy_(part)

    @contextmanager
    def holding(self, state: str, others: Sequence[Tensor]) -> Iterator[None]:
        """Within this context the parameters have the values of `others`, which hold theirs."""
        _swap(self.plain, others)
        try:
            with self.lockstep.holding(state):
                yield
        finally:
            _swap(self.plain, others)

    def _smallest(self, number: int) -> int:
        words = torch.tensor([number], dtype=torch.int32)
        dist.all_reduce(words, dist.ReduceOp.MIN, group=self._words)
        return int(words)


@torch.no_grad()
def _swap(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Exchange values; memory stays where it is, as the model's shards are views of it."""
    for one, other in zip(tensors, others, strict=True):
        before = one.detach().clone()
        one.copy_(other)
        other.copy_(before)


def _group_of_words(mesh: DeviceMesh, timeout: timedelta) -> dist.ProcessGroup | None:
    """The group in which processes agree: on the CPU, so that no word waits for a GPU's work."""
    if mesh.device_type == "cpu":
        return None  # the group of all processes is
    return dist.new_group(backend="gloo", timeout=timeout)


def shards_of(policy: Any) -> Shards | None:
    """What a policy trains, if it is in shards."""
    found = getattr(policy, "shards", None)
    return found if isinstance(found, Shards) else None
