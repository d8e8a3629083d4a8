"""The choice among the sets of parameters of a scene."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from .options_view import fill_combo_box
from .parameter_sets import new_parameter_node, parameter_nodes
from .parameters import ReactKDParameters


class ParameterSetsView:
    """Connects combo box and button with the parameter nodes of the scene.

    Parameters
    ----------
    ui : the panel's widgets.
    make_default : gives the module's own parameters, made if they are absent.
    chosen : called when the user chooses other parameters than those that are shown.
    """

    def __init__(
        self,
        ui: Any,
        make_default: Callable[[], ReactKDParameters],
        chosen: Callable[[], None],
    ) -> None:
        self.ui = ui
        self._make_default, self._chosen = make_default, chosen
        self._chosen_id = ""
        self._shown: ReactKDParameters | None = None
        self._updating = False
        ui.parametersComboBox.connect("currentIndexChanged(int)", self._on_chosen)
        ui.newParametersButton.connect("clicked()", self._on_new)

    def current(self) -> ReactKDParameters:
        """Those that the user chose last, while the scene has them; else the module's own."""
        default = self._make_default()
        node = slicer.mrmlScene.GetNodeByID(self._chosen_id) if self._chosen_id else None
        return default if node is None else ReactKDParameters(node)

    def show(self, parameters: ReactKDParameters | None) -> None:
        """Show which sets there are, and that these are chosen; None for none."""
        self._shown = parameters
        items = [(node.GetName(), node.GetID()) for node in parameter_nodes()]
        current = parameters.parameterNode.GetID() if parameters else ""
        self._updating = True
        try:
            fill_combo_box(self.ui.parametersComboBox, items, current)
        finally:
            self._updating = False

    def _on_chosen(self, index: int) -> None:
        if not self._updating and self._shown is not None and index >= 0:
            self._chosen_id = self.ui.parametersComboBox.itemData(index)
            self._chosen()

    def _on_new(self) -> None:
        if self._shown is not None:
            node = new_parameter_node(self._shown.parameterNode)
            self.show(self._shown)
            combo = self.ui.parametersComboBox
            combo.setCurrentIndex(combo.findData(node.GetID()))
