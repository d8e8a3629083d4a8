"""Sending to a PACS, against services on loopback: nothing without consent, each failure named."""

from __future__ import annotations

import base64
import logging
import shutil
import subprocess
import sys
import threading
import types

import pydicom
import pytest
from dicom_ct import CANARIES
from pacs import c_store_service, stow_service

from REACTKDLib import push_targets as push
from REACTKDLib.cli import main
from REACTKDLib.dicom_output import DICOM_FILES
from REACTKDLib.errors import OptionError

SEG, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in (push.TOKEN, push.USER, push.PASSWORD):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def to_stow(phantom_dicom):
    def run(store, *more: str) -> int:
        url = f"http://127.0.0.1:{store.port}/dicom-web/"
        return main(["push", str(phantom_dicom), "--stow", url, *more])

    return run


@pytest.fixture
def to_store(phantom_dicom):
    def run(store, *more: str) -> int:
        address = f"127.0.0.1:{store.port}"
        return main(["push", str(phantom_dicom), "--cstore", address, "--aet", "PACS", *more])

    return run


def same_objects(received, folder) -> bool:
    sent = {ds.SOPInstanceUID: ds for ds in (pydicom.dcmread(folder / n) for n in DICOM_FILES)}
    assert {ds.SOPInstanceUID for ds in received} == set(sent)
    return all(ds == sent[ds.SOPInstanceUID] for ds in received)


def test_nothing_is_sent_without_consent(to_stow, to_store, capsys):
    with stow_service() as web, c_store_service() as store:
        assert (to_stow(web), to_store(store)) == (2, 2)
        assert not web.requests and not store.received
    said = capsys.readouterr()
    for part in (
        f"http://127.0.0.1:{web.port}/dicom-web (STOW-RS, NOT encrypted)",
        f"PACS at 127.0.0.1:{store.port} (C-STORE, NOT encrypted)",
        "4 objects",
        "4 of them name the patient",
        *DICOM_FILES,
    ):
        assert part in said.out
    assert said.err.count("Nothing was sent") == 2 and "--yes-send" in said.err
    assert not any(str(value) in said.out for value in CANARIES.values())


def test_stow_stores_every_object_unchanged(to_stow, phantom_dicom, capsys):
    with stow_service() as store:
        assert to_stow(store, "--yes-send") == 0
    assert same_objects(store.received, phantom_dicom)
    assert {path for path, _ in store.requests} == {"/dicom-web/studies"}
    assert not any("Authorization" in headers for _, headers in store.requests)
    assert "Stored 4 objects" in capsys.readouterr().out


def test_c_store_stores_every_object_unchanged(to_store, phantom_dicom, capsys):
    with c_store_service() as store:
        assert to_store(store, "--yes-send") == 0
    assert same_objects(store.received, phantom_dicom)
    assert "Stored 4 objects" in capsys.readouterr().out


def test_failures_are_listed_one_by_one(to_stow, to_store, capsys):
    with stow_service() as web, c_store_service() as store:
        web.answers = {SEG: 0x0110}
        store.answers = {SEG: 0xA700, REPORT: 0xB000}  # out of resources; coerced, but stored
        assert (to_stow(web, "--yes-send"), to_store(store, "--yes-send")) == (5, 5)
        assert len(web.received) == len(store.received) == 4
    said = capsys.readouterr().err
    assert "segmentation.dcm: failure reason 0x0110" in said
    assert "segmentation.dcm: status 0xA700" in said
    assert said.count("1 of 4 objects were not stored") == 2
    assert "report.dcm" not in said


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (503, "busy with CANARY-4711", "HTTP 503"),
        (401, {}, "HTTP 401"),
        (202, {"00081199": {"vr": "SQ", "Value": [{}]}}, ""),
        (202, "not what it should be", "HTTP 202 without a list"),
        (307, {}, "no connection (TooManyRedirects)"),
    ],
)
def test_other_answers(to_stow, capsys, status, answer, expected):
    with stow_service(lambda *_: (status, answer)) as store:
        assert to_stow(store, "--yes-send") == (5 if expected else 0)
        assert len(store.requests) == 4
    said = capsys.readouterr().err
    assert expected in said and "CANARY" not in said


def test_no_service_there(to_stow, to_store, capsys):
    with stow_service() as web, c_store_service() as store:
        pass
    assert (to_stow(web, "--yes-send"), to_store(store, "--yes-send")) == (5, 5)
    said = capsys.readouterr().err
    assert "no connection (ConnectionError)" in said and "did not answer" in said


def test_a_pacs_that_does_not_know_us(phantom_dicom, capsys):
    with c_store_service(called_aet="OTHER") as store:
        address = f"127.0.0.1:{store.port}"
        command = ["push", str(phantom_dicom), "--cstore", address, "--aet", "PACS", "--yes-send"]
        assert main(command) == 5
    assert "rejected the association" in capsys.readouterr().err


def test_a_pacs_that_takes_only_some_kinds(to_store, capsys):
    with c_store_service(refused=(SEG,)) as store:
        assert to_store(store, "--yes-send") == 5
        assert len(store.received) == 3
    assert "segmentation.dcm: the PACS does not take this kind" in capsys.readouterr().err


def test_a_pacs_that_never_answers(to_store, to_stow, capsys):
    hold = threading.Event()

    def wait(*_):
        hold.wait(20)
        return 200, {}

    with c_store_service(hold=hold) as store, stow_service(wait) as web:
        # Long enough for the association on a busy machine; only the first object waits.
        assert to_store(store, "--yes-send", "--timeout", "3") == 5
        assert to_stow(web, "--yes-send", "--timeout", "0.2") == 5
        hold.set()
    said = capsys.readouterr().err
    assert "attention.dcm: no answer within 3 s" in said
    assert "report.dcm: the association was aborted" in said
    assert said.count("no answer within 0.2 s") == 4


def test_credentials_come_from_the_environment(to_stow, monkeypatch, capsys):
    monkeypatch.setenv(push.TOKEN, "secret-token")
    with stow_service() as store:
        assert to_stow(store, "--yes-send") == 0
    assert {h["Authorization"] for _, h in store.requests} == {"Bearer secret-token"}
    monkeypatch.delenv(push.TOKEN)
    monkeypatch.setenv(push.USER, "anna")
    monkeypatch.setenv(push.PASSWORD, "secret-word")
    with stow_service() as store:
        assert to_stow(store, "--yes-send") == 0
    expected = "Basic " + base64.b64encode(b"anna:secret-word").decode()
    assert {h["Authorization"] for _, h in store.requests} == {expected}
    assert "secret" not in "".join(capsys.readouterr())


def test_credentials_come_from_the_keyring(to_stow, monkeypatch):
    asked = []

    def get_credential(service, user):
        asked.append(service)
        return types.SimpleNamespace(username="anna", password="word")

    monkeypatch.setitem(
        sys.modules, "keyring", types.SimpleNamespace(get_credential=get_credential)
    )
    with stow_service() as store:
        assert to_stow(store, "--yes-send") == 0
    assert asked == ["reactkd:127.0.0.1"]
    expected = "Basic " + base64.b64encode(b"anna:word").decode()
    assert {h["Authorization"] for _, h in store.requests} == {expected}


def test_the_proxy_of_the_environment_is_used(phantom_dicom, monkeypatch):
    with stow_service() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        command = ["push", str(phantom_dicom), "--stow", "http://pacs.invalid/web"]
        assert main([*command, "--allow-http", "--yes-send"]) == 0
    assert {path for path, _ in proxy.requests} == {"http://pacs.invalid/web/studies"}


def test_a_certificate_that_nobody_vouches_for(phantom_dicom, tmp_path, monkeypatch, capsys):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate")
    pem = tmp_path / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_bytes(key.read_bytes() + certificate.read_bytes())
    with stow_service(certificate=pem) as store:
        url = f"https://localhost:{store.port}/web"
        assert main(["push", str(phantom_dicom), "--stow", url, "--yes-send"]) == 5
        assert not store.requests
        assert "certificate of the server is not trusted" in capsys.readouterr().err
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert main(["push", str(phantom_dicom), "--stow", url, "--yes-send"]) == 0
        assert len(store.received) == 4


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://pacs.example/web", "without TLS"),
        ("https://anna:word@pacs.example/web", "holds credentials"),
        ("ftp://pacs.example", "no https address"),
        ("pacs.example", "no https address"),
    ],
)
def test_addresses_that_are_refused(url, why):
    with pytest.raises(OptionError, match=why) as error:
        push.stow_target(url)
    assert "word" not in str(error.value).replace("PASSWORD", "")


@pytest.mark.parametrize("address", ["pacs", "pacs:0", "pacs:x", ":104", "pacs:70000"])
def test_store_addresses_that_are_refused(address):
    with pytest.raises(OptionError, match="not HOST:PORT"):
        push.store_target(address, "PACS", "REACTKD")


@pytest.mark.parametrize("title", ["", " ", "longer than sixteen", "Ü"])
def test_titles_that_are_refused(title):
    with pytest.raises(OptionError, match="no AE title"):
        push.store_target("pacs:104", title, "REACTKD")


def test_only_what_reactkd_wrote_is_sent(phantom_ct, tmp_path, capsys):
    with stow_service() as store:
        url = f"http://127.0.0.1:{store.port}"
        assert main(["push", str(phantom_ct), "--stow", url, "--yes-send"]) == 3
        assert main(["push", str(tmp_path), "--stow", url, "--yes-send"]) == 3
        assert not store.requests
    said = capsys.readouterr().err
    assert "27 DICOM files that REACTKD did not write" in said and "no DICOM objects" in said


def test_logs_of_sending_hold_no_identifier(to_stow, to_store, caplog, capfd):
    with caplog.at_level(logging.DEBUG), stow_service() as web, c_store_service() as store:
        caplog.clear()
        assert (to_stow(web, "--yes-send"), to_store(store, "--yes-send")) == (0, 0)
    # The service of the test runs in this process too, and logs less than it could.
    said = caplog.text + "".join(capfd.readouterr())
    assert not any(len(str(v)) > 6 and str(v) in said for v in CANARIES.values())
