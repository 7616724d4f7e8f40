"""Which processes share one copy of the weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

REPLICATE, SHARD = "replicate", "shard"  # dimensions of a mesh


def shards_of_a_copy(
    sharding: str, processes: int, shard_size: int | None, environment: Mapping[str, str]
) -> int:
    """Over how many processes one copy of the weights is spread.

    Args:
        sharding: `run.sharding`: ``none``, ``fsdp2`` (all processes) or ``hybrid``.
        shard_size: Of ``hybrid``; None: the processes of one machine.
        environment: Of this process; launchers set LOCAL_WORLD_SIZE in it.

    Raises:
        ValueError: copies of that size do not fit the number of processes.
    """
    if sharding == "none" or processes == 1:
        return 1
    if sharding == "fsdp2":
        return processes
    size = shard_size or int(environment.get("LOCAL_WORLD_SIZE", processes))
    if size >= processes:
        raise ValueError(
            f"run.sharding hybrid makes several copies of the weights, and {processes} processes "
            f"with {size} in a copy make one: use fsdp2, or set run.shard_size lower"
        )
    if processes % size:
        raise ValueError(
            f"run.sharding hybrid: {processes} processes cannot be divided into copies of {size}; "
            "set run.shard_size to a divisor"
        )
    return size


def make_mesh(device: str, processes: int, size: int) -> DeviceMesh:
    """Of all processes: (shard,), or (replicate, shard) where copies take `size` of them each."""
    if size == processes:
        return init_device_mesh(device, (size,), mesh_dim_names=(SHARD,))
    return init_device_mesh(device, (processes // size, size), mesh_dim_names=(REPLICATE, SHARD))
