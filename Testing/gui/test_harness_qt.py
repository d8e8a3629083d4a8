"""Plain Qt classes by PythonQt's rules: timers, processes, documents, settings, tables."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

SECONDS = 30


@pytest.fixture
def qt(slicer_harness):
    import qt

    return qt


def wait_for(condition) -> None:
    """Handle events until ``condition()``."""
    import slicer

    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        slicer.app.processEvents()
        time.sleep(0.002)


def test_timers(qt):
    timer, seen = qt.QTimer(), []
    timer.singleShot, timer.interval = True, 1
    timer.connect("timeout()", lambda: seen.append("timer"))
    timer.timeout.connect(lambda: seen.append("attribute"))
    timer.start()
    assert timer.active
    qt.QTimer.singleShot(0, lambda: seen.append("once"))
    wait_for(lambda: len(seen) == 3)
    assert sorted(seen) == ["attribute", "once", "timer"]
    assert not timer.isActive()
    with pytest.raises(AttributeError):
        timer.timeoutt()


ECHO = "import sys; print(sys.stdin.readline().upper(), end=''); sys.stderr.write('noise')"


def test_processes_talk_and_finish(qt):
    process, output, ends = qt.QProcess(), [], []
    process.connect(
        "readyReadStandardOutput()",
        lambda: output.append(process.readAllStandardOutput().data()),
    )
    process.connect(
        "finished(int,QProcess::ExitStatus)", lambda code, status: ends.append((code, status))
    )
    process.setProcessEnvironment(qt.QProcessEnvironment.systemEnvironment())
    process.start(sys.executable, ["-c", ECHO])
    assert process.waitForStarted(1000 * SECONDS)
    assert process.processId() > 0
    process.write(b"hello\n")
    wait_for(lambda: ends)
    assert b"".join(output) == b"HELLO\n"
    assert process.readAllStandardError().data() == b"noise"
    assert ends == [(0, qt.QProcess.NormalExit)]
    assert process.state() == qt.QProcess.NotRunning


def test_processes_that_cannot_start_and_that_are_killed(qt):
    errors, ends = [], []
    missing = qt.QProcess()
    missing.connect("errorOccurred(QProcess::ProcessError)", errors.append)
    missing.start("/no/such/program", [])
    wait_for(lambda: errors)
    assert errors == [qt.QProcess.FailedToStart]
    endless = qt.QProcess()
    endless.connect("finished(int,QProcess::ExitStatus)", lambda c, status: ends.append(status))
    endless.start(sys.executable, ["-c", "import time; time.sleep(600)"])
    endless.waitForStarted(1000 * SECONDS)
    endless.kill()
    wait_for(lambda: ends)
    assert ends == [qt.QProcess.CrashExit]
    with pytest.raises(ValueError, match="no signal"):
        endless.connect("finished(int,ExitStatus)", print)


@pytest.mark.skipif(os.name == "nt", reason="the launcher is a shell script")
def test_pythonslicer_runs_this_python(qt, slicer_harness):
    process = qt.QProcess()
    process.start("PythonSlicer", ["-c", "import sys; print(sys.prefix)"])
    assert process.waitForFinished(1000 * SECONDS)
    assert process.readAllStandardOutput().data().decode().strip() == sys.prefix
    assert (Path(slicer_harness.app.slicerHome) / "bin" / "PythonSlicer").is_file()


def test_documents_become_pdf(qt, tmp_path):
    document = qt.QTextDocument()
    document.setHtml("<h1>Report</h1>")
    assert document.toPlainText() == "Report"
    for name, how in (("a.pdf", "print_"), ("b.pdf", "print")):
        printer = qt.QPrinter(qt.QPrinter.HighResolution)
        printer.setOutputFormat(qt.QPrinter.PdfFormat)
        printer.setPageSize(qt.QPageSize(qt.QPageSize.A4))
        printer.setOutputFileName(str(tmp_path / name))
        getattr(document, how)(printer)
        assert (tmp_path / name).read_bytes().startswith(b"%PDF")


def test_nothing_is_opened_outside(qt, slicer_harness):
    assert qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile("/tmp/report.html"))
    slicer_harness.app.openUrl("https://example.org")
    assert slicer_harness.opened == ["file:///tmp/report.html", "https://example.org"]


def test_settings_are_those_of_the_test(qt, slicer_harness):
    import slicer

    slicer.app.settings().setValue("REACTKD/Device", "cpu")
    settings = qt.QSettings()
    assert settings.value("REACTKD/Device") == "cpu"
    assert settings.value("REACTKD/None", "nothing") == "nothing"
    assert slicer.util.settingsValue("REACTKD/Device", "auto") == "cpu"
    assert not Path(settings.fileName()).is_relative_to(Path.home() / ".config")
    assert Path(slicer.app.temporaryPath).is_dir()
    assert Path(slicer.util.tempDirectory()).is_relative_to(slicer.app.temporaryPath)


def test_elapsed_time_and_text(qt):
    clock = qt.QElapsedTimer()
    clock.start()
    assert clock.elapsed() >= 0
    edit = qt.QPlainTextEdit()
    edit.readOnly = True
    edit.appendPlainText("one")
    edit.appendPlainText("two")
    assert (edit.plainText, edit.toPlainText()) == ("one\ntwo", "one\ntwo")
    assert edit.blockCount == 2


def test_combo_boxes_are_cells_of_a_table(qt):
    table, seen = qt.QTableWidget(), []
    table.setColumnCount(2)
    table.setHorizontalHeaderLabels(["Segment", "Role"])
    for row, name in enumerate(("Liver", "HCC")):
        table.insertRow(row)
        item = qt.QTableWidgetItem(name)
        item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        table.setItem(row, 0, item)
        roles = qt.QComboBox()
        for role in ("none", "liver", "lesion"):
            roles.addItem(role, role)
        roles.connect("currentIndexChanged(int)", lambda index, row=row: seen.append((row, index)))
        table.setCellWidget(row, 1, roles)
    assert table.rowCount == 2
    table.cellWidget(1, 1).setCurrentIndex(2)
    assert table.cellWidget(1, 1).currentText == "lesion"
    assert table.item(0, 0).text() == "Liver"
    assert seen == [(1, 2)]
    table.setRowCount(0)
    assert table.cellWidget(1, 1) is None
