"""One run without the panel: are the inputs complete, and from parameters to nodes."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from slicer.i18n import tr as _

from REACTKDLib.errors import InputError
from REACTKDLib.model_package import ModelPackage, load_package, shipped_packages
from REACTKDLib.roles import RoleRule
from REACTKDLib.types import CaseResult, Segment, Study

from .context import SceneContext
from .inputs import Inputs, inputs_of, keep_inputs, labels_checksum
from .parameter_sets import is_default
from .parameters import MOST_PROBABLE, ReactKDParameters
from .run_nodes import RUN_ATTRIBUTE, remove_run
from .scene_nodes import CaseNodes, SceneStyle, show_case
from .stored_cases import documents, stored_run_of
from .study_nodes import is_empty_segment, roles_of, study_from_nodes

if TYPE_CHECKING:
    from REACTKDLib.pipeline import Progress


@functools.cache
def _shipped() -> tuple[Path, ...]:
    return shipped_packages()


def package_folder(stored: str) -> Path:
    """Folder of the model package that a parameter node names (see ``ReactKDParameters``)."""
    return next((folder for folder in _shipped() if folder.name == stored), Path(stored))


def stored_package_name(folder: Path) -> str:
    """The reverse of :func:`package_folder`: shipped packages by name, so that scenes can move."""
    return folder.name if folder in _shipped() else str(folder)


@functools.lru_cache(maxsize=8)
def package_of(stored: str) -> ModelPackage:
    """The model package that a parameter node names, verified once per session.

    Raises
    ------
    ModelPackageError : the package is missing, incomplete or altered.
    """
    return load_package(package_folder(stored))


def validation(parameters: ReactKDParameters, package: ModelPackage | None) -> tuple[bool, str]:
    """Whether a run may start; if not, what is missing."""
    reason = _obstacle(parameters, package)
    return (reason is None, reason or "")


def _obstacle(parameters: ReactKDParameters, package: ModelPackage | None) -> str | None:
    if package is None:
        return _("Choose a model package.")
    if parameters.ct is None:
        return _("Choose a CT volume.")
    if parameters.segmentation is None:
        required = ", ".join(rule.name for rule in package.role_rules if rule.required)
        return _("Choose a segmentation ({roles}).").format(roles=required)
    volumes = {"ct": parameters.ct, **parameters.pet_nodes()}
    for modality in package.modalities:
        if modality.required and modality.name not in volumes:
            return _("This model needs {title}.").format(title=modality.title)
    for name, node in volumes.items():
        if name not in package.modality_names:
            return _("This model does not use the volume {name}: choose None.").format(
                name=repr(node.GetName())
            )
        image = node.GetImageData()
        if image is None or image.GetNumberOfPoints() == 0:
            return _("The volume {name} is empty.").format(name=repr(node.GetName()))
        if image.GetNumberOfScalarComponents() != 1:
            return _("The volume {name} has {count} values per voxel: choose a scalar one.").format(
                name=repr(node.GetName()), count=image.GetNumberOfScalarComponents()
            )
    if len(set(volumes.values())) < len(volumes):
        return _("The same volume is chosen twice.")
    try:
        segments_used(parameters.segmentation, package, parameters.chosen_roles())
    except InputError as error:
        return _("{problem} Choose its role in the table.").format(problem=error.message)
    for rule in package.role_rules:
        if rule.required and (empty := _empty_segments(parameters, package, rule.name)):
            return _("The segment {names} ({role}) is empty: segment it first.").format(
                names=", ".join(empty), role=rule.name
            )
    if parameters.target_class not in (MOST_PROBABLE, *package.class_names):
        return _("Choose a class to explain.")
    return None


def _empty_segments(
    parameters: ReactKDParameters, package: ModelPackage, role: str
) -> tuple[str, ...]:
    """Names of the segments of a role if all of them are empty; none if one is not."""
    segmentation = parameters.segmentation.GetSegmentation()
    used = segments_used(parameters.segmentation, package, parameters.chosen_roles())
    names = []
    for segment in used:
        if segment.role != role:
            continue
        if not is_empty_segment(segmentation.GetNthSegment(segment.label - 1)):
            return ()
        names.append(repr(segment.name))
    return tuple(names)


class HasRoles(Protocol):
    """What says which segments a model wants: a package, or a part of one."""

    @property
    def role_rules(self) -> tuple[RoleRule, ...]:
        """The roles."""


def segments_used(
    segmentation: Any, package: HasRoles, chosen: Mapping[str, str] = MappingProxyType({})
) -> tuple[Segment, ...]:
    """The segments of a segmentation node that play a role for the model; ``chosen`` as in
    ``study_nodes.roles_of``.

    Raises
    ------
    InputError : a required role without a segment.
    """
    segments = roles_of(segmentation, package.role_rules, chosen)
    return tuple(segment for segment in segments if segment.role is not None)


@dataclass(frozen=True)
class Request:
    """What a run needs of the scene, read once: the nodes may change while it works.

    ``run`` names the run and its nodes, ``ct`` is the node whose image it is, ``inputs`` and
    ``checksum`` tell later whether the inputs are still the same, ``parameters_id`` is the ID of
    the parameter node.
    """

    run: str
    study: Study
    package: ModelPackage
    ct: Any
    target: str | None
    scheme: str
    device: str
    overlay_opacity: float
    inputs: Inputs | None
    checksum: int
    parameters_id: str


@dataclass(frozen=True)
class ShownCase:
    """A result and the nodes that show it."""

    result: CaseResult
    nodes: CaseNodes


def read_request(parameters: ReactKDParameters, scene: Any) -> Request:
    """Read the chosen nodes.

    Raises
    ------
    ReactKDError : as ``study_from_nodes`` and :func:`package_of`.
    """
    package = package_of(parameters.model_package)
    name = run_name(parameters, scene)
    study = study_from_nodes(
        parameters.ct,
        parameters.segmentation,
        parameters.pet_nodes(),
        package.role_rules,
        case_id=name,
        chosen=parameters.chosen_roles(),
    )
    return Request(
        run=name,
        study=study,
        package=package,
        ct=parameters.ct,
        target=parameters.target_class if parameters.target_class != MOST_PROBABLE else None,
        scheme=parameters.region_scheme.value,
        device=parameters.device.value,
        overlay_opacity=parameters.overlay_opacity,
        inputs=inputs_of(parameters, package),
        checksum=labels_checksum(study),
        parameters_id=str(parameters.parameterNode.GetID()),
    )


def show_result(
    request: Request, result: CaseResult, context: SceneContext, surfaces: bool = True
) -> ShownCase:
    """Show the result of a request; running again on the same CT replaces what was shown.

    If anything fails, no new node stays in the scene. ``surfaces`` as for ``show_case``.
    """
    scene = context.scene
    before = stored_run_of(scene, request.ct, scene.GetNodeByID(request.parameters_id))
    style = SceneStyle(attention_opacity=request.overlay_opacity)
    nodes = show_case(context, result, request.ct, run=request.run, style=style, surfaces=surfaces)
    if before not in (None, request.run):  # the CT had another name then
        remove_run(context, before, keep=(request.ct,))
    if request.inputs is not None:
        keep_inputs(nodes.document, request.inputs, request.checksum, request.parameters_id)
    return ShownCase(result, nodes)


def run_and_show(
    parameters: ReactKDParameters, context: SceneContext, progress: Progress
) -> ShownCase:
    """Read the chosen nodes, run the model in this process, show the result: for scripts.

    Raises
    ------
    ReactKDError : with what to do next.
    """
    # torch is imported here, not at start-up
    from REACTKDLib.pipeline import RunOptions, run_case

    request = read_request(parameters, context.scene)
    options = RunOptions(request.target, request.scheme, request.device)
    result = run_case(request.study, request.package, options, progress)
    return show_result(request, result, context)


def run_name(parameters: ReactKDParameters, scene: Any) -> str:
    """Name of the run: the CT's, with its node ID where another volume has the same name, and with
    the name of the parameters unless they are the module's own; numbered where a run of another CT
    or other parameters has that name."""
    ct = parameters.ct
    volumes = (
        scene.GetNthNodeByClass(n, "vtkMRMLVolumeNode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode"))
    )
    namesakes = [node for node in volumes if node.GetName() == ct.GetName()]
    name = str(ct.GetName()) if len(namesakes) == 1 else f"{ct.GetName()} ({ct.GetID()})"
    node = parameters.parameterNode
    if not is_default(node):
        name = f"{name} ({node.GetName()})"
    own = stored_run_of(scene, ct, node)
    taken = {document.GetAttribute(RUN_ATTRIBUTE) for document in documents(scene)} - {own}
    numbered = (f"{name} {n}" for n in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)
