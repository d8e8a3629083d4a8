"""Small PACS on loopback: a C-STORE service by pynetdicom, a STOW-RS service, a proxy."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt


@dataclass
class Store:
    """What a service was given, and how it answers: status by SOP class, success by default."""

    port: int = 0
    received: list[Dataset] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def c_store_service(
    *, called_aet: str = "PACS", refused: tuple[str, ...] = (), hold: threading.Event | None = None
) -> Iterator[Store]:
    """A Storage SCP that knows one AE title; ``refused`` SOP classes, ``hold`` delays answers."""
    store = Store()
    entity = AE(ae_title=called_aet)
    entity.require_called_aet = True
    for context in AllStoragePresentationContexts:
        if context.abstract_syntax not in refused:
            entity.add_supported_context(context.abstract_syntax)

    def keep(event: evt.Event) -> int:
        if hold is not None:
            hold.wait(20)
        ds = event.dataset
        ds.file_meta = event.file_meta
        store.received.append(ds)
        return store.answers.get(str(ds.SOPClassUID), 0x0000)

    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)]
    )
    store.port = server.socket.getsockname()[1]
    try:
        yield store
    finally:
        if hold is not None:
            hold.set()
        server.shutdown()


def parts_of(body: bytes, content_type: str) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part of a multipart/related body (RFC 2387, RFC 2046)."""
    header = Message()
    header["Content-Type"] = content_type
    assert header.get_content_type() == "multipart/related"
    assert header.get_param("type") == "application/dicom"
    boundary = b"--" + str(header.get_param("boundary")).encode()
    head, *parts, tail = body.split(boundary)
    assert head in (b"", b"\r\n") and tail.startswith(b"--")
    found = []
    for part in parts:
        assert part.startswith(b"\r\n") and part.endswith(b"\r\n")
        fields, _, content = part[2:-2].partition(b"\r\n\r\n")
        names = dict(line.split(b": ", 1) for line in fields.split(b"\r\n"))
        found.append((names[b"Content-Type"].decode(), content))
    return found


def stow_answer(ds: Dataset, status: int) -> tuple[int, dict[str, object]]:
    """HTTP status and the Store Instances Response Module (PS3.18 10.5.3, PS3.3 Annex I.2)."""
    reference = {
        "00081150": {"vr": "UI", "Value": [ds.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [ds.SOPInstanceUID]},
    }
    if status == 0:
        return 200, {"00081199": {"vr": "SQ", "Value": [reference]}}
    reason = {"00081197": {"vr": "US", "Value": [status]}}
    return 409, {"00081198": {"vr": "SQ", "Value": [reference | reason]}}


def _handler(
    store: Store, respond: Callable[[Store, Dataset], tuple[int, object]]
) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            store.requests.append((self.path, dict(self.headers)))
            ((kind, content),) = parts_of(body, self.headers["Content-Type"])
            assert kind == "application/dicom"
            ds = pydicom.dcmread(io.BytesIO(content))
            store.received.append(ds)
            status, answer = respond(store, ds)
            text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            if status == 307:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def usual(store: Store, ds: Dataset) -> tuple[int, object]:
    return stow_answer(ds, store.answers.get(str(ds.SOPClassUID), 0))


@contextlib.contextmanager
def stow_service(
    respond: Callable[[Store, Dataset], tuple[int, object]] = usual,
    certificate: Path | None = None,
) -> Iterator[Store]:
    """A STOW-RS service; with ``certificate`` (PEM, key in it) over TLS. As a proxy it works too:
    it answers whatever host it is asked for."""
    store = Store()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(store, respond))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    store.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
