"""How a plan's memory is shown: part by part, phase by phase, and what would make it fit."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from likewise.api.dry_run import Memory, Planner
from likewise.config import Recipe
from likewise.footprint.phases import GB
from likewise.terminal import shown

PHASES = {
    "encode": "encoding tasks",
    "rollout": "the rollout",
    "decode": "decoding images",
    "score": "scoring them",
    "update": "the update",
    "step": "the optimiser's step",
    "load": "loading, before it is spread",
}


def print_memory(console: Console, recipe: Recipe, memory: Memory) -> None:
    """Parameters, then bytes by part and by phase."""
    numbers = [f"{name} {count / 1e6:,.0f} M" for name, count in memory.parameters.items()]
    rows = [("parameters", ", ".join(numbers)), ("trained parameters", f"{memory.trained:,}")]
    console.print(rows_table(rows))
    console.print()
    console.print(_parts_table(recipe, memory))
    console.print(_phases_table(recipe, memory))
    for device, size in memory.elsewhere.items():
        console.print(f"Reward models on {device} take {_gb(size)} GB there, not counted above.")
    if memory.uncounted:
        console.print(f"Not counted, as its size is unknown: {shown(', '.join(memory.uncounted))}.")


def print_fit(
    console: Console, planner: Planner, recipe: Recipe, memory: Memory, gigabytes: float
) -> None:
    """Whether it fits, and what to change where it does not."""
    limit, peak = int(gigabytes * GB), memory.needs.peak
    if peak <= limit:
        console.print(f"[bold]Fits in {gigabytes:g} GB[/], and {_gb(limit - peak)} GB are left.\n")
        return
    with console.status("looking for what would fit…"):
        found = planner.remedies(recipe, limit)
    if not found:
        console.print(
            f"[bold]Does not fit in {gigabytes:g} GB[/], whatever is traded for memory: "
            "try a smaller policy.height and policy.width, or a smaller model.\n"
        )
        return
    table = Table("try", "GB", title=f"Does not fit in {gigabytes:g} GB", box=None, pad_edge=False)
    table.title_style, table.title_justify = "bold", "left"
    table.columns[0].overflow, table.columns[1].justify = "fold", "right"
    for change, needed in found:
        table.add_row(shown("\n".join(change)), _gb(needed))
    console.print(table)
    console.print()


def _parts_table(recipe: Recipe, memory: Memory) -> Table:
    needs, policy = memory.needs, recipe.policy
    stored = policy.quantization or policy.dtype
    where = "on the CPU between uses" if needs.offload else policy.dtype
    many = _images(memory.batch)
    together = "" if needs.spread is None else ", and blocks put together"
    table = _table(f"memory of each of {_machines(recipe)}", "GB")

    def row(name: str, size: int, note: str = "") -> None:
        table.add_row(name, _gb(size), note)

    spread, own = needs.spread, needs.own

    def shared(name: str, size: int, note: str = "") -> None:
        part = "" if spread is None else f"1/{spread.size} of {_gb(size)} GB"
        row(name, own(size), ", ".join(filter(None, [part, note])))

    kind = "float32" if recipe.adapter.kind == "full" else stored
    if needs.denoiser or spread is None:
        shared("weights: denoiser", needs.denoiser, kind)
    if needs.reference:
        shared("frozen copy of them", needs.reference, "for the KL")
    for name, size in needs.encoders.items():
        row(f"weights: {name}", size, where)
    for name, size in needs.rewards.items():
        row(name if name.startswith("evaluator ") else f"reward model: {name}", size)
    shared("trained: " + recipe.adapter.kind, needs.trained, "float32, as the next three")
    shared("its gradients", needs.trained)
    shared("optimiser", 2 * needs.trained, "two moments")
    if needs.averaged:
        shared("moving average", needs.trained)
    row("encoded tasks", needs.conditions)
    row("stored trajectories", needs.trajectories)
    on, forward = policy.gradient_checkpointing, many + together
    row("activations: update", memory.plain, f"{forward}, no checkpointing" + " (not used)" * on)
    row("", memory.checkpointed, f"{forward}, checkpointing" + " (not used)" * (not on))
    row("activations: rollout", needs.rollout, forward)
    decoded = min(recipe.rollout.decode_batch or memory.batch, memory.batch)
    row("activations: decode", needs.decode, _images(decoded))
    row("activations: rewards", needs.score, many)
    if needs.extra:
        row("CUDA itself", needs.extra, "an allowance")
    return table


def _phases_table(recipe: Recipe, memory: Memory) -> Table:
    table = _table("peak while", "GB")
    for phase, size in memory.needs.phases.items():
        highest = size == memory.needs.peak
        table.add_row(PHASES[phase], _gb(size), "← the most" * highest)
    return table


def _table(title: str, unit: str) -> Table:
    table = Table(title, unit, "", box=None, pad_edge=False)
    table.columns[0].min_width, table.columns[1].justify = 30, "right"
    return table


def _machines(recipe: Recipe) -> str:
    count = recipe.run.processes
    kind = "process" if recipe.run.device == "cpu" else "GPU"
    return f"{count} {kind}{('es' if kind == 'process' else 's') * (count != 1)}"


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def _gb(size: int) -> str:
    return f"{size / GB:.2f}"


def rows_table(rows: list[tuple[str, str]]) -> Table:
    """Two columns: names in bold, and what there is to say."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", min_width=22)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row))
    return table
