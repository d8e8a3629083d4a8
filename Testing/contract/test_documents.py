"""Pages for users quote the program: what they quote is really there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cmake_lists import REPOSITORY

TROUBLESHOOTING = REPOSITORY / "docs" / "troubleshooting.md"
PAGES = (
    "docs/clinical_input.md",
    "docs/dicom_output.md",
    "docs/installing.md",
    "docs/radiologists.md",
    "docs/troubleshooting.md",
)
MODULE = REPOSITORY / "REACTKD" / "REACTKDSlicer"

#: Errors that a user may see, and what makes messages of them.
ERRORS = {
    *("ReactKDError", "InputError", "ModelPackageError", "OutputError", "EnvironmentProblem"),
    *("ClinicalValueError", "OptionError", "InstallationDeclined", "PackagesReplaced"),
    "RestartNeeded",
    "_ask_for_restart",
}
#: Notice(code, severity, text).
NOTICE = "Notice"
#: Wrong arguments of a program, which the page leaves out.
FOR_PROGRAMS = ("REACTKDLib/dose/", "REACTKDLib/simulation/")
NOT_FOR_PROGRAMS = ("REACTKDLib/simulation/files.py",)
#: Calls whose message is a variable: file -> how many. What the variable holds is checked by hand.
UNKNOWN = {
    "REACTKD/REACTKDSlicer/dependencies.py": 1,
    "REACTKDLib/dicom_input/choose_series.py": 1,
    "REACTKDLib/dicom_input/dataset.py": 1,
    "REACTKDLib/read.py": 2,
    "REACTKDLib/dicom_input/segmentation.py": 1,
    "REACTKDLib/prognosis/clinical_input.py": 1,
    "REACTKDLib/prognosis/clinical_values.py": 1,
}


def text_of(node: ast.AST) -> str | None:
    """The text of a string, an f-string, ``_("...")`` or ``_("...").format(...)``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (text_of(part) or f"{{{ast.unparse(part.value)}}}" for part in node.values)
        return "".join(parts)
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Name) and function.id == "_" and node.args:
            return text_of(node.args[0])
        if isinstance(function, ast.Attribute) and function.attr == "format":
            return text_of(function.value)
    return None


def trees(folder: Path) -> Iterator[ast.Module]:
    for path in sorted(folder.rglob("*.py")):
        yield ast.parse(path.read_text(encoding="utf-8"))


def all_texts() -> set[str]:
    rooms = (REPOSITORY / "REACTKD", REPOSITORY / "REACTKDLib")
    nodes = (node for room in rooms for tree in trees(room) for node in ast.walk(tree))
    return {text for node in nodes if (text := text_of(node))}


def fixed_part(message: str) -> str:
    """A message with {} for everything that varies, whatever its name is."""
    return re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "{}", message)


def quoted() -> list[str]:
    """The messages of the page: headings and the first cells of its tables."""
    page = TROUBLESHOOTING.read_text(encoding="utf-8")
    return re.findall(r"^(?:### |\| )`(.*?)`(?:$| \|)", page, re.MULTILINE)


def messages_of(path: Path) -> tuple[set[str], int]:
    """Messages of the errors and notices that a file makes; how many are held by variables."""
    found, unknown = set(), 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        at = {NOTICE: 2}.get(name, 0)
        if name not in ERRORS | {NOTICE} or len(node.args) <= at:
            continue
        text = text_of(node.args[at])
        found |= {text} if text else set()
        unknown += not text
    return found, unknown


def sources() -> list[Path]:
    """Files whose messages users may see."""
    found = []
    for room in ("REACTKDLib", "REACTKD"):
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            name = path.relative_to(REPOSITORY).as_posix()
            if name in NOT_FOR_PROGRAMS or not name.startswith(FOR_PROGRAMS):
                found.append(path)
    return found


def test_every_message_on_the_page_is_in_the_source():
    texts = {fixed_part(text) for text in all_texts()}
    headings = [fixed_part(message) for message in quoted()]
    assert len(headings) > 150
    assert [message for message in headings if message not in texts] == []
    assert sorted({m for m in headings if headings.count(m) > 1}) == []


def test_every_message_of_the_source_is_on_the_page():
    known = {fixed_part(message) for message in quoted()}
    unknown = {}
    absent = []
    for path in sources():
        messages, variables = messages_of(path)
        name = path.relative_to(REPOSITORY).as_posix()
        absent += [f"{name}: {m}" for m in sorted(messages) if fixed_part(m) not in known]
        if variables:
            unknown[name] = variables
    assert absent == []
    assert unknown == UNKNOWN


def test_every_row_says_what_to_do():
    page = TROUBLESHOOTING.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `.*` \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 100
    assert [row for row in rows if len(row) < 8] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), f"{page}: {link}"
        if target.suffix != ".md":
            continue
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert not heading or heading in anchors, f"{page}: {link}"


def test_names_on_the_installing_page_are_those_of_the_program():
    page = (REPOSITORY / "docs/installing.md").read_text(encoding="utf-8")
    source = (MODULE / "installer.py").read_text(encoding="utf-8")
    requirements = (MODULE / "requirements.py").read_text(encoding="utf-8")
    for name in ("REACTKD_WHEELS", "REACTKD/WheelFolder"):
        assert f'"{name}"' in source and name in page
    for specifier in re.findall(r'Requirement\("\w+", "(.+?)"', requirements):
        assert f'"{specifier}"' in page, specifier
    for prefix in ("REACTKD-run-", "REACTKD-worker-"):
        written = "".join(p.read_text(encoding="utf-8") for p in MODULE.glob("*.py"))
        assert f'prefix="{prefix}"' in written and f"`{prefix}*`" in page
    for option in ("--isolated", "--no-index", "--find-links"):
        assert f'"{option}"' in source and option in page.replace("\n", " ")


def test_the_radiologists_page_shows_every_picture_of_the_panel():
    page = (REPOSITORY / "docs" / "radiologists.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"\]\(pictures/([^)]+)\)", page))
    assert shown, "no picture"
    readme = set(re.findall(r"\]\(docs/pictures/([^)]+)\)", (REPOSITORY / "README.md").read_text()))
    on_disk = {path.name for path in (REPOSITORY / "docs" / "pictures").iterdir()}
    assert sorted(on_disk - shown - readme) == []  # a picture that nobody sees is not renewed
