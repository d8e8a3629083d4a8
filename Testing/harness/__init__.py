"""Slicer without its application: real MRML, real ``slicer.util``, stand-ins for the rest.

Real, from the package slicer-core: the MRML scene, its nodes, the module logics, ``slicer.util``.
Real, from PySide6: every Qt class, the ``.ui`` loader, layout and painting (platform offscreen).

Stood in for: ``slicer.app``, ``modules``, ``mrmlScene``, ``i18n``, ``packaging``, the base classes
of scripted modules, the parameter node wrapper, and the modules ``qt`` and ``ctk``. What their
classes show to Python stands in ``slicer_names.json``. ``installed()`` puts all of it in place and
takes it away again. ``README.md`` beside this file says how to use it and what is not modelled.
"""

from .application import Harness, installed
from .errors import NotModelledError

__all__ = ["Harness", "NotModelledError", "installed"]
