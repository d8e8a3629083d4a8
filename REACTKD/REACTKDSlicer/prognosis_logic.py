"""A prognosis without the panel: are the inputs complete, and from parameters to a request."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from REACTKDLib.errors import InputError
from REACTKDLib.prognosis.clinical_entries import Check, Entries, check
from REACTKDLib.prognosis.notices import given_modalities
from REACTKDLib.prognosis.package import PrognosisPackage
from REACTKDLib.prognosis.types import CLINICAL, CT, RADIOMICS, ClinicalRecord
from REACTKDLib.roles import RoleRule
from REACTKDLib.types import Study

from .logic import segments_used
from .parameter_sets import is_default
from .parameters import ReactKDParameters
from .patient_header import patient_of
from .prognosis_documents import PrognosisInputs, prognosis_documents, stored_prognosis_of
from .prognosis_model import chosen_package, prognosis_package_of
from .prognosis_text import modality_title
from .requirements import Requirement, prognosis_requirements
from .run_nodes import RUN_ATTRIBUTE
from .stored_cases import documents
from .study_nodes import is_empty_segment, roles_of, study_from_nodes

#: Modalities that are read from CT and segmentation.
IMAGES = (CT, RADIOMICS)


@dataclass(frozen=True)
class PrognosisRequest:
    """What a prognosis needs of the scene, read once: the nodes may change while it works.

    ``record`` and ``study`` are None where that part of the input is missing; ``ct`` is then None
    too. ``run``, ``inputs`` and ``parameters_id`` as in ``logic.Request``.
    """

    run: str
    package: PrognosisPackage
    record: ClinicalRecord | None
    study: Study | None
    ct: Any | None
    device: str
    scheme: str
    overlay_opacity: float
    inputs: PrognosisInputs
    parameters_id: str


def clinical_check(parameters: ReactKDParameters, package: PrognosisPackage) -> Check | None:
    """What becomes of what is written of the patient; None where the model reads none of it.

    Raises
    ------
    InputError : the parameters hold no such values.
    """
    schema = package.metadata.clinical_schema
    if schema is None or CLINICAL not in package.metadata.network.modalities:
        return None
    entries = Entries.from_json(parameters.clinical_input)
    return check(schema, entries, patient_of(parameters.ct))


def reads_images(package: PrognosisPackage) -> bool:
    """Whether the model reads CT and segmentation, be it for radiomics alone."""
    modalities = package.metadata.network.modalities
    return package.metadata.image is not None and bool(set(IMAGES) & set(modalities))


def reads_text(package: PrognosisPackage) -> bool:
    """Whether the model reads free text."""
    return package.metadata.text is not None


def uses_images(parameters: ReactKDParameters, package: PrognosisPackage) -> bool:
    """Whether CT and segmentation are a part of the input now."""
    return reads_images(package) and parameters.prognosis_images and _ct_of(parameters) is not None


def _ct_of(parameters: ReactKDParameters) -> Any | None:
    return parameters.ct if parameters.prognosis_images else None


def prognosis_obstacle(parameters: ReactKDParameters, package: PrognosisPackage | None) -> str:
    """Why a prognosis cannot be computed yet; "" where it can."""
    if package is None:
        return _("Choose a model of prognosis.")
    try:
        checked = clinical_check(parameters, package)
    except InputError as error:
        return str(error)
    if checked is not None and checked.problems:
        return _("Correct first: {names}.").format(names=", ".join(_titles(checked, package)))
    if uses_images(parameters, package) and (reason := _image_obstacle(parameters, package)):
        return reason
    record = None if checked is None else checked.checked.record
    given = given_modalities(package.metadata, uses_images(parameters, package), record)
    if not given:
        return _nothing_given(package)
    missing = [name for name in package.metadata.required if name not in given]
    if missing:
        return _("This model needs: {names}.").format(
            names=", ".join(modality_title(name) for name in missing)
        )
    return ""


def _titles(checked: Check, package: PrognosisPackage) -> list[str]:
    schema = package.metadata.clinical_schema
    titles = {v.name: v.title for v in schema.variables} if schema else {}
    return [titles.get(name, _("free text")) for name in checked.problems]


def _nothing_given(package: PrognosisPackage) -> str:
    wishes = []
    if CLINICAL in package.metadata.network.modalities:
        wishes.append(_("give a clinical value"))
    if reads_images(package):
        wishes.append(_("choose a CT and a segmentation above"))
    return _("Nothing is given yet: {wishes}.").format(wishes=_(" or ").join(wishes))


def _image_obstacle(parameters: ReactKDParameters, package: PrognosisPackage) -> str:
    image = package.metadata.image
    assert image is not None, "asked only of a model that reads images"
    if parameters.segmentation is None:
        required = ", ".join(rule.name for rule in image.role_rules if rule.required)
        return _("Choose a segmentation ({roles}), or leave the CT out.").format(roles=required)
    voxels = parameters.ct.GetImageData()
    name = repr(parameters.ct.GetName())
    if voxels is None or voxels.GetNumberOfPoints() == 0:
        return _("The volume {name} is empty.").format(name=name)
    if voxels.GetNumberOfScalarComponents() != 1:
        return _("The volume {name} has {count} values per voxel: choose a scalar one.").format(
            name=name, count=voxels.GetNumberOfScalarComponents()
        )
    try:
        used = segments_used(parameters.segmentation, image, parameters.chosen_roles())
    except InputError as error:
        return _("{problem} Choose its role in the table.").format(problem=error.message)
    segmentation = parameters.segmentation.GetSegmentation()
    for rule in (rule for rule in image.role_rules if rule.required):
        own = [s for s in used if s.role == rule.name]
        nodes = [segmentation.GetNthSegment(s.label - 1) for s in own]
        if all(is_empty_segment(node) for node in nodes):
            return _("The segment {names} ({role}) is empty: segment it first.").format(
                names=", ".join(repr(s.name) for s in own), role=rule.name
            )
    return ""


def prognosis_inputs(
    parameters: ReactKDParameters, package: PrognosisPackage | None
) -> PrognosisInputs | None:
    """What a prognosis would be made from now; None while something is missing. No voxels."""
    if package is None or prognosis_obstacle(parameters, package):
        return None
    nodes: dict[str, Any] = {}
    segments: tuple[tuple[str, str], ...] = ()
    if uses_images(parameters, package):
        rules: tuple[RoleRule, ...] = package.metadata.image.role_rules  # type: ignore[union-attr]
        nodes = {"ct": parameters.ct, "segmentation": parameters.segmentation}
        chosen = parameters.chosen_roles()
        found = roles_of(parameters.segmentation, rules, chosen)
        own = parameters.segmentation.GetSegmentation()
        segments = tuple((own.GetNthSegmentID(s.label - 1), s.role or "") for s in found)
    checked = clinical_check(parameters, package)
    record = _record_of(package, checked)
    return PrognosisInputs(
        nodes=tuple(sorted((role, str(node.GetID())) for role, node in nodes.items())),
        model_sha256=package.package_sha256,
        segments=segments,
        scheme=parameters.region_scheme.value if nodes else "",
        clinical=_digest(record) if record is not None else "",
    )


def _record_of(package: PrognosisPackage, checked: Check | None) -> ClinicalRecord | None:
    """What the model is given of the patient; a text that it does not read is left out."""
    if checked is None or not given_modalities(package.metadata, False, checked.checked.record):
        return None
    record = checked.checked.record
    text = record.text if reads_text(package) else ""
    return ClinicalRecord(record.values, text, record.notices)


def _digest(record: ClinicalRecord) -> str:
    """Tells another record from the one of a result."""
    values = json.dumps([sorted(record.values.items()), record.text])
    return hashlib.sha256(values.encode()).hexdigest()


def requirements_of(parameters: ReactKDParameters) -> tuple[Requirement, ...]:
    """The Python packages that a prognosis of what is chosen needs.

    Raises
    ------
    ReactKDError : as ``prognosis_package_of`` and :func:`clinical_check`.
    """
    package = prognosis_package_of(chosen_package(parameters))
    record = _record_of(package, clinical_check(parameters, package))
    return prognosis_requirements(
        package.metadata,
        images=uses_images(parameters, package),
        text=record is not None and bool(record.text.strip()),
    )


def read_prognosis_request(parameters: ReactKDParameters, scene: Any) -> PrognosisRequest:
    """Read the chosen nodes and values.

    Raises
    ------
    InputError : something is missing or wrong.
    ReactKDError : as ``study_from_nodes`` and ``prognosis_package_of``.
    """
    package = prognosis_package_of(chosen_package(parameters))
    if reason := prognosis_obstacle(parameters, package):
        raise InputError(
            _("The prognosis cannot be computed: {reason}").format(reason=reason),
            _("Give what is missing."),
        )
    name = prognosis_run_name(parameters, package, scene)
    study = None
    if uses_images(parameters, package):
        assert package.metadata.image is not None
        study = study_from_nodes(
            parameters.ct,
            parameters.segmentation,
            {},
            package.metadata.image.role_rules,
            case_id=name,
            chosen=parameters.chosen_roles(),
        )
    inputs = prognosis_inputs(parameters, package)
    assert inputs is not None
    return PrognosisRequest(
        run=name,
        package=package,
        record=_record_of(package, clinical_check(parameters, package)),
        study=study,
        ct=parameters.ct if study is not None else None,
        device=parameters.device.value,
        scheme=parameters.region_scheme.value,
        overlay_opacity=parameters.overlay_opacity,
        inputs=inputs,
        parameters_id=str(parameters.parameterNode.GetID()),
    )


def prognosis_run_name(parameters: ReactKDParameters, package: PrognosisPackage, scene: Any) -> str:
    """Name of the run: the CT's with "prognosis", or that alone without a CT; with the name of the
    parameters unless they are the module's own; numbered where another run has that name."""
    ct = parameters.ct if uses_images(parameters, package) else None
    name = _("{ct} prognosis").format(ct=ct.GetName()) if ct is not None else _("Prognosis")
    node = parameters.parameterNode
    if not is_default(node):
        name = f"{name} ({node.GetName()})"
    own = stored_prognosis_of(scene, ct, node)
    every = [*prognosis_documents(scene), *documents(scene)]
    taken = {document.GetAttribute(RUN_ATTRIBUTE) for document in every} - {own}
    numbered = (f"{name} {n}" for n in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)
