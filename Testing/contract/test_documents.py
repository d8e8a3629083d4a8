"""Pages for users quote the program: what they quote is really there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cmake_lists import REPOSITORY

TROUBLESHOOTING = REPOSITORY / "docs" / "troubleshooting.md"
PAGES = ("docs/installing.md", "docs/troubleshooting.md", "docs/dicom_output.md")
MODULE = REPOSITORY / "REACTKD" / "REACTKDSlicer"

#: Every error that these files raise stands on the page.
COMPLETE = ("dependencies.py", "installer.py", "worker_process.py")
ERRORS = {
    *("EnvironmentProblem", "InstallationDeclined", "PackagesReplaced", "RestartNeeded"),
    "_ask_for_restart",
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


def quoted() -> list[str]:
    page = TROUBLESHOOTING.read_text(encoding="utf-8")
    return re.findall(r"^### `(.*)`$", page, re.MULTILINE)


def raised(path: Path) -> set[str]:
    """First arguments of the errors that a file makes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
            text = text_of(node.args[0])
            found |= {text} if text else set()
    return found


def test_every_message_on_the_page_is_in_the_source():
    texts = all_texts()
    headings = quoted()
    assert len(headings) == len(set(headings)) > 10
    assert [message for message in headings if message not in texts] == []


@pytest.mark.parametrize("name", COMPLETE)
def test_every_message_of_the_source_is_on_the_page(name):
    messages = raised(MODULE / name)
    assert messages, f"{name}: no messages found"
    assert sorted(messages - set(quoted())) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    path = REPOSITORY / page
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        name, _, heading = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), f"{page}: {link}"
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert not heading or heading in anchors, f"{page}: {link}"


def test_names_on_the_installing_page_are_those_of_the_program():
    page = (REPOSITORY / PAGES[0]).read_text(encoding="utf-8")
    source = (MODULE / "installer.py").read_text(encoding="utf-8")
    requirements = (MODULE / "dependencies.py").read_text(encoding="utf-8")
    for name in ("REACTKD_WHEELS", "REACTKD/WheelFolder"):
        assert f'"{name}"' in source and name in page
    for specifier in re.findall(r'Requirement\("\w+", "(.+?)"', requirements):
        assert f'"{specifier}"' in page, specifier
    for prefix in ("REACTKD-run-", "REACTKD-worker-"):
        written = "".join(p.read_text(encoding="utf-8") for p in MODULE.glob("*.py"))
        assert f'prefix="{prefix}"' in written and f"`{prefix}*`" in page
    for option in ("--isolated", "--no-index", "--find-links"):
        assert f'"{option}"' in source and option in page.replace("\n", " ")
