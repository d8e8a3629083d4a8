"""The commands and options of DICOM output: ``dicom``, ``push``, ``predict --dicom-output``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .deidentify import Pseudonyms
from .errors import OptionError


def add_dicom_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``dicom`` and ``push``."""
    dicom = commands.add_parser(
        "dicom", parents=[common], help="write a result as DICOM objects for a PACS"
    )
    dicom.set_defaults(run=_dicom)
    dicom.add_argument("result", type=Path, help="result folder")
    dicom.add_argument("--ct", type=Path, required=True, help="DICOM folder of the CT")
    dicom.add_argument("--series", metavar="UID", help="DICOM series, if the folder has several")
    dicom.add_argument("--output", type=Path, required=True, help="new folder for the objects")
    dicom.add_argument("--overwrite", action="store_true", help="replace earlier objects")
    add_deidentify_options(dicom)

    push = commands.add_parser(
        "push", parents=[common], help="send DICOM objects of REACTKD to a PACS"
    )
    push.set_defaults(run=_push)
    push.add_argument("folder", type=Path, help="folder of --dicom-output; folders in it too")
    to = push.add_mutually_exclusive_group(required=True)
    to.add_argument("--stow", metavar="URL", help="DICOMweb service, https")
    to.add_argument("--cstore", metavar="HOST:PORT", help="C-STORE service")
    push.add_argument("--aet", default="ANY-SCP", help="AE title of the C-STORE service")
    push.add_argument("--calling-aet", default="REACTKD", help="AE title of this machine")
    push.add_argument("--tls", action="store_true", help="C-STORE over TLS")
    push.add_argument("--allow-http", action="store_true", help="STOW-RS without TLS")
    push.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait")
    push.add_argument(
        "--yes-send", action="store_true", help="send; without it, only say what would go where"
    )


def add_deidentify_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--deidentify`` and ``--deidentify-salt``."""
    parser.add_argument(
        "--deidentify", action="store_true", help="leave out who the patient is, everywhere"
    )
    parser.add_argument(
        "--deidentify-salt",
        type=Path,
        metavar="FILE",
        help="secret in a file: the same secret gives the same pseudonyms (default: a random one)",
    )


def chosen_pseudonyms(options: argparse.Namespace) -> Pseudonyms | None:
    """What ``--deidentify`` asks for; None without it.

    Raises
    ------
    OptionError : a salt without ``--deidentify``.
    InputError : as :meth:`Pseudonyms.from_file`.
    """
    if options.deidentify_salt is not None:
        if not options.deidentify:
            raise OptionError("--deidentify-salt is given alone.", "Add --deidentify.")
        return Pseudonyms.from_file(options.deidentify_salt)
    return Pseudonyms.forgotten() if options.deidentify else None


def _dicom(options: argparse.Namespace, log: Any) -> None:
    from .dicom_output import write_dicom_output
    from .report import read_result

    written = write_dicom_output(
        read_result(options.result),
        options.ct,
        options.output,
        series_uid=options.series,
        pseudonyms=chosen_pseudonyms(options),
        overwrite=options.overwrite,
    )
    log.say(f"DICOM objects: {written}", dicom_output=str(written))


def _push(options: argparse.Namespace, log: Any) -> None:
    from .dicom_output.source import need_libraries
    from .push import consent_text, find_objects, push, raise_for_failures
    from .push_targets import store_target, stow_target

    need_libraries(("pydicom",), "dicom", "Sending")
    if options.timeout <= 0:
        raise OptionError(f"--timeout {options.timeout:g} is not positive.", "Give seconds.")
    target: Any
    if options.stow is not None:
        target = stow_target(options.stow, allow_http=options.allow_http)
    else:
        target = store_target(options.cstore, options.aet, options.calling_aet, tls=options.tls)
    items = find_objects(options.folder)
    if not options.yes_send:
        log.say(consent_text(items, target), target=str(target), objects=len(items))
    sent = push(
        items,
        target,
        consent=options.yes_send,
        timeout_s=options.timeout,
        progress=log.progress,
    )
    raise_for_failures(sent, target)
    log.say(f"Stored {len(sent)} objects at {target}.", target=str(target), objects=len(sent))
