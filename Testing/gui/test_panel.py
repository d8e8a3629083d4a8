"""The panel from the real ``.ui`` on a real scene: inputs, Apply, results, errors, closing."""

from __future__ import annotations


def test_loads(widget):
    print(widget.panel.ui.statusLabel.text)
