"""What documentation and code say of each other: citations, relative links, and anchors resolve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "tests" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
CITING = ("src", "tests", "docs", "scripts", "benchmarks", "examples")  # and the files above
TEXTS = {".py", ".md", ".yaml", ".toml", ".html", ".j2"}

FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?: +\"[^\"]*\")?\)")
HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
CITED_PAGE = re.compile(r"(?<![\w/.-])(docs/[\w/-]+\.md)")
CITED_SECTION = re.compile(r"(?<![\w/])(?:docs/)?([\w-]+\.md)[\s\"'#`]*§\s*(\d+)")
BARE_SECTION = re.compile(r"\b(?!md\b)[A-Z]{3,} §")  # of a file that is not part of the project
# A file or folder in backticks, perhaps with stars in its name.
NAMED = re.compile(r"`((?:[\w*]+/)*[\w*]+(?:\.py|/))`")


def anchors(text: str) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = 1
        while slug in found:
            slug, count = f"{slug.removesuffix(f'-{count - 1}')}-{count}", count + 1
        found.add(slug)
    return found


def sections(text: str) -> set[str]:
    """Numbers of a document's numbered headings: "2" of "## 2. Credit"."""
    return set(re.findall(r"^## (\d+)\. ", FENCE.sub("", text), re.MULTILINE))


def broken_links(document: Path) -> Iterator[str]:
    """Relative links of a document that lead to no file, or to no heading of it."""
    text = CODE.sub("", FENCE.sub("", document.read_text(encoding="utf-8")))
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document if not path else (document.parent / path).resolve()
        where = f"{document.name}: {link}"
        if not target.exists():
            yield f"{where} leads to no file"
        elif anchor and (
            target.suffix != ".md" or anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            yield f"{where} leads to no heading"


def broken_citations(name: str, text: str) -> Iterator[str]:
    """Pages and sections of docs/ that a text cites, and that do not exist."""
    for page in CITED_PAGE.findall(text):
        if not (ROOT / page).is_file():
            yield f"{name} cites {page}, which does not exist"
    for page, number in CITED_SECTION.findall(text):
        file = ROOT / "docs" / page
        if not file.is_file() or number not in sections(file.read_text(encoding="utf-8")):
            yield f"{name} cites {page} §{number}, which does not exist"
    for cited in BARE_SECTION.findall(text):
        yield f"{name} cites '{cited}' of no page: say docs/<page>.md §"


def cited_texts() -> Iterator[Path]:
    yield from DOCUMENTS
    for folder in CITING:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in TEXTS and file != Path(__file__) and file not in DOCUMENTS:
                yield file


def test_links_lead_somewhere() -> None:
    problems = [problem for document in DOCUMENTS for problem in broken_links(document)]
    assert not problems, "\n" + "\n".join(problems)


def test_cited_pages_and_sections_exist() -> None:
    problems = []
    for file in cited_texts():
        text = file.read_text(encoding="utf-8")
        problems += broken_citations(str(file.relative_to(ROOT)), text)
    assert not problems, "\n" + "\n".join(problems)


def test_every_page_is_in_the_index_and_on_the_site() -> None:
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    site = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    assert pages - {"README.md"} - set(LINK.findall(index)) == set()
    assert pages - set(re.findall(r'"([\w-]+\.md)"', site)) == set()


def test_files_of_tests_that_are_named_exist() -> None:
    """In `tests/README.md` as seen from there, in the documentation with ``tests/`` in front."""
    named = {
        (document, name.removeprefix("tests/"))
        for document in DOCUMENTS
        for name in NAMED.findall(document.read_text(encoding="utf-8"))
        if document.parent.name == "tests" or name.startswith("tests/")
        if document.name != "extending.md"  # which says what to write
    }
    assert len(named) > 40
    assert [one for one in named if not list((ROOT / "tests").glob(one[1]))] == []


def test_a_broken_link_or_citation_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `title`: one, two\n[a](#a-title-one-two) [b](#gone) [c](gone.md) [d](page.md#no)\n"
        "[e](https://example.org/x) `[f](gone.md)`\n```\n[g](gone.md)\n# no heading\n```\n"
    )
    assert [problem.split(": ")[1] for problem in broken_links(page)] == [
        "#gone leads to no heading",
        "gone.md leads to no file",
        "page.md#no leads to no heading",
    ]
    text = "docs/method.md §2, docs/method.md §99, docs/gone.md, METHOD §3, and method.md\n§98"
    assert len(list(broken_citations("it", text))) == 4
    assert not list(broken_citations("it", "docs/method.md §2 and docs/data.md"))
