"""The report of a study as one HTML page, from the numbers of `findings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from likewise.images import open_image
from likewise.people.ballots import read_ballots
from likewise.people.files import PeopleStudy
from likewise.people.metric_agreement import judged_pairs
from likewise.report.document import (
    Block,
    Bullets,
    Card,
    Cell,
    Figure,
    Figures,
    Gallery,
    Section,
    Shown,
    Table,
    Text,
)
from likewise.report.drawn_samples import data_address
from likewise.report.plots.style import BLUE, INK, plot, to_svg
from likewise.report.render import render
from likewise.report.wording import NONE, count, interval, number, p_value, plain

CARDS = 24
Json = Mapping[str, Any]


def people_page(study: PeopleStudy, found: Json) -> str:
    """The page; everything that others wrote is escaped."""
    sections = [
        Section("summary", "Summary", _summary(found)),
        *[
            Section(f"question-{index}", f"Question: {name}", _question(index, found, name))
            for index, name in enumerate(found["questions"])
        ],
        Section("raters", "Raters", [_raters(found)]),
        Section("pairs", "Pairs", [_gallery(study, found)]),
    ]
    return render(f"Human study {found['study']}", sections)


def _summary(found: Json) -> list[Block]:
    votes = found["votes"]
    out = sum(not rater["counted"] for rater in found["raters"])
    return [
        Text(
            f"{count(len(found['raters']), 'rater')} compared {count(found['pairs'], 'pair')} of "
            f"images by {', '.join(found['systems'])}, without knowing which system drew which.",
            lead=True,
        ),
        Bullets(
            [_finding(found, name, one) for name in found["questions"]
             for one in found["results"][name]["win_rates"]]
        ),
        Text(
            f"{votes['used']} of {votes['wanted']} wanted votes are in. "
            f"{count(out, 'rater')} with less than {100 * found['least_checks']:.0f} % of the "
            f"checks right {'is' if out == 1 else 'are'} left out "
            f"({count(votes['of_raters_left_out'], 'vote')})."
        ),
    ]  # fmt: skip


def _finding(found: Json, question: str, one: Json) -> str:
    """One sentence; a preference is claimed only where the interval over raters and tasks is."""
    if one["rate"] is None:
        return f"{question}: no votes on {one['first']} against {one['second']} yet."
    low, high = one["bootstrap"]
    better = one["first"] if low > 0.5 else one["second"] if high < 0.5 else None
    said = f"people prefer {better}" if better else "no preference shown"
    return (
        f"{question}: {said}; {one['first']} wins {_percent(one['rate'])} of the votes against "
        f"{one['second']} [{_percent(low)}, {_percent(high)}]."
    )


def _question(index: int, found: Json, name: str) -> list[Block]:
    result = found["results"][name]
    blocks: list[Block] = [Text(found["questions"][name]), _win_rates(result["win_rates"])]
    if all(one["mean"] is not None for one in result["strengths"]):
        blocks.append(Figures([_strengths(index, result["strengths"])]))
    blocks.append(
        Text(
            f"Krippendorff’s α of the raters is {number(result['alpha'], '.2f')}: 1 is full "
            "agreement, 0 what chance gives."
        )
    )
    if result["metrics"]:
        blocks += [_metrics(result["metrics"]), *_by_label(result["metrics"])]
    blocks.append(_advice(result["advice"]))
    return blocks


def _win_rates(rates: Sequence[Json]) -> Table:
    rows = []
    for one in rates:
        rows.append([
            Cell(f"{one['first']} against {one['second']}"),
            Cell(f"{one['wins']} : {one['losses']}", f"{one['ties']} ties"),
            Cell(_percent(one["rate"]), order=one["rate"]),
            Cell(_bounds(one["wilson"])),
            Cell(_bounds(one["bootstrap"])),
            Cell(p_value(one["p_tasks"])),
            Cell(p_value(one["p_raters"])),
            Cell(_percent(one["rate_of_everyone"])),
        ])  # fmt: skip
    header = ["systems", "votes", "win rate", "Wilson", "raters and tasks", "sign test, tasks",
              "sign test, raters", "all raters"]  # fmt: skip
    return Table(
        "Win rates",
        header,
        rows,
        "A tie is half a win. 95 % intervals: Wilson’s takes votes to be independent, which votes "
        "of one rater and on one task are not; the other draws whole raters and whole tasks. Sign "
        "tests are exact, over tasks and over raters. All raters: with those who failed checks.",
    )


def _strengths(index: int, strengths: Sequence[Json]) -> Figure:
    with plot(420, 70 + 34 * len(strengths)) as (figure, axes):
        ranked = sorted(strengths, key=lambda one: one["mean"])
        for row, one in enumerate(ranked):
            axes.plot([one["low"], one["high"]], [row, row], color=BLUE, lw=2)
            axes.plot(one["mean"], row, "o", color=BLUE, ms=8)
        axes.set_yticks(range(len(ranked)), [one["system"] for one in ranked])
        axes.set_ylim(-0.6, len(ranked) - 0.4)
        axes.axvline(0, color=INK, alpha=0.4, lw=0.8)
        axes.set_xlabel("Bradley–Terry strength (log odds)")
        svg = to_svg(figure, f"strengths-{index}")
    said = ", ".join(f"{one['system']} {number(one['mean'], '+.2f')}" for one in strengths)
    return Figure(
        svg,
        "Strengths with 95 % intervals over raters and tasks; a difference of d means odds of "
        "exp(d) : 1.",
        f"Strengths: {said}",
    )


def _metrics(metrics: Json) -> Table:
    rows = [
        [Cell(plain(name)), _share(one["all"]), Cell(str(one["all"]["pairs"])),
         Cell(str(one["all"]["undecided"])), _tau(one["all"])]
        for name, one in metrics.items()
    ]  # fmt: skip
    return Table(
        "Do automatic scores agree with people?",
        ["score", "share of pairs", "pairs", "undecided", "Kendall’s τ"],
        rows,
        "Share of the pairs on which people and score prefer the same image, with Wilson’s "
        "interval; 50 % is chance. Undecided: people are divided, or the scores are equal.",
        sortable=True,
    )


def _by_label(metrics: Json) -> list[Table]:
    tables = []
    for label in ("category", "complexity"):
        values = list(dict.fromkeys(value for one in metrics.values() for value in one[label]))
        if len(values) > 1:
            rows = [
                [Cell(plain(name)), *[_share(one[label][value]) for value in values]]
                for name, one in metrics.items()
            ]
            tables.append(Table(f"Agreement by {label}", ["score", *values], rows))
    return tables


def _advice(advice: Sequence[Json]) -> Table:
    rows = [
        [Cell(f"{100 * one['share']:.0f} : {100 - 100 * one['share']:.0f}"),
         Cell(str(one["votes"]), order=one["votes"]),
         Cell(f"{one['pairs']} pairs × {one['raters_per_pair']} raters", order=one["pairs"])]
        for one in advice
    ]  # fmt: skip
    likeness = advice[0]["likeness"]
    return Table(
        "How large should the next study be?",
        ["to see", "independent votes", "study"],
        rows,
        f"With 80 % power at 5 %, if votes on one pair correlate by {likeness:.2f} (α above, or "
        "0.3 where there is none).",
    )


def _raters(found: Json) -> Table:
    rows = [
        [Cell(one["code"]), Cell(str(one["votes"]), order=one["votes"]),
         Cell(f"{one['right']} of {one['checks']}"), Cell("yes" if one["counted"] else "no"),
         Cell(number(one["seconds"], ".1f"), order=one["seconds"]),
         Cell(_percent(one["left"]), order=one["left"]),
         Cell(_percent(one["ties"]), order=one["ties"])]
        for one in found["raters"]
    ]  # fmt: skip
    return Table(
        "Raters",
        ["code", "votes", "checks right", "counted", "median, s", "left", "ties"],
        rows,
        "Left: share of decided votes for the image on the left.",
        sortable=True,
    )


def _gallery(study: PeopleStudy, found: Json) -> Gallery:
    """The pairs on which most raters agreed, by the last question."""
    question = list(found["questions"])[-1]
    counted = {one["code"] for one in found["raters"] if one["counted"]}
    ballots, _ = read_ballots(study)
    votes = [one for one in ballots if one.question == question and one.rater in counted]
    judged = sorted(judged_pairs(votes, study.pairs), key=lambda one: (-abs(one.net), one.number))
    cards = []
    for one in judged[:CARDS]:
        pair = one.pair
        shown = [_image(study, pair.reference, "reference", pair.subject)]
        for image, net in ((pair.first, one.net), (pair.second, -one.net)):
            share = f"{_percent((1 + net) / 2)} of {count(one.votes, 'vote')}"
            shown.append(_image(study, image.image, image.system, pair.prompt, share))
        labels = {"subject": pair.subject, "kind": pair.kind, "complexity": str(pair.complexity)}
        cards.append(Card(pair.prompt, labels, shown))
    return Gallery(f"Pairs on which raters agreed most, question {question}", cards)


def _image(study: PeopleStudy, name: str, title: str, alt: str, note: str = "") -> Shown:
    return Shown(data_address(open_image(study.image(name))), title, alt, note)


def _share(one: Json) -> Cell:
    if one["share"] is None:
        return Cell(NONE)
    return Cell(_percent(one["share"]), _bounds([one["low"], one["high"]]), one["share"])


def _tau(one: Json) -> Cell:
    return Cell(number(one["tau"], "+.2f"), order=one["tau"])


def _bounds(bounds: Sequence[float | None]) -> str:
    scaled = [None if one is None else 100 * one for one in bounds]
    text = interval(scaled, ".0f")
    return text if text == NONE else f"{text} %"


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.0f} %"
