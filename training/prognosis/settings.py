"""The configuration of a prognosis study, JSON: cohort, folds, scaling, methods."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from REACTKDLib.errors import OptionError
from REACTKDLib.typed_json import FieldError, build

from .scaling import ScalingSettings

__all__ = [
    "NETWORK_KINDS",
    "ListedPatients",
    "MethodSettings",
    "PackageTexts",
    "PrognosisConfiguration",
    "PrognosisSettings",
    "SimulatedPatients",
    "file_stem",
    "overlaid",
    "read_prognosis_study",
]

#: Kinds of methods that are networks on one trunk; a kind is the name of the fusion.
NETWORK_KINDS = ("tmi", "concatenation", "hfb")


@dataclass(frozen=True)
class ListedPatients:
    """Patients of a manifest (see :mod:`training.prognosis.listed`).

    Parameters
    ----------
    manifest : its path, relative to the configuration.
    event : what label 1 means.
    labels : further texts for the event and for its absence, ``{"event": [...], "none": [...]}``;
        1 and 0, yes and no are known.
    clinical : name of the schema of the columns ``clinical_...``; None where there are none.
    spec : model specification (its key ``spec``) that says how CT is put on the model's grid;
        None reads no image.
    radiomics : name or settings of the radiomics (:mod:`training.prognosis.features`), or None.
    roles : of the segments that the radiomics are measured in.
    """

    manifest: str
    event: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clinical: str | None = None
    spec: str | None = None
    radiomics: str | None = None
    roles: tuple[str, ...] = ("liver",)


@dataclass(frozen=True)
class SimulatedPatients:
    """``count`` patients of the simulated internal cohort of ``seed``, with their simulated
    clinical variables and outcome; ``spec``, ``radiomics`` and ``roles`` as for listed ones."""

    count: int
    seed: int
    spec: str | None = None
    radiomics: str | None = None
    roles: tuple[str, ...] = ("liver",)


@dataclass(frozen=True)
class MethodSettings:
    """A method of :mod:`training.prognosis.methods`: its kind, its seeds, its own settings."""

    kind: str
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PackageTexts:
    """What a model package of a study's network says of itself.

    ``name`` for programs, ``title`` and ``task`` for people; ``outcome_title`` is the event in
    words, ``horizon`` its time ("2 years", "" for none); ``classes`` : titles of no event and
    event.
    """

    name: str
    title: str
    task: str
    outcome_title: str
    classes: tuple[str, str]
    horizon: str = ""


@dataclass(frozen=True)
class PrognosisSettings:
    """Everything that a study is.

    One of ``hcc_table`` (path of the public table), ``listed`` and ``simulated`` is given.
    ``folds`` outer folds, ``repeats`` times, drawn with ``seed``; ``inner_parts`` of the inner
    splits. ``references`` : every other method is compared with each of these, paired.
    ``network`` : settings of every method whose kind is a network, unless its own say otherwise. A
    network's ``choices``, a list of settings to lay over the others, are chosen from inside.
    ``package`` : texts of a model package, where one is to be written.
    """

    name: str
    title: str
    methods: Mapping[str, MethodSettings]
    references: tuple[str, ...]
    seed: int = 42
    folds: int = 5
    repeats: int = 1
    inner_parts: int = 5
    scaling: ScalingSettings = field(default_factory=ScalingSettings)
    network: Mapping[str, Any] = field(default_factory=dict)
    package: PackageTexts | None = None
    hcc_table: str | None = None
    listed: ListedPatients | None = None
    simulated: SimulatedPatients | None = None


@dataclass(frozen=True)
class PrognosisConfiguration:
    """Settings as read, the folder that their paths start from, and the JSON document."""

    folder: Path
    settings: PrognosisSettings
    document: Mapping[str, Any]

    def method_settings(self, name: str) -> dict[str, Any]:
        """Settings of a method, with those that all networks of the study have."""
        own: dict[str, Any] = self.document["methods"][name].get("settings", {})
        if self.settings.methods[name].kind not in NETWORK_KINDS:
            return own
        return overlaid(self.document.get("network", {}), own)

    def method_digest(self, name: str, fingerprint: str) -> str:
        """Digest of everything that determines the results of a method but code and seeds."""
        s = self.settings
        parts = {
            "folds": [s.seed, s.folds, s.inner_parts],
            "scaling": dataclasses.asdict(s.scaling),
            "method": [s.methods[name].kind, self.method_settings(name)],
            "data": fingerprint,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def overlaid(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` laid over ``common``, objects within objects too."""
    found = dict(common)
    for key, value in own.items():
        below = found.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        found[key] = overlaid(below, value) if nested else value  # type: ignore[arg-type]
    return found


def read_prognosis_study(path: Path | str) -> PrognosisConfiguration:
    """Read a configuration.

    Raises
    ------
    OptionError : no JSON object; a key missing, unknown or of the wrong type; not one cohort; no
        method, a reference that is none, or seeds that are empty or there twice.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        settings: PrognosisSettings = build(PrognosisSettings, document, "the study")
    except (OSError, ValueError) as error:  # a FieldError is a ValueError
        what = "" if isinstance(error, FieldError) else "it cannot be read: "
        raise OptionError(f"{path.name}: {what}{error}", "Correct the configuration.") from error
    _check(settings, path.name)
    return PrognosisConfiguration(path.parent, settings, document)


def file_stem(method: str) -> str:
    """A method's name as the beginning of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")


def _check(settings: PrognosisSettings, where: str) -> None:
    def refuse(problem: str) -> None:
        raise OptionError(f"{where}: {problem}", "Correct the configuration.")

    given = [settings.hcc_table, settings.listed, settings.simulated]
    if sum(cohort is not None for cohort in given) != 1:
        refuse("give one of hcc_table, listed and simulated.")
    if settings.folds < 2 or settings.inner_parts < 2 or settings.repeats < 1:
        refuse("there must be two folds and two inner parts or more, repeated once or more.")
    if not settings.methods:
        refuse("there is no method.")
    if unknown := sorted(set(settings.references) - set(settings.methods)):
        refuse(f"the references {unknown} are no methods.")
    stems = [file_stem(name) for name in settings.methods]
    if len(set(stems)) < len(stems) or "" in stems:
        refuse(f"the methods' files would have the names {stems}.")
    for name, method in settings.methods.items():
        if not method.seeds or len(set(method.seeds)) < len(method.seeds):
            refuse(f"method {name}: seeds {list(method.seeds)}.")
