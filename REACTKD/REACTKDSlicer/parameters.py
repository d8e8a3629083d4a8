"""What the user chooses: typed access to the module's parameter node, saved with the scene."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Annotated, Any

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

#: ``target_class`` for the class that the model finds most probable.
MOST_PROBABLE = ""


class RegionScheme(enum.Enum):
    """How the image is divided; values are the schemes of ``REACTKDLib.regions``."""

    ANATOMICAL = "anatomical"
    PAPER = "paper"

    def label(self) -> str:
        """Text in the combo box."""
        return {
            RegionScheme.ANATOMICAL: _("Lesions, rims and liver parts"),
            RegionScheme.PAPER: _("Liver and lesions (as in the paper)"),
        }[self]


class Device(enum.Enum):
    """Where the network runs; values are the devices of ``REACTKDLib.infer``."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        """Text in the combo box."""
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("CPU"),
            Device.CUDA: _("CUDA GPU"),
        }[self]


@parameterNodeWrapper
class ReactKDParameters:
    """The parameters of one run.

    ``model_package`` is the folder name of a shipped package or the path of another one; empty
    before the panel has chosen the default. ``segment_roles`` holds the roles that the user chose,
    as JSON (see :meth:`chosen_roles`). ``overlay_opacity`` and ``overlay_threshold`` are
    those of the attention, the threshold as a part of its maximum; edges less alike than
    ``edge_similarity`` are hidden. Of the prognosis: ``prognosis_package`` as ``model_package``,
    but empty for the first that is shipped; ``clinical_input`` holds what is written of the
    patient, as JSON (see ``REACTKDLib.prognosis.clinical_entries.Entries``);
    ``prognosis_images`` : whether CT and segmentation are used.
    """

    ct: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    pet_fdg: vtkMRMLScalarVolumeNode
    pet_acetate: vtkMRMLScalarVolumeNode
    segment_roles: str
    model_package: str
    target_class: str
    region_scheme: RegionScheme
    device: Device
    overlay_opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    overlay_threshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.2
    graph_visible: bool = True
    edge_similarity: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    prognosis_package: str
    clinical_input: str
    prognosis_images: bool = True

    if TYPE_CHECKING:  # what the decorator adds, as far as it is used
        parameterNode: Any

        def __init__(self, parameter_node: Any) -> None: ...

        def connectGui(self, gui: Any) -> int: ...  # noqa: D102

        def disconnectGui(self, tag: int) -> None: ...  # noqa: D102

    def pet_nodes(self) -> dict[str, vtkMRMLScalarVolumeNode]:
        """The PET volumes that are chosen, by modality."""
        chosen = {"pet_fdg": self.pet_fdg, "pet_acetate": self.pet_acetate}
        return {modality: node for modality, node in chosen.items() if node is not None}

    def chosen_roles(self) -> dict[str, str]:
        """Role by segment ID where the user chose it himself; "" for a segment of no role."""
        if not self.segment_roles:
            return {}
        roles: dict[str, str] = json.loads(self.segment_roles)
        return roles

    def choose_role(self, segment_id: str, role: str) -> None:
        """Give a segment a role, "" for none."""
        self.segment_roles = json.dumps({**self.chosen_roles(), segment_id: role})
