"""Sends DICOM objects that REACTKD wrote to a PACS: STOW-RS (PS3.18 10.5) or C-STORE (PS3.4 B).

Nothing leaves the machine before somebody has said yes to what goes where. Credentials come from
the environment or the keyring, never from the command line, which others on the machine can read.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .dicom_output.identity import MANUFACTURER
from .dicom_output.source import need_libraries, quiet_dicom_libraries
from .errors import InputError, OptionError, OutputError
from .push_targets import PASSWORD, TOKEN, USER, Sent, StoreTarget, StowTarget, ToSend

_KEYRING_SERVICE = "reactkd"
#: STOW-RS in one piece: servers behind a proxy often refuse chunked requests.
_ONE_PIECE = 1 << 31


def find_objects(folder: Path) -> tuple[ToSend, ...]:
    """The DICOM objects below ``folder``, which REACTKD must have written, all of them.

    Raises
    ------
    InputError : no such folder, no DICOM object in it, or one of another origin.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Give a folder that REACTKD wrote.")
    found, foreign = [], []
    with quiet_dicom_libraries():
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True)
            except InvalidDicomError:
                continue
            if header.get("Manufacturer") != MANUFACTURER:
                foreign.append(path)
                continue
            found.append(
                ToSend(
                    path,
                    str(header.SOPClassUID),
                    str(header.SOPInstanceUID),
                    f"{header.Modality}, {header.get('SeriesDescription', '')}",
                    path.stat().st_size,
                    header.get("PatientIdentityRemoved") == "YES",
                )
            )
    if foreign:
        raise InputError(
            f"{folder} holds {len(foreign)} DICOM files that REACTKD did not write"
            f" (first {foreign[0].name}).",
            "Only REACTKD's own objects are sent: give the folder of --dicom-output.",
        )
    if not found:
        raise InputError(f"{folder} holds no DICOM objects.", "Run 'reactkd dicom' first.")
    return tuple(found)


def consent_text(items: Sequence[ToSend], target: StowTarget | StoreTarget) -> str:
    """What would be sent where, for the person who decides."""
    megabytes = sum(item.size for item in items) / 1e6
    named = sum(not item.deidentified for item in items)
    lines = [f"{len(items)} objects, {megabytes:.1f} MB, would go to {target}:"]
    lines += [f"  {item.file.name}: {item.description}" for item in items]
    lines.append(
        f"{named} of them name the patient." if named else "All of them are de-identified."
    )
    return "\n".join(lines)


def push(
    items: Sequence[ToSend],
    target: StowTarget | StoreTarget,
    *,
    consent: bool,
    timeout_s: float = 60.0,
    progress: Callable[[str, float], None] = lambda stage, done: None,
) -> tuple[Sent, ...]:
    """Send, one object after the other; one that fails does not stop the rest.

    Raises
    ------
    OptionError : no consent; nothing has been sent then.
    EnvironmentProblem : a library of the extra ``push`` is missing.
    OutputError : no connection at all.
    """
    if not consent:
        raise OptionError("Nothing was sent.", "Give --yes-send to send these objects there.")
    stow = isinstance(target, StowTarget)
    need_libraries(("dicomweb_client",) if stow else ("pynetdicom",), "push", "Sending")
    with quiet_dicom_libraries():
        if isinstance(target, StowTarget):
            return _stow(items, target, timeout_s, progress)
        return _store(items, target, timeout_s, progress)


def raise_for_failures(sent: Sequence[Sent], target: StowTarget | StoreTarget) -> None:
    """Raises OutputError that lists every object that was not stored."""
    failed = [s for s in sent if s.failure]
    if failed:
        listed = "; ".join(f"{s.item.file.name}: {s.failure}" for s in failed)
        raise OutputError(
            f"{len(failed)} of {len(sent)} objects were not stored at {target}: {listed}.",
            "Send again when the cause is gone: what is stored already keeps its UID.",
        )


def _credentials(host: str) -> tuple[str, Any]:
    """Bearer token and (user, password), as far as there are any."""
    token = os.environ.get(TOKEN, "")
    user, password = os.environ.get(USER, ""), os.environ.get(PASSWORD, "")
    if token or user:
        return token, (user, password) if user else None
    try:
        import keyring

        found = keyring.get_credential(f"{_KEYRING_SERVICE}:{host}", None)
    except Exception:  # no keyring here, or one that is locked: then without credentials
        return "", None
    return "", (found.username, found.password) if found else None


def _stow(
    items: Sequence[ToSend],
    target: StowTarget,
    timeout_s: float,
    progress: Callable[[str, float], None],
) -> tuple[Sent, ...]:
    import pydicom
    import requests
    from dicomweb_client.web import DICOMwebClient

    answers: list[requests.Response] = []
    token, login = _credentials(urlsplit(target.url).hostname or "")
    with requests.Session() as session:  # verifies TLS, and honours the proxies of the environment
        session.auth = login
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        # Redirected, a POST would become a GET, and another address is another consent.
        session.max_redirects = 0
        session.hooks["response"].append(lambda answer, *_, **__: answers.append(answer))
        client = DICOMwebClient(
            target.url, session=session, timeout=timeout_s, chunk_size=_ONE_PIECE
        )
        client.set_http_retry_params(retry=False)
        sent = []
        for number, item in enumerate(items):
            progress("sending", number / len(items))
            answers.clear()
            try:
                client.store_instances([pydicom.dcmread(item.file)])
                failure = _stow_failure(answers[-1])
            except requests.exceptions.HTTPError:
                failure = _stow_failure(answers[-1])
            except requests.exceptions.SSLError:
                failure = "the certificate of the server is not trusted"
            except requests.exceptions.Timeout:
                failure = f"no answer within {timeout_s:g} s"
            except requests.exceptions.RequestException as error:
                failure = f"no connection ({type(error).__name__})"
            sent.append(Sent(item, failure))
    progress("sending", 1.0)
    return tuple(sent)


def _stow_failure(answer: Any) -> str:
    """Why a Store Instances answer is no success (PS3.18 10.5.3); empty for success.

    The server's own text is not quoted: it may name the patient.
    """
    if answer.status_code == 200:
        return ""
    try:
        failed = answer.json().get("00081198", {}).get("Value", [])
        codes = [item["00081197"]["Value"][0] for item in failed]
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        codes = []
    if codes:
        return ", ".join(f"failure reason 0x{int(code):04X}" for code in codes)
    if answer.status_code == 202:
        # Stored, with warnings (coerced or removed elements): no item has failed.
        return "" if _stored(answer) else "HTTP 202 without a list of what was stored"
    return f"HTTP {answer.status_code}"


def _stored(answer: Any) -> bool:
    try:
        return bool(answer.json().get("00081199", {}).get("Value"))
    except (ValueError, AttributeError):
        return False


def _store(
    items: Sequence[ToSend],
    target: StoreTarget,
    timeout_s: float,
    progress: Callable[[str, float], None],
) -> tuple[Sent, ...]:
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
    from pynetdicom import AE
    from pynetdicom.status import code_to_category

    entity = AE(ae_title=target.calling_aet)
    entity.connection_timeout = entity.acse_timeout = timeout_s
    entity.dimse_timeout = entity.network_timeout = timeout_s
    for sop_class in sorted({item.sop_class for item in items}):
        # Two offers, so that the PACS cannot choose against the way in which the file is written.
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
            entity.add_requested_context(sop_class, syntax)
    more: dict[str, Any] = {}
    if target.tls:
        more["tls_args"] = (ssl.create_default_context(), target.host)
    link = entity.associate(target.host, target.port, ae_title=target.called_aet, **more)
    if not link.is_established:
        why = "rejected the association" if link.is_rejected else "did not answer"
        raise OutputError(
            f"{target} {why}; nothing was sent.",
            "Check address, AE titles and whether the PACS knows this AE title.",
        )
    sent = []
    try:
        for number, item in enumerate(items):
            progress("sending", number / len(items))
            if not link.is_established:
                sent.append(Sent(item, "the association was aborted"))
                continue
            try:
                status = link.send_c_store(item.file)
            except ValueError:
                sent.append(Sent(item, "the PACS does not take this kind of object"))
                continue
            code = status.get("Status")
            if code is None:
                sent.append(Sent(item, f"no answer within {timeout_s:g} s"))
                continue
            good = code_to_category(code) in ("Success", "Warning")
            sent.append(Sent(item, "" if good else f"status 0x{code:04X}"))
    finally:
        if link.is_established:
            link.release()
    progress("sending", 1.0)
    return tuple(sent)
