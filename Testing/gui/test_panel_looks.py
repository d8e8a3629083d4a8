"""What the panel looks like: what is always said, names in narrow tables, themes, the card."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_panel import apply, choose

from REACTKDLib.types import RESEARCH_USE

LONG = ("Parenchyma right inferior anterior", "Parenchyma right inferior posterior")


@pytest.fixture
def shown(widget, nodes):
    """The panel with a result."""
    choose(widget.panel, nodes)
    apply(widget.panel)
    return widget


def test_the_result_says_research_use_only_itself(widget, nodes):
    ui = widget.panel.ui
    assert not ui.resultUseLabel._qt.isVisibleTo(widget.parent._qt)
    choose(widget.panel, nodes)
    apply(widget.panel)
    assert ui.resultUseLabel.text == RESEARCH_USE
    assert ui.resultUseLabel._qt.isVisibleTo(widget.parent._qt)
    # It stands right above the answer: both are in a window of any height.
    host = widget.parent._qt
    host.resize(440, host.sizeHint().height())
    host.grab()  # lays out
    use, answer = ui.resultUseLabel._qt, ui.headlineLabel._qt
    assert 0 < answer.y() - use.y() < use.height() + 20


def test_names_of_parts_can_be_told_apart_where_there_is_little_room(widget, nodes, worker):
    import qt

    plain = worker.runner

    def long_names(*given):
        case = plain(*given)
        regions = tuple(
            dataclasses.replace(region, name=name)
            for region, name in zip(case.regions, LONG, strict=True)
        )
        return dataclasses.replace(case, regions=regions)

    worker.runner = long_names
    choose(widget.panel, nodes)
    apply(widget.panel)
    ui = widget.panel.ui
    model = ui.regionTable._qt.model()
    names = {model.index(row, 0).data() for row in range(2)}
    assert names == {"Right inf. ant.", "Right inf. post."}
    tips = {model.index(row, 0).data(qt.Qt.ToolTipRole) for row in range(2)}
    assert tips == set(LONG)
    items = [ui.whatIfTable.item(row, 0) for row in range(2)]
    assert {item.text() for item in items} == names
    assert {item.toolTip() for item in items} == set(LONG)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Parenchyma left superior posterior", "Left sup. post."),
        ("Lesion 1", "Lesion 1"),
        ("Rim of lesion 12", "Rim of lesion 12"),
        ("Liver without lesions", "Liver without lesions"),
    ],
)
def test_short_names(name, short):
    from REACTKDSlicer.region_names import short_name

    assert short_name(name) == short


def test_short_names_of_all_parts_differ():
    from itertools import product

    from REACTKDSlicer.region_names import short_name

    from REACTKDLib.regions import _HALVINGS

    parts = [f"Parenchyma {' '.join(p)}" for p in product(*(names for names, _ in _HALVINGS))]
    assert len({short_name(part) for part in parts}) == 8
    assert max(len(short_name(part)) for part in parts) <= 16


def test_the_card_of_the_chosen_model_opens(shown):
    panel = shown.panel
    browser = panel.model_card.browser
    assert not browser._qt.isVisible()
    panel.ui.modelCardButton.click()
    assert browser._qt.isVisible()
    assert browser.plainText.strip() == "A fake."
    assert browser.windowTitle.startswith("Model card: ")
    shown.cleanup()
    assert not browser._qt.isVisible()


def test_without_a_usable_model_the_card_says_so(widget):
    panel = widget.panel
    panel.parameters.model_package = "/nowhere"
    panel.ui.modelCardButton.click()
    assert panel.model_card.browser.plainText == "Choose a model package."
    panel.model_card.close()


def dark_palette():
    from PySide6.QtGui import QColor, QPalette

    palette = QPalette(QColor(53, 53, 53))
    light = QColor(235, 235, 235)
    for role in (QPalette.WindowText, QPalette.Text, QPalette.ButtonText, QPalette.ToolTipText):
        palette.setColor(role, light)
    palette.setColor(QPalette.Base, QColor(35, 35, 35))
    palette.setColor(QPalette.AlternateBase, QColor(45, 45, 45))
    return palette


def contrast(image) -> float:
    """Of the darkest and the brightest hundredth of a widget's pixels (WCAG's ratio)."""
    image = image.convertToFormat(image.Format.Format_RGB32)
    pixels = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), -1, 4)
    grey = pixels[:, : image.width(), :3].astype(float).mean(axis=2) / 255
    linear = np.where(grey <= 0.04045, grey / 12.92, ((grey + 0.055) / 1.055) ** 2.4)
    low, high = np.percentile(linear, (1, 99))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stay_readable_in_both_themes(shown, theme):
    ui, host = shown.panel.ui, shown.parent._qt
    if theme == "dark":
        host.setPalette(dark_palette())
    host.resize(440, host.sizeHint().height())
    for label in (
        *(ui.researchUseLabel, ui.resultUseLabel, ui.headlineLabel, ui.otherClassesLabel),
        *(ui.setLabel, ui.noticesLabel, ui.sharesLabel, ui.regionTable, ui.whatIfTable),
    ):
        assert contrast(label._qt.grab().toImage()) > 4.5, label.objectName
    ground = host.grab().toImage().pixelColor(2, 2).lightness()
    assert (ground < 100) == (theme == "dark")


def test_no_colour_is_written_into_the_panel():
    from fakes import REPOSITORY

    text = (REPOSITORY / "Resources" / "UI" / "REACTKD.ui").read_text(encoding="utf-8")
    assert not [word for word in ("<color", "palette", "styleSheet") if word in text]
    for path in (REPOSITORY / "REACTKD" / "REACTKDSlicer").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "QColor" not in source and "setStyleSheet" not in source, path.name


def test_the_segmentation_becomes_an_outline_when_the_overlay_is_shown(widget, nodes):
    display = nodes.segmentation.GetDisplayNode()
    assert display.GetVisibility2DFill()
    choose(widget.panel, nodes)
    apply(widget.panel)
    assert not display.GetVisibility2DFill()
    assert display.GetVisibility2DOutline()
    assert display.GetVisibility()
