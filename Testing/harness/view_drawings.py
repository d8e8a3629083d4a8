"""The module beside its views in one picture: Slicer's window, as far as it can be drawn.

Slice and 3D views are drawn by Slicer's own displayable managers. The bar plot and the table are
drawn by VTK and Qt from the same nodes that Slicer's plot and table views show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets

_GAP = 4
_GROUND = QtGui.QColor(40, 40, 44)


def picture_of(pixels: np.ndarray) -> QtGui.QImage:
    """A QImage of uint8 RGB, shape (height, width, 3)."""
    height, width, _ = pixels.shape
    data = np.ascontiguousarray(pixels)
    image = QtGui.QImage(data.data, width, height, 3 * width, QtGui.QImage.Format_RGB888)
    return image.copy()


def plot_picture(chart: Any, size: tuple[int, int]) -> QtGui.QImage:
    """The bars of a vtkMRMLPlotChartNode with its title."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    series = chart.GetNthPlotSeriesNode(0)
    table = series.GetTableNode().GetTable()
    titles = table.GetColumnByName(series.GetLabelColumnName())
    view = vtk.vtkContextView()
    window = view.GetRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    view.GetRenderer().SetBackground(1, 1, 1)
    drawn = vtk.vtkChartXY()
    view.GetScene().AddItem(drawn)
    drawn.SetTitle(chart.GetTitle())
    drawn.GetTitleProperties().SetFontSize(chart.GetTitleFontSize())
    numbers = vtk.vtkTable()
    places, heights = vtk.vtkDoubleArray(), vtk.vtkDoubleArray()
    places.SetName("place")
    heights.SetName("height")
    labels = vtk.vtkStringArray()
    for n in range(table.GetNumberOfRows()):
        places.InsertNextValue(n)
        heights.InsertNextValue(table.GetColumnByName(series.GetYColumnName()).GetValue(n))
        labels.InsertNextValue(titles.GetValue(n).replace(" ", "\n"))
    numbers.AddColumn(places)
    numbers.AddColumn(heights)
    bars = drawn.AddPlot(vtk.vtkChart.BAR)
    bars.SetInputData(numbers, 0, 1)
    bars.SetColor(*(round(255 * part) for part in series.GetColor()), 255)
    left, bottom = drawn.GetAxis(vtk.vtkAxis.LEFT), drawn.GetAxis(vtk.vtkAxis.BOTTOM)
    left.SetTitle(chart.GetYAxisTitle())
    left.SetRange(*chart.GetYAxisRange())
    left.SetBehavior(vtk.vtkAxis.FIXED)
    bottom.SetTitle("")
    bottom.SetCustomTickPositions(places, labels)
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    width, height, _ = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
    return picture_of(pixels.reshape(height, width, -1)[::-1, :, :3])


def table_picture(node: Any, size: tuple[int, int]) -> QtGui.QImage:
    """The rows of a vtkMRMLTableNode."""
    table = node.GetTable()
    view = QtWidgets.QTableWidget(table.GetNumberOfRows(), table.GetNumberOfColumns())
    for column in range(table.GetNumberOfColumns()):
        heading = QtWidgets.QTableWidgetItem(table.GetColumnName(column).replace(" (", "\n("))
        view.setHorizontalHeaderItem(column, heading)
        for row in range(table.GetNumberOfRows()):
            value = table.GetValue(row, column)
            text = value.ToString() if not value.IsDouble() else f"{value.ToDouble():.3g}"
            view.setItem(row, column, QtWidgets.QTableWidgetItem(text))
    view.resizeColumnsToContents()
    view.resize(*size)
    return view.grab().toImage()


def beside(panel: QtGui.QImage, views: list[list[QtGui.QImage]]) -> QtGui.QImage:
    """The panel at the left, the views in rows at the right."""
    width = panel.width() + max(sum(v.width() + _GAP for v in row) for row in views)
    height = max(panel.height(), sum(max(v.height() for v in row) + _GAP for row in views) - _GAP)
    result = QtGui.QImage(width, height, QtGui.QImage.Format_RGB888)
    result.fill(_GROUND)
    painter = QtGui.QPainter(result)
    painter.fillRect(0, 0, panel.width(), height, panel.pixelColor(1, panel.height() - 1))
    painter.drawImage(QtCore.QPoint(0, 0), panel)
    top = 0
    for row in views:
        left = panel.width() + _GAP
        for view in row:
            painter.drawImage(QtCore.QPoint(left, top), view)
            left += view.width() + _GAP
        top += max(view.height() for view in row) + _GAP
    painter.end()
    return result
