"""Write the manifest of sticker bench: python scripts/build_bench.py (deterministic)."""

from __future__ import annotations

import json

from likewise.data.stickers.world import BENCH_FILE, make_bench


def main() -> None:
    rows = make_bench()
    lines = ",\n".join(json.dumps(row) for row in rows)
    BENCH_FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(rows)} tasks written to {BENCH_FILE.name}")


if __name__ == "__main__":
    main()
