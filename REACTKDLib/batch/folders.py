"""Cases by where their files lie: three conventions for a folder without a manifest.

``pairs``
    ``CASE_ct.nii.gz`` beside ``CASE_seg.nii.gz`` (or ``CASE_segmentation``, ``CASE.seg.nrrd``) and
    optionally ``CASE_pet_fdg``, ``CASE_pet_acetate``, in the folder itself.
``bids``
    ``sub-*/[ses-*/]``: one file ``*_ct``, one ``*_dseg`` (there, or in the same place below
    ``derivatives/*/``), and optionally ``*_trc-FDG*_pet``, ``*_trc-acetate*_pet``.
``folders``
    ``CASE/`` or ``PATIENT/STUDY/``: ``ct`` (a DICOM folder, or an image file), ``segmentation`` (an
    image file, or a folder with one file per structure), optionally ``pet_fdg``, ``pet_acetate``.

Image files end in any suffix that REACTKD reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..read_image import SUFFIXES as IMAGE_SUFFIXES
from .manifest import TRACERS, Row

_SEGMENTATIONS = ("segmentation", "segmentations", "seg")
#: What the end of a file's name means, in the convention ``pairs``.
_ENDINGS = {
    "_ct": "ct",
    **{f"_{name}": "segmentation" for name in _SEGMENTATIONS},
    **{f"_{tracer}": tracer for tracer in TRACERS},
}
_BIDS_TRACERS = {
    "pet_fdg": re.compile(r"_trc-\w*FDG[^_]*(_.*)?_pet$", re.IGNORECASE),
    "pet_acetate": re.compile(r"_trc-\w*(acetate|ACE)[^_]*(_.*)?_pet$", re.IGNORECASE),
}


@dataclass(frozen=True)
class _Found:
    """The files of one case by kind: ct, segmentation, a tracer."""

    case: str
    files: Mapping[str, list[Path]]


def folder_rows(root: Path) -> Iterator[Row]:
    """The cases of a folder, by name; paths are relative to it.

    A case whose files are incomplete or ambiguous is a row with problems.

    Raises
    ------
    InputError : the folder cannot be listed; it follows none of the conventions, or several.
    """
    try:
        matching = [name for name, find in _CONVENTIONS.items() if next(find(root), None)]
        if len(matching) != 1:
            which = f"both {' and '.join(matching)}" if matching else "none"
            raise InputError(
                f"The folder {root} follows {which} of the conventions {', '.join(_CONVENTIONS)}.",
                "See docs/batch.md for the names, or write a manifest.",
            )
        for number, found in enumerate(_CONVENTIONS[matching[0]](root), start=1):
            yield _row(number, found, root)
    except OSError as error:
        raise InputError(
            f"The folder {root} cannot be read: {error.strerror or error}.", "Check the path."
        ) from error


def _row(number: int, found: _Found, root: Path) -> Row:
    problems, chosen = [], {}
    for kind in ("ct", "segmentation", *TRACERS):
        files = found.files.get(kind, [])
        if len(files) > 1:
            names = ", ".join(path.name for path in files[:3])
            problems.append(f"{len(files)} files could be its {kind}: {names}")
        elif files:
            chosen[kind] = files[0]
        elif kind not in TRACERS:
            problems.append(f"it has no {kind}")

    def written(path: Path) -> str:
        return path.relative_to(root).as_posix()

    return Row(
        number=number,
        case=found.case,
        ct=written(chosen["ct"]) if "ct" in chosen else "",
        segmentation=tuple(map(written, _structures(chosen.get("segmentation")))),
        pet={tracer: written(chosen[tracer]) for tracer in TRACERS if tracer in chosen},
        problems=tuple(problems),
    )


def _structures(segmentation: Path | None) -> list[Path]:
    """The images of a segmentation; a folder without images itself: its reader judges that."""
    if segmentation is None:
        return []
    if not segmentation.is_dir():
        return [segmentation]
    images = [path for path in _visible(segmentation) if path.is_file() and _stem(path)]
    return images or [segmentation]


def _stem(path: Path) -> str | None:
    """The name without its image suffix; None for what is no image file."""
    for suffix in (".seg.nrrd", *IMAGE_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return None


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _visible(folder) if path.is_dir()] if folder.is_dir() else []


def _by_kind(kinds: Iterable[tuple[str | None, Path]]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for kind, path in kinds:
        if kind is not None:
            found.setdefault(kind, []).append(path)
    return found


def _pairs(root: Path) -> Iterator[_Found]:
    cases: dict[str, dict[str, list[Path]]] = {}
    for path in _visible(root):
        stem = _stem(path) if path.is_file() else None
        if stem is None:
            continue
        case, kind = stem, "segmentation" if path.name.lower().endswith(".seg.nrrd") else None
        for ending, meaning in _ENDINGS.items():
            if stem.lower().endswith(ending):
                case, kind = stem[: -len(ending)], meaning
        if kind is not None:
            cases.setdefault(case, {}).setdefault(kind, []).append(path)
    # Segmentations alone make no convention: any folder of images may hold some.
    if any("ct" in files for files in cases.values()):
        for case in sorted(cases):
            yield _Found(case, cases[case])


def _bids(root: Path) -> Iterator[_Found]:
    derivatives = _folders(root / "derivatives")
    for subject in _folders(root):
        if subject.name.startswith("sub-"):
            sessions = [path for path in _folders(subject) if path.name.startswith("ses-")]
            for place in sessions or [subject]:
                part = place.relative_to(root)
                files = [p for d in (root, *derivatives) for p in sorted((d / part).rglob("*"))]
                yield _Found("_".join(part.parts), _by_kind((_bids_kind(p), p) for p in files))


def _bids_kind(path: Path) -> str | None:
    stem = _stem(path)
    if stem is None or path.name.startswith("."):
        return None
    if stem.endswith("_ct"):
        return "ct"
    if stem.endswith("_dseg"):
        return "segmentation"
    return next((t for t, pattern in _BIDS_TRACERS.items() if pattern.search(stem)), None)


def _case_folders(root: Path) -> Iterator[_Found]:
    for top in _folders(root):
        if top.name.startswith("sub-") or top.name == "derivatives":
            continue
        if files := _parts(top):
            yield _Found(top.name, files)
            continue
        for study in _folders(top):
            if files := _parts(study):
                yield _Found(f"{top.name}_{study.name}", files)


def _parts(folder: Path) -> dict[str, list[Path]]:
    """What of a case lies in a folder, by kind."""
    return _by_kind((_part(path), path) for path in _visible(folder))


def _part(path: Path) -> str | None:
    name = (path.name if path.is_dir() else _stem(path) or "").lower()
    if name in _SEGMENTATIONS:
        return "segmentation"
    return name if name in ("ct", *TRACERS) else None


#: Each gives its cases by name.
_CONVENTIONS: dict[str, Callable[[Path], Iterator[_Found]]] = {
    "pairs": _pairs,
    "bids": _bids,
    "folders": _case_folders,
}
