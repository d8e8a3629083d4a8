"""The group "Model": package, class to explain, and where Python packages are installed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import ModelPackageError
from REACTKDLib.model_package import ModelPackage, shipped_packages

from .installer import set_wheel_folder, wheel_folder
from .logic import package_of, stored_package_name
from .parameters import MOST_PROBABLE, ReactKDParameters


class OptionsView:
    """Shows what the parameters say of the model, and writes into them what the user chooses.

    Attributes
    ----------
    package : the model package of the parameters; None without one that can be used.
    problem : why the chosen package cannot be used; empty if it can.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.package: ModelPackage | None = None
        self.problem = ""
        self._parameters: ReactKDParameters | None = None
        self._shipped = shipped_packages()
        self._updating = False
        ui.modelComboBox.connect("currentIndexChanged(int)", self._on_model_chosen)
        ui.modelFolderButton.connect("clicked()", self._on_choose_model_folder)
        ui.targetComboBox.connect("currentIndexChanged(int)", self._on_target_chosen)
        ui.wheelFolderButton.connect("clicked()", self._on_choose_wheel_folder)
        ui.wheelClearButton.connect("clicked()", self._on_clear_wheel_folder)
        self._show_wheel_folder()

    def choose_default(self, parameters: ReactKDParameters) -> None:
        """Give parameters without a model package the first that is shipped."""
        if not parameters.model_package and self._shipped:
            parameters.model_package = stored_package_name(self._shipped[0])

    def show(self, parameters: ReactKDParameters | None) -> None:
        """Show what these parameters say; None for none."""
        self._parameters = parameters
        self.package, self.problem = None, ""
        if parameters is not None and parameters.model_package:
            try:
                self.package = package_of(parameters.model_package)
            except ModelPackageError as error:
                self.problem = str(error)
        self._updating = True
        try:
            self._show_models()
            self._show_targets()
        finally:
            self._updating = False

    def _show_models(self) -> None:
        stored = self._parameters.model_package if self._parameters else ""
        names = [stored_package_name(folder) for folder in self._shipped]
        if stored and stored not in names:
            names.append(stored)
        items = [(Path(name).name, name) for name in names]
        fill_combo_box(self.ui.modelComboBox, items, stored)

    def _show_targets(self) -> None:
        items = [(_("Most probable class"), MOST_PROBABLE)]
        if self.package is not None:
            items += [(info.title, info.name) for info in self.package.classes]
        target = self._parameters.target_class if self._parameters else MOST_PROBABLE
        fill_combo_box(self.ui.targetComboBox, items, target)

    def _show_wheel_folder(self) -> None:
        folder = wheel_folder()
        self.ui.wheelFolderValue.text = _("the network") if folder is None else folder.name
        self.ui.wheelFolderValue.toolTip = "" if folder is None else str(folder)
        self.ui.wheelClearButton.enabled = folder is not None

    def _on_model_chosen(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.model_package = self.ui.modelComboBox.itemData(index)

    def _on_choose_model_folder(self) -> None:
        folder = _ask_for_folder(_("Choose the folder of a model package"))
        if folder and self._parameters is not None:
            self._parameters.model_package = stored_package_name(Path(folder))

    def _on_target_chosen(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.target_class = self.ui.targetComboBox.itemData(index)

    def _on_choose_wheel_folder(self) -> None:
        folder = _ask_for_folder(_("Choose a folder of Python wheels"))
        if folder:
            set_wheel_folder(Path(folder))
            self._show_wheel_folder()

    def _on_clear_wheel_folder(self) -> None:
        set_wheel_folder(None)
        self._show_wheel_folder()


def fill_combo_box(combo: Any, items: list[tuple[str, str]], current: str) -> None:
    """Give a combo box these texts and data, and choose the item with the data ``current``.

    A box that has them already is not refilled: that would close it under the user's hand.
    """
    if [(combo.itemText(n), combo.itemData(n)) for n in range(combo.count)] != items:
        combo.clear()
        for text, data in items:
            combo.addItem(text, data)
    combo.setCurrentIndex(combo.findData(current))


def _ask_for_folder(title: str) -> str:
    return str(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title))
