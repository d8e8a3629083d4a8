"""Which segment plays which role: by explicit choice, by name, or by a documented label.

The roles, their names and labels come with the model package (``RoleRule``); nothing here knows an
organ. A wrong role gives a wrong result that looks right, so nothing is guessed: unnamed labels
get a role only where all of them are labels that the rules know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import InputError
from .types import Segment

#: Label and name (None where the file has no names) of a segment found in a segmentation.
Found = tuple[int, str | None]

_MAX_LISTED = 40


@dataclass(frozen=True)
class RoleRule:
    """How one role is recognised.

    ``name`` : the role, e.g. "liver". ``required`` : a case without it cannot be used.
    ``aliases`` : words or phrases that mean it in a segment's name. ``default_label`` : its value
    in labelmaps without names, or None.

    Rules are ordered from the organ to what lies in it: where several match a name
    ("liver tumour"), and where several cover a voxel, the later rule wins.
    """

    name: str
    required: bool
    aliases: tuple[str, ...]
    default_label: int | None = None


def _words(text: str) -> list[str]:
    """Lower-case words and numbers of a name; punctuation and CamelCase separate."""
    separated = re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-z])(?=[A-Z])", " ", text)
    return re.findall(r"[^\W_]+", separated.casefold())


def _means(word: str, alias: str) -> bool:
    return word in (alias, alias + "s", alias + "es")


def _contains(words: list[str], phrase: list[str]) -> bool:
    return any(
        all(map(_means, words[start : start + len(phrase)], phrase))
        for start in range(len(words) - len(phrase) + 1)
    )


def role_of_name(name: str, rules: Sequence[RoleRule]) -> str | None:
    """The role that a segment name means, or None.

    A name means a role when it contains one of its aliases as whole words, in any case and with
    any punctuation, singular or plural. The last matching rule wins.
    """
    words = _words(name)
    matching = [
        rule.name
        for rule in rules
        if any(_contains(words, _words(alias)) for alias in (rule.name, *rule.aliases))
    ]
    return matching[-1] if matching else None


def _describe(found: Sequence[Found]) -> str:
    """The segments for an error message: ``1 "Liver", 2 "Tumor"``; long lists are cut."""
    texts = [f'{label} "{name}"' if name else f"{label}" for label, name in found[:_MAX_LISTED]]
    if len(found) > _MAX_LISTED:
        texts.append(f"and {len(found) - _MAX_LISTED} more")
    return ", ".join(texts)


def as_texts(chosen: str | Sequence[str]) -> tuple[str, ...]:
    """What an override names for a role: one text or several."""
    return (chosen,) if isinstance(chosen, str) else tuple(chosen)


def _override_roles(
    found: Sequence[Found],
    rules: Sequence[RoleRule],
    overrides: Mapping[str, str | Sequence[str]],
) -> dict[int, str]:
    """Role by label, as far as chosen explicitly."""
    known = [rule.name for rule in rules]
    roles: dict[int, str] = {}
    for role, chosen in overrides.items():
        if role not in known:
            raise InputError(
                f"There is no role {role!r}.", f"The model's roles are {', '.join(known)}."
            )
        for text in as_texts(chosen):
            labels = [label for label, name in found if name and _words(name) == _words(text)]
            if not labels:
                labels = [label for label, _ in found if str(label) == text.strip()]
            if not labels:
                raise InputError(
                    f"The segmentation has no segment {text!r} for the role {role}.",
                    f"It has {_describe(found)}.",
                )
            for label in labels:
                if roles.setdefault(label, role) != role:
                    raise InputError(
                        f"Segment {text!r} is given two roles, {roles[label]} and {role}.",
                        "Give each segment one role.",
                    )
    return roles


def _default_roles(found: Sequence[Found], rules: Sequence[RoleRule]) -> dict[int, str]:
    """Role by label of an unnamed labelmap, or an error when its labels are not all known."""
    defaults = {rule.default_label: rule.name for rule in rules if rule.default_label is not None}
    if not all(label in defaults for label, _ in found):
        expected = ", ".join(f"{label} {role}" for label, role in defaults.items()) or "none"
        raise InputError(
            f"The segmentation has the labels {_describe(found)} without names; the labels known"
            f" by themselves are {expected}.",
            f"Say which label is which role, for instance {rules[0].name}=LABEL.",
        )
    return {label: defaults[label] for label, _ in found}


def assign_roles(
    found: Sequence[Found],
    rules: Sequence[RoleRule],
    overrides: Mapping[str, str | Sequence[str]] | None = None,
) -> tuple[Segment, ...]:
    """Segments with their roles, in the order of ``found``; those of no role keep ``None``.

    1. ``overrides``, role to segment names or label numbers, decide for their roles alone.
    2. The other roles go by name (:func:`role_of_name`).
    3. A labelmap without any names and without overrides goes by the rules' default labels, if all
       its labels are such labels. With overrides nothing else is assumed about unnamed labels.

    Raises
    ------
    InputError : an override that names nothing present or an unknown role, one segment in two
        roles, unnamed labels that are not all defaults, a required role without a segment.
    """
    overrides = overrides or {}
    if not found:
        raise InputError("The segmentation is empty.", "Segment the image first.")
    roles = _override_roles(found, rules, overrides)
    if not overrides and all(name is None for _, name in found):
        roles = _default_roles(found, rules)
    for label, name in found:
        role = role_of_name(name, rules) if name else None
        if role is not None and role not in overrides:
            roles.setdefault(label, role)
    segments = tuple(
        Segment(label, name or roles.get(label) or f"label {label}", roles.get(label))
        for label, name in found
    )
    for rule in rules:
        if rule.required and not any(s.role == rule.name for s in segments):
            raise InputError(
                f"The segmentation has no {rule.name}. It has {_describe(found)}.",
                f"Add it, or say which segment it is: {rule.name}=NAME or {rule.name}=LABEL.",
            )
    return segments
