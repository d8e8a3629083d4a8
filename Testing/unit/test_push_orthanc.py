"""Objects of a result in a real PACS: Orthanc, on loopback, over C-STORE and over STOW-RS."""

from __future__ import annotations

import contextlib
import glob
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pydicom
import pytest

from REACTKDLib.cli import main
from REACTKDLib.dicom_output import DICOM_FILES
from REACTKDLib.push import find_objects

DICOMWEB = (
    "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
    "/usr/lib/orthanc/libOrthancDicomWeb.so",
)
ORTHANC = shutil.which("Orthanc")
pytestmark = pytest.mark.skipif(
    ORTHANC is None or not any(glob.glob(p) for p in DICOMWEB),
    reason="Orthanc and its DICOMweb plugin are not installed (apt install orthanc-dicomweb)",
)
PATIENCE_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """An Orthanc of its own, in a folder of its own."""

    def __init__(self, folder) -> None:
        self.web, self.dicom = free_port(), free_port()
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "HttpPort": self.web,
            "DicomPort": self.dicom,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            "Plugins": [next(p for p in DICOMWEB if glob.glob(p))],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
        self.log = (folder / "log.txt").open("wb")
        self.process = subprocess.Popen(
            [ORTHANC, str(folder / "orthanc.json")], stdout=self.log, stderr=self.log
        )

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web}{path}", timeout=30) as answer:
            return answer.read()

    def ask(self, path: str):
        return json.loads(self.get(path))

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, "Orthanc has ended"
            with contextlib.suppress(OSError):
                self.get("/system")
                return
            time.sleep(0.1)
        raise AssertionError("Orthanc does not answer")

    def instances(self) -> dict[str, pydicom.Dataset]:
        files = (self.get(f"/instances/{name}/file") for name in self.ask("/instances"))
        found = [pydicom.dcmread(io.BytesIO(file)) for file in files]
        return {str(ds.SOPInstanceUID): ds for ds in found}


@pytest.fixture
def orthanc(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Orthanc(tmp_path)
    try:
        server.wait()
        yield server
    finally:
        server.process.terminate()
        server.process.wait(PATIENCE_S)
        server.log.close()


def store_ct(server: Orthanc, folder) -> None:
    """The CT itself, as a scanner would send it."""
    from pynetdicom import AE
    from pynetdicom.sop_class import CTImageStorage

    entity = AE()
    entity.add_requested_context(CTImageStorage)
    association = entity.associate("127.0.0.1", server.dicom)
    assert association.is_established
    for path in sorted(folder.iterdir()):
        assert association.send_c_store(pydicom.dcmread(path)).Status == 0
    association.release()


@pytest.mark.parametrize("way", ["c-store", "stow-rs"])
def test_objects_join_the_study_of_their_ct(orthanc, way, phantom_ct, phantom_dicom, capsys):
    store_ct(orthanc, phantom_ct)
    slices = len(orthanc.ask("/instances"))
    to = ["--cstore", f"127.0.0.1:{orthanc.dicom}"]
    if way == "stow-rs":
        to = ["--stow", f"http://127.0.0.1:{orthanc.web}/dicom-web"]
    assert main(["push", str(phantom_dicom), *to, "--yes-send"]) == 0
    assert "Stored 4 objects" in capsys.readouterr().out

    assert len(orthanc.ask("/patients")) == len(orthanc.ask("/studies")) == 1
    assert len(orthanc.ask("/series")) == 1 + len(DICOM_FILES)
    held = orthanc.instances()
    assert len(held) == slices + len(DICOM_FILES)
    for name in DICOM_FILES:
        sent = pydicom.dcmread(phantom_dicom / name)
        assert held[str(sent.SOPInstanceUID)] == sent

    # What a workstation asks a PACS for: the objects by their modality, over DICOMweb.
    found = orthanc.ask("/dicom-web/studies/" + str(sent.StudyInstanceUID) + "/series")
    assert sorted(s["00080060"]["Value"][0] for s in found) == ["CT", "OT", "OT", "SEG", "SR"]
    # Every image that an object refers to is there.
    segmentation = pydicom.dcmread(phantom_dicom / DICOM_FILES[0])
    (referenced,) = segmentation.ReferencedSeriesSequence
    uids = {str(i.ReferencedSOPInstanceUID) for i in referenced.ReferencedInstanceSequence}
    assert uids and uids <= set(held)


def test_the_same_objects_twice_are_there_once(orthanc, phantom_dicom):
    address = f"127.0.0.1:{orthanc.dicom}"
    for _ in range(2):
        assert main(["push", str(phantom_dicom), "--cstore", address, "--yes-send"]) == 0
    assert len(orthanc.ask("/instances")) == len(find_objects(phantom_dicom))
