"""Main window, layouts and views on the real layout node; without them by default."""

from __future__ import annotations

import pytest
from fakes import MODULE
from harness import NotModelledError, installed


@pytest.fixture
def windowed():
    with installed(main_window=True) as harness:
        yield harness


def test_views_of_the_layout_are_real_nodes(windowed):
    import slicer

    manager = slicer.app.layoutManager()
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    assert sorted(manager.sliceViewNames()) == ["Green", "Red", "Yellow"]
    red = manager.sliceWidget("Red")
    assert red.sliceView().mrmlSliceNode() is red.mrmlSliceNode()
    assert red.mrmlSliceNode() is windowed.scene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert red.mrmlSliceCompositeNode().GetLayoutName() == "Red"
    assert red.sliceOrientation == "Axial"
    assert manager.mrmlSliceLogics().GetNumberOfItems() == 3
    assert manager.sliceWidget("Blue") is None
    assert manager.threeDViewCount == 1
    assert manager.threeDWidget(0).mrmlViewNode().GetClassName() == "vtkMRMLViewNode"
    assert manager.threeDWidget(1) is None
    with pytest.raises(NotModelledError, match=r"qSlicerLayoutManager\.viewport"):
        manager.viewport()
    with pytest.raises(NotModelledError, match=r"qMRMLSliceWidget\.sliceController"):
        red.sliceController()


def test_a_layout_of_ones_own(windowed):
    import slicer

    manager, seen = slicer.app.layoutManager(), []
    manager.connect("layoutChanged(int)", seen.append)
    own = 4711
    description = (
        '<layout type="vertical"><item><view class="vtkMRMLSliceNode" singletontag="Red">'
        '<property name="orientation" action="default">Axial</property></view></item>'
        '<item><view class="vtkMRMLPlotViewNode" singletontag="PlotView1"/></item>'
        '<item><view class="vtkMRMLTableViewNode" singletontag="TableView1"/></item></layout>'
    )
    with pytest.raises(NotModelledError, match="layout 4711"):
        manager.setLayout(own)
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(own, description)
    manager.setLayout(own)
    assert seen == [own]
    assert list(manager.sliceViewNames()) == ["Red"]
    assert manager.threeDWidget(0) is None
    assert manager.plotWidget(0).mrmlPlotViewNode().GetSingletonTag() == "PlotView1"
    assert manager.tableWidget(0).mrmlTableViewNode().GetSingletonTag() == "TableView1"
    with pytest.raises(NotModelledError, match="plotView"):
        manager.plotWidget(0).plotView()
    manager.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView
    assert seen[1:] == [slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView]


def test_slicers_own_functions_work_on_the_views(windowed, nodes_of):
    import slicer

    slicer.util.setSliceViewerLayers(background=nodes_of.ct, fit=True)
    for name in slicer.app.layoutManager().sliceViewNames():
        composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
        assert composite.GetBackgroundVolumeID() == nodes_of.ct.GetID()
    slicer.util.resetSliceViews()
    slicer.util.resetThreeDViews()
    slicer.app.layoutManager().threeDWidget(0).threeDView().resetFocalPoint()
    assert windowed.requests == ["resetThreeDViews", "resetFocalPoint 1"]


@pytest.fixture
def nodes_of(windowed, small_study):
    from REACTKDSlicer.sample_case import add_study

    return add_study(small_study)


def test_selecting_a_module_enters_it_and_leaves_the_other(windowed):
    import slicer

    widget = windowed.load_module(MODULE)
    assert not widget.parent.isEntered
    slicer.util.selectModule("REACTKD")
    assert slicer.util.selectedModule() == "REACTKD"
    assert widget.parent.isEntered
    assert widget.panel.parameters is not None
    slicer.util.selectModule(slicer.modules.volumes)
    assert not widget.parent.isEntered
    with pytest.raises(NotModelledError, match="the module Nowhere"):
        slicer.util.selectModule("Nowhere")


def test_the_window_is_found_and_goes_away(slicer_harness):
    import slicer

    assert slicer.util.mainWindow() is None
    assert slicer.app.layoutManager() is None
    with pytest.raises(RuntimeError, match="main window"):
        slicer.util.selectModule("Volumes")
    with installed(main_window=True):
        assert slicer.util.mainWindow().className() == "qSlicerMainWindow"
    assert slicer.util.mainWindow() is None
