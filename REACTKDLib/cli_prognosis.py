"""``reactkd prognosis``: one patient's prognosis from CT, radiomics and clinical data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cli_dicom import add_deidentify_options, chosen_pseudonyms
from .cli_log import Log
from .cli_model import role_segments
from .errors import InputError, OptionError
from .prognosis.package import PrognosisPackage, load_prognosis_package
from .roles import RoleRule
from .types import RESEARCH_USE

if TYPE_CHECKING:
    from .prognosis.clinical_input import Entry
    from .prognosis.metadata import PrognosisMetadata
    from .prognosis.types import ClinicalRecord, ClinicalSchema, PrognosisResult
    from .read import StudyFiles

#: Lines of the largest contributions that the command prints.
_SHOWN = 6


def add_prognosis_command(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``prognosis``."""
    parser = commands.add_parser(
        "prognosis", parents=[common], help="prognosis from CT, radiomics and clinical data"
    )
    parser.set_defaults(run=_prognosis)
    parser.add_argument("--ct", type=Path, help="NIfTI, NRRD, MetaImage or DICOM folder")
    parser.add_argument(
        "--segmentation",
        type=Path,
        nargs="+",
        default=[],
        help="labelmap, .seg.nrrd, DICOM SEG or RTSTRUCT, or one file per structure",
    )
    parser.add_argument(
        "--clinical", type=Path, metavar="FILE", help=".csv, .json or .txt (free text)"
    )
    parser.add_argument(
        "--clinical-value",
        action="append",
        default=[],
        metavar="NAME=VALUE[UNIT]",
        help="a clinical value, as albumin=41 or 'albumin=4.1 g/dl'; repeatable",
    )
    parser.add_argument("--patient", metavar="ID", help="which patient of a table of several")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument("--model", help="model package of prognosis: a folder, or a shipped one")
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="ROLE=SEGMENT",
        help="which segment (name or label) has a role, e.g. liver=5; repeatable",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--scheme", default="anatomical", help="regions: anatomical or paper")
    parser.add_argument("--series", metavar="UID", help="CT series of a DICOM folder")
    parser.add_argument(
        "--phase", help="contrast phase of the CT series: native, arterial, portal or late"
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder that keeps radiomics")
    parser.add_argument(
        "--text-model", metavar="DIR", help="the language model's folder, if it is not installed"
    )
    parser.add_argument("--case-id", help="name of the case in the result")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier result")
    add_deidentify_options(parser)


def rules_of(metadata: PrognosisMetadata) -> tuple[RoleRule, ...]:
    """The roles that a model of prognosis knows; none where it reads no image."""
    return metadata.image.role_rules if metadata.image is not None else ()


def _prognosis(options: argparse.Namespace, log: Log) -> None:
    package = load_prognosis_package(options.model)
    study = _study_files(options, package)
    record = _record(options, package.metadata.clinical_schema)
    # Imported late, so that a wrong option needs neither SimpleITK nor torch.
    from .prognosis.pipeline import PrognosisFiles, PrognosisOptions, run_prognosis_files

    result = run_prognosis_files(
        PrognosisFiles(study, record, options.clinical, options.case_id),
        package,
        options.output,
        PrognosisOptions(
            device=options.device,
            scheme=options.scheme,
            cache=options.cache,
            text_model=options.text_model,
        ),
        overwrite=options.overwrite,
        progress=log.progress,
        pseudonyms=chosen_pseudonyms(options),
    )
    _say(result, options.output, log)


def _study_files(options: argparse.Namespace, package: PrognosisPackage) -> StudyFiles | None:
    """CT and segmentation, which belong together; None where neither is given."""
    roles = role_segments(options.role, rules_of(package.metadata))
    if options.ct is None and not options.segmentation:
        given = [name for name in ("series", "phase") if getattr(options, name) is not None]
        given += ["role"] if roles else []
        if given:
            raise OptionError(f"--{given[0]} is given without --ct.", "Give the CT too.")
        return None
    for name, there in (("--ct", options.ct is not None), ("--segmentation", options.segmentation)):
        if not there:
            raise OptionError(
                f"{name} is missing: CT and segmentation belong together.",
                "Give both, or neither.",
            )
    from .read import StudyFiles

    return StudyFiles(
        ct=options.ct,
        segmentation=tuple(options.segmentation),
        roles=roles,
        series_uid=options.series,
        case_id=options.case_id,
        phase=options.phase,
    )


def _record(options: argparse.Namespace, schema: ClinicalSchema | None) -> ClinicalRecord | None:
    """The record of ``--clinical`` and ``--clinical-value``, checked together; None for neither.

    Raises
    ------
    ClinicalValueError : values that cannot be used, all of them, by variable.
    InputError : a file that cannot be read; a model that knows no clinical variable.
    OptionError : ``--clinical-value`` is not of its form; ``--patient`` without a table.
    """
    from .prognosis.clinical_files import clinical_entries
    from .prognosis.clinical_input import Entry, checked_record

    values = [_entry(text) for text in options.clinical_value]
    if options.clinical is None and options.patient is not None:
        raise OptionError("--patient is given without --clinical.", "Give the table of patients.")
    if options.clinical is None and not values:
        return None
    if schema is None:
        raise InputError(
            "The model reads no clinical data.", "Leave out --clinical and --clinical-value."
        )
    entries: list[Entry] = []
    text = ""
    if options.clinical is not None:
        entries, text = clinical_entries(options.clinical, case=options.patient)
    return checked_record(schema, [*entries, *values], text=text)


def _entry(text: str) -> tuple[str, str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise OptionError(
            f"--clinical-value {text!r} is not NAME=VALUE.", "Write it as 'albumin=41 g/l'."
        )
    return name.strip(), value.strip(), ""


def _say(result: PrognosisResult, output: Path, log: Log) -> None:
    from .prognosis.report_words import amount, headline

    lines = [f"{result.case_id}: {result.task_title}. {RESEARCH_USE}", f"  {headline(result)}"]
    lines.append("What each modality adds (log odds):")
    lines += [f"  {one.logit:+.3f}  {one.title}" for one in result.modality_contributions]
    if result.contributions:
        lines.append("Largest variables and families:")
        for one in result.ranked[:_SHOWN]:
            lines.append(f"  {amount(one)}  {one.title}")
    lines += [f"{notice.severity}: {notice.text}" for notice in result.notices]
    lines.append(f"Result: {output}")
    log.say("\n".join(lines), **_fields(result, output))


def _fields(result: PrognosisResult, output: Path) -> Mapping[str, Any]:
    """What a program reads of the answer; no clinical value is in it."""
    return {
        "output": str(output),
        "outcome": result.outcome,
        "probability": result.probability,
        "contributions": {one.name: one.logit for one in result.modality_contributions},
        "missing": list(result.missing),
    }
