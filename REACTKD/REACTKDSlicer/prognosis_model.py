"""The model of prognosis that is chosen: shipped packages, or one from a folder."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from REACTKDLib.errors import ModelPackageError
from REACTKDLib.prognosis.package import (
    PrognosisPackage,
    load_prognosis_package,
    shipped_prognosis_packages,
)

from .model_card_window import ModelCardWindow
from .options_view import fill_combo_box
from .parameters import ReactKDParameters


@functools.lru_cache(maxsize=8)
def prognosis_package_of(stored: str) -> PrognosisPackage:
    """The package that a parameter names, verified once per session.

    Raises
    ------
    ModelPackageError : the package is missing, incomplete or altered, or of another kind.
    """
    shipped = {folder.name: folder for folder in shipped_prognosis_packages()}
    return load_prognosis_package(shipped.get(stored, Path(stored)))


def chosen_package(parameters: ReactKDParameters) -> str:
    """Name or folder of the package of some parameters; the default one where they name none."""
    return parameters.prognosis_package or default_package()


def default_package() -> str:
    """Name of the first package that is shipped, "" where there is none."""
    return next((folder.name for folder in shipped_prognosis_packages()), "")


class PrognosisModel:
    """Shows which model of prognosis the parameters name, and writes what the user chooses.

    Attributes
    ----------
    package : that model; None without one that can be used.
    problem : why the chosen one cannot be used; empty if it can, or if none is chosen.
    """

    def __init__(self, ui: Any) -> None:
        self.ui = ui
        self.package: PrognosisPackage | None = None
        self.problem = ""
        self._parameters: ReactKDParameters | None = None
        self._shipped = [folder.name for folder in shipped_prognosis_packages()]
        self._updating = False
        self.card = ModelCardWindow(ui.prognosisCardButton, lambda: self.package)
        ui.prognosisModelComboBox.connect("currentIndexChanged(int)", self._on_chosen)
        ui.prognosisFolderButton.connect("clicked()", self._on_choose_folder)

    def show(self, parameters: ReactKDParameters | None) -> None:
        """Show what these parameters say; None for none."""
        self._parameters = parameters
        self.package, self.problem = None, ""
        stored = chosen_package(parameters) if parameters is not None else ""
        if stored:
            try:
                self.package = prognosis_package_of(stored)
            except ModelPackageError as error:
                self.problem = str(error)
        names = [*self._shipped, *([stored] if stored and stored not in self._shipped else [])]
        self._updating = True
        try:
            items = [(Path(name).name, name) for name in names]
            fill_combo_box(self.ui.prognosisModelComboBox, items, stored)
        finally:
            self._updating = False
        absent = not names
        self.ui.prognosisAbsentLabel.visible = absent
        self.ui.prognosisAbsentLabel.text = (
            _(
                "No model of prognosis comes with this REACT-KD, so the fields for clinical values,"
                " the button that computes and the result are hidden. Choose the folder of a"
                " model package with … below."
            )
            if absent
            else ""
        )

    def _on_chosen(self, index: int) -> None:
        if not self._updating and self._parameters is not None and index >= 0:
            self._parameters.prognosis_package = self.ui.prognosisModelComboBox.itemData(index)

    def _on_choose_folder(self) -> None:
        folder = str(
            qt.QFileDialog.getExistingDirectory(
                slicer.util.mainWindow(), _("Choose the folder of a model of prognosis")
            )
        )
        if folder and self._parameters is not None:
            shipped = {str(path): path.name for path in shipped_prognosis_packages()}
            self._parameters.prognosis_package = shipped.get(str(Path(folder)), folder)
