"""Where DICOM objects may be sent, and what is sent: checked before anything leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import OptionError

#: Environment variables with the credentials of a DICOMweb service.
TOKEN, USER, PASSWORD = (f"REACTKD_DICOMWEB_{name}" for name in ("TOKEN", "USER", "PASSWORD"))
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ToSend:
    """One object: its file, and what may be said of it (nothing about the patient)."""

    file: Path
    sop_class: str
    sop_instance: str
    description: str
    size: int
    deidentified: bool


@dataclass(frozen=True)
class StowTarget:
    """A DICOMweb service; ``url`` is the base, below which ``/studies`` lies."""

    url: str

    def __str__(self) -> str:
        safe = "TLS" if self.url.lower().startswith("https:") else "NOT encrypted"
        return f"{self.url} (STOW-RS, {safe})"


@dataclass(frozen=True)
class StoreTarget:
    """A C-STORE service: host, port, its AE title and ours."""

    host: str
    port: int
    called_aet: str
    calling_aet: str
    tls: bool = False

    def __str__(self) -> str:
        safe = "TLS" if self.tls else "NOT encrypted"
        return f"{self.called_aet} at {self.host}:{self.port} (C-STORE, {safe})"


@dataclass(frozen=True)
class Sent:
    """What became of one object; ``failure`` is empty when it was stored."""

    item: ToSend
    failure: str


def stow_target(url: str, *, allow_http: bool = False) -> StowTarget:
    """Check a DICOMweb address.

    Raises
    ------
    OptionError : no http(s) address, credentials in it, or no TLS to another machine.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionError(
            f"--stow {parts.scheme}://{parts.hostname or ''} is no https address.",
            "Give the base of the DICOMweb service, for instance https://pacs.example/dicom-web.",
        )
    if parts.username or parts.password:
        raise OptionError(
            f"The address of {parts.hostname} holds credentials.",
            f"Put them into {USER} and {PASSWORD}, or {TOKEN}.",
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and not allow_http:
        raise OptionError(
            f"{parts.hostname} would be reached without TLS: anybody on the way could read it.",
            "Use https, or --allow-http within a network that you trust.",
        )
    return StowTarget(url.rstrip("/"))


def store_target(address: str, called: str, calling: str, *, tls: bool = False) -> StoreTarget:
    """Check a C-STORE address HOST:PORT and AE titles.

    Raises
    ------
    OptionError : no HOST:PORT, an AE title that is empty or longer than 16 characters.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise OptionError(f"--cstore {address!r} is not HOST:PORT.", "For instance pacs:104.")
    for option, title in (("--aet", called), ("--calling-aet", calling)):
        if not title.strip() or len(title) > 16 or not title.isascii():
            raise OptionError(
                f"{option} {title!r} is no AE title.", "1 to 16 ASCII characters (PS3.5, VR AE)."
            )
    return StoreTarget(host.strip("[]"), int(port), called, calling, tls)
