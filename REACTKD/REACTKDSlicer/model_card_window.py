"""The card of the chosen model in a window of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from REACTKDLib.model_package import ModelPackage
from REACTKDLib.prognosis.package import PrognosisPackage

_WIDTH, _HEIGHT = 620, 700


class ModelCardWindow:
    """Shows a package's card when ``button`` is pressed; the panel can be used meanwhile.

    Parameters
    ----------
    button : QToolButton.
    package : the chosen package, None where none can be used.
    """

    def __init__(
        self, button: Any, package: Callable[[], ModelPackage | PrognosisPackage | None]
    ) -> None:
        self._package = package
        self.browser = qt.QTextBrowser()
        self.browser.setOpenExternalLinks(True)
        button.connect("clicked()", self.show)

    def show(self) -> None:
        """Show the card, or that there is none."""
        package = self._package()
        if package is None:
            self.browser.windowTitle = _("Model card")
            self.browser.setPlainText(_("Choose a model package."))
        else:
            self.browser.windowTitle = _("Model card: {name}").format(name=package.name)
            self.browser.setMarkdown(package.card)
        self.browser.resize(_WIDTH, _HEIGHT)
        self.browser.show()
        self.browser.activateWindow()

    def close(self) -> None:
        """Close the window."""
        self.browser.close()
