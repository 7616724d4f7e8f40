"""One self-contained HTML file about a study or about runs: `write_report`.

`reading` finds what there is; `study_page` and `run_page` choose sections, which `sections` makes
of blocks (`document`): words, tables (`result_tables`), plots (`plots`), galleries
(`drawn_samples`); `render` writes them down. Numbers come from ``results.json`` and from
`analysis`: none are computed here.
"""

from likewise.report.render import write_report

__all__ = ["write_report"]
