"""What a ``.ui`` file names: classes, properties, enum values, connections."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import class_names
from harness.surface import qt_class

#: Properties that Qt Designer writes and the loader turns into calls of other methods.
_DESIGNER = {
    "QLabel": {"buddy"},
    "layout": {
        *("leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin", "spacing"),
        *("horizontalSpacing", "verticalSpacing"),
    },
}


def objects(text: str) -> dict[str, str]:
    """Name -> class of each widget, layout and action."""
    found = (e for e in ElementTree.fromstring(text).iter() if e.tag in ("widget", "layout"))
    return {e.get("name", ""): e.get("class", "") for e in found}


def problems(text: str) -> list[str]:
    """What the file names and Slicer lacks."""
    root = ElementTree.fromstring(text)
    found = [p for e in root.iter() if e.tag in ("widget", "layout") for p in _of_object(e)]
    found += [p for tag in ("enum", "set") for e in root.iter(tag) for p in _of_enum(e.text or "")]
    named = objects(text)
    return found + [p for e in root.iter("connection") for p in _of_connection(e, named)]


def _of_object(element: ElementTree.Element) -> Iterator[str]:
    class_name, name = element.get("class", ""), element.get("name")
    problem = class_names.problem_of_class(class_name)
    if problem:
        yield f"{name}: {problem}"
        return
    designer = _DESIGNER.get("layout" if element.tag == "layout" else class_name, set())
    for each in element.findall("property"):
        key = each.get("name", "")
        dynamic = each.get("stdset") == "0"
        if not dynamic and key not in designer and not class_names.has_property(class_name, key):
            yield f"{name}: {class_name} has no property {key}"


def _of_enum(text: str) -> Iterator[str]:
    """Values as ``QFrame::StyledPanel``; Qt 5 reads no ``QFrame::Shape::StyledPanel``."""
    for value in text.split("|"):
        class_name, _, key = value.strip().partition("::")
        known = class_names.surface_of(class_name) or qt_class(class_name)
        if "::" in key or known is None:
            yield f"the value {value.strip()} is not written as Class::Value"
        elif qt_class(class_name) is not None and not hasattr(qt_class(class_name), key):
            yield f"{class_name} has no value {key}"


def _of_connection(element: ElementTree.Element, named: dict[str, str]) -> Iterator[str]:
    checks = (
        ("sender", "signal", class_names.has_signal),
        ("receiver", "slot", class_names.has_slot),
    )
    for role, what, has in checks:
        name, signature = element.findtext(role, ""), element.findtext(what, "")
        if name not in named:
            yield f"a connection names {name!r}, which is not in the file"
        elif not has(named[name], signature):
            yield f"{name}: {named[name]} has no {what} {signature}"
