"""`likewise study-people`: let people compare what systems drew."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from likewise.cli.messages import readable_errors
from likewise.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(no_args_is_help=True)

SystemsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]FOLDER...",
        help="Two systems or more: evaluated runs, or folders of images with manifest.jsonl.",
    ),
]
ConsentOption = Annotated[
    Path | None,
    typer.Option(
        help="Text file with what raters read before they begin.",
        show_default="a short text that says what is stored",
    ),
]
RatersOption = Annotated[int, typer.Option(min=1, help="Number of raters who see each pair.")]
StudyArgument = Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a human study.")]


@app.callback()
def study_people() -> None:
    """Let people compare images in pairs; `likewise app STUDY` asks them.

    More: docs/human-study.md.
    """


@app.command()
def create(
    systems: SystemsArgument,
    out: Annotated[Path, typer.Option(help="Folder to make for the study.")] = Path("runs/people"),
    pairs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of pairs of images in all.", show_default="all that systems share"
        ),
    ] = None,
    questions: Annotated[
        str,
        typer.Option(
            help="Questions on every pair, separated by commas: identity, prompt, overall, or one "
            "of your own as NAME=TEXT."
        ),
    ] = "identity,prompt,overall",
    raters_per_pair: RatersOption = 3,
    pairs_per_rater: Annotated[
        int | None,
        typer.Option(min=1, help="Number of pairs that a rater sees.", show_default="all"),
    ] = None,
    checks: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of pairs with a known answer that come on top; 0: none."
        ),
    ] = 0.1,
    least_checks: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of checks that a rater has to get right to count."),
    ] = 0.75,
    seed: Annotated[int, typer.Option(help="Seed of the choice of pairs and of their order.")] = 0,
    benchmark: Annotated[
        str, typer.Option(help="Benchmark that the systems drew: sticker-bench, or a folder.")
    ] = "sticker-bench",
    consent: ConsentOption = None,
) -> None:
    """Make a blinded study of pairs of images, in a new folder."""
    with readable_errors():
        from likewise.api.people import create_people_study
        from likewise.people.creating import CONSENT, Wishes, read_questions

        wishes = Wishes(
            questions=read_questions(re.split(r",\s*(?=[\w-]+(?:=|,|$))", questions)),
            raters_per_pair=raters_per_pair,
            pairs=pairs,
            pairs_per_rater=pairs_per_rater,
            seed=seed,
            checks=checks,
            least_checks=least_checks,
            consent=CONSENT if consent is None else consent.read_text(encoding="utf-8").strip(),
        )
        study = create_people_study(out, systems, wishes, benchmark)
        real = sum(pair.check is None for pair in study.pairs)
        say(f"{out}: {real} pairs, each for {raters_per_pair} raters")
        _advise(raters_per_pair)
        say(f"next: likewise app {out}")


@app.command()
def plan(
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of votes to be seen, as 0.6 for 60:40.")
    ] = 0.6,
    power: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of such studies that would see it.")
    ] = 0.8,
    raters_per_pair: RatersOption = 3,
    likeness: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Factor of correlation of two votes on one pair: α of a pilot, 0 to 1.",
        ),
    ] = 0.3,
) -> None:
    """Say how many pairs a study needs."""
    with readable_errors():
        from likewise.analysis.sample_size import advise

        one = advise(share, raters_per_pair, power, likeness)
        say(
            f"to see {100 * share:.0f}:{100 - 100 * share:.0f} with {100 * power:.0f} % power: "
            f"{one.pairs} pairs × {raters_per_pair} raters ({one.votes} independent votes, if two "
            f"votes on one pair correlate by {likeness:g})"
        )


@app.command()
def report(
    study: StudyArgument,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="STUDY/report")
    ] = None,
) -> None:
    """Write results.json, votes.csv and report.html."""
    with readable_errors():
        from likewise.people.files import open_study
        from likewise.people.reporting import PAGE, write_people_report

        out = out or study / "report"
        found = write_people_report(open_study(study), out)
        for question, result in found["results"].items():
            for one in result["win_rates"]:
                say(f"{question}: {_said(one)}")
        votes = found["votes"]
        say(f"{votes['used']} of {votes['wanted']} votes; {out / PAGE}: open it in a browser")


@app.command()
def export(
    study: StudyArgument,
    question: Annotated[
        str | None,
        typer.Option(help="Question whose votes are taken.", show_default="the last one"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="STUDY/preferences")
    ] = None,
) -> None:
    """Write preference pairs, and a linear preference that can be a `function` reward."""
    with readable_errors():
        from likewise.people.files import open_study
        from likewise.people.preference_export import PAIRS, export_preferences

        opened, out = open_study(study), out or study / "preferences"
        asked = question or opened.settings.questions[-1].name
        found = export_preferences(opened, asked, out)
        say(f"{out / PAIRS}: {found.pairs} pairs; {found.divided} left out, whose votes are even")
        if found.preference is None:
            say(f"no preference fitted: {found.reason}")
            return
        weights = ", ".join(f"{name} {one:+.3g}" for name, one in found.preference.weights.items())
        share = found.preference.agreement
        seen = "unknown" if share is None else f"{100 * share:.0f} %"
        say(f"fitted: {weights}; right on pairs of unseen subjects: {seen}")


def _advise(raters_per_pair: int) -> None:
    from likewise.analysis.sample_size import advise

    for share in (0.6, 0.7):
        one = advise(share, raters_per_pair)
        say(
            f"to see {100 * share:.0f}:{100 - 100 * share:.0f} with 80 % power: {one.pairs} pairs "
            f"× {raters_per_pair} raters (two votes on one pair taken to correlate by 0.3)"
        )


def _said(one: Mapping[str, object]) -> str:
    """A win rate in words."""
    rate, bounds = one["rate"], one["bootstrap"]
    if not isinstance(rate, float) or not isinstance(bounds, list):
        return f"no votes on {one['first']} against {one['second']} yet"
    return (
        f"{one['first']} wins {100 * rate:.0f} % against {one['second']} "
        f"[{100 * bounds[0]:.0f}, {100 * bounds[1]:.0f}]"
    )
