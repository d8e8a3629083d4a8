"""Slicer without its application: real MRML, real ``slicer.util``, stand-ins for the rest.

Real, from the package slicer-core: the MRML scene, its nodes, the module logics, ``slicer.util``.
Real, from PySide6: every Qt class, the ``.ui`` loader, layout and painting (platform offscreen).

Stood in for, written from Slicer's, CTK's and PythonQt's public documentation:

==========================  ========================================================================
``pythonqt``                PythonQt's rules over PySide6, and the module ``qt``
``ui_loader``               ``qt.QUiLoader`` with the designer's connections between MRML widgets
``ctk_widgets``             the module ``ctk``; dialogs are answered by the test
``mrml_widgets``            ``qMRMLWidget``, ``qMRMLNodeComboBox`` on the real scene
``parameter_node_wrapper``  ``slicer.parameterNodeWrapper`` for the types that REACTKD uses
``scripted_module``         ``slicer.ScriptedLoadableModule``
``application``             ``slicer.app``, ``modules``, ``mrmlScene``, ``i18n``, ``packaging``
==========================  ========================================================================

``installed()`` puts them in place and takes them away again. A name that is not modelled raises
AttributeError or :class:`NotModelledError`; nothing is accepted and ignored.

Not modelled
------------
- views, layouts and the main window: ``slicer.app.layoutManager()`` and
  ``slicer.util.mainWindow()`` are None, as with ``--no-main-window``;
- installing packages: ``slicer.packaging`` refuses;
- translation: ``tr`` returns its text;
- Python subclasses of Qt classes, Qt signals with several overloads of one arity, keyword arguments
  of Qt constructors;
- in the parameter node wrapper: containers, packs, unions, paths, other validators than
  ``WithinRange``, other widgets than those in its table;
- adding, renaming and removing nodes through a node combo box;
- threads and processes of Slicer, settings of the user (a temporary file is used), extensions.
"""

from .application import Harness, installed
from .errors import NotModelledError

__all__ = ["Harness", "NotModelledError", "installed"]
