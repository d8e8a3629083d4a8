"""Which segment plays which role: by explicit choice, by name, or by a documented label.

The roles, their names and labels come with the model package (``RoleRule``); all that is known
here is which words name some structure of the body. A wrong role gives a wrong result that looks
right, so nothing is guessed: ``liver_vessels`` is not the liver, and unnamed labels get a role only
where all of them are labels that the rules know.
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

#: Words, singular, that make a name mean something else than the alias beside them: structures,
#: findings that are no part of an organ, and words that exclude. Phases ("portal venous") and
#: body parts that a file may be named after ("abdomen") are not among them.
_OTHER_MEANING = """
    aorta artery arteries arteriole vein vena cava ivc vessel hepaticvessel vasculature capillary
    duct bile biliary thrombus shunt stent tips

    adrenal appendix bladder bowel brain breast bronchus cecum cerebellum colon duodenum esophagus
    oesophagus eye gallbladder gland gut heart hypophysis intestine jejunum ileum kidney larynx
    liver lung mediastinum mesentery myocardium nerve omentum ovary ovaries pancreas pericardium
    peritoneum pharynx pleura prostate rectum sigmoid spleen stomach testis thymus thyroid tongue
    trachea ureter urethra uterus atrium atria ventricle cord diaphragm lymph

    body bone cartilage clavicula clavicle face femur fibula gluteus hip humerus iliopsoas
    autochthon joint mandible muscle psoas rib sacrum scapula skeleton skin skull
    spine sternum tibia ulna vertebra vertebrae fat

    capsule fissure hilum hilus ligament porta edema oedema

    abscess adenoma ascites calcification carcinoma catheter clip cyst effusion fnh hematoma
    haematoma hemangioma haemangioma hyperplasia implant

    except excluding minus non without
"""


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


def _places(words: list[str], phrase: list[str]) -> set[int]:
    """Where in ``words`` the words of ``phrase`` stand, in every occurrence of the whole phrase."""
    length = len(phrase)
    starts = range(len(words) - length + 1)
    found = [n for n in starts if all(map(_means, words[n : n + length], phrase))]
    return {n + step for n in found for step in range(length)}


def _alias_places(words: list[str], rule: RoleRule) -> set[int]:
    return set().union(*(_places(words, _words(a)) for a in (rule.name, *rule.aliases)))


def names_other_structure(name: str, rules: Sequence[RoleRule]) -> bool:
    """Whether a name has, beside the aliases of the roles, a word that means something else."""
    words = _words(name)
    aliases = set().union(*(_alias_places(words, rule) for rule in rules))
    rest = [word for n, word in enumerate(words) if n not in aliases]
    return any(_means(word, other) for word in rest for other in _OTHER_MEANING.split())


def role_of_name(name: str, rules: Sequence[RoleRule]) -> str | None:
    """The role that a segment name means, or None.

    A name means a role when it contains one of its aliases as whole words, in any case and with
    any punctuation, singular or plural, and no other word of it names another structure: "liver",
    "liver segment 3" and "left liver lobe" are the liver, "liver vessels" is nothing known. The
    last matching rule wins: "liver tumour" is the tumour, "kidney tumour" is none.
    """
    if names_other_structure(name, rules):
        return None
    words = _words(name)
    matching = [rule.name for rule in rules if _alias_places(words, rule)]
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
    meanings: Mapping[int, str] | None = None,
) -> tuple[Segment, ...]:
    """Segments with their roles, in the order of ``found``; those of no role keep ``None``.

    1. ``overrides``, role to segment names or label numbers, decide for their roles alone.
    2. The other roles go by name (:func:`role_of_name`); where a name means nothing known, by what
       coded terminology calls the segment (``meanings``, text by label).
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
        if role is None and not (name and names_other_structure(name, rules)):
            role = role_of_name((meanings or {}).get(label, ""), rules)
        if role is not None and role not in overrides:
            roles.setdefault(label, role)
    segments = tuple(
        Segment(label, name or roles.get(label) or f"label {label}", roles.get(label))
        for label, name in found
    )
    check_required_roles(
        segments, rules, "Add it, or say which segment it is: {role}=NAME or {role}=LABEL."
    )
    return segments


def check_required_roles(
    segments: Sequence[Segment], rules: Sequence[RoleRule], advice: str
) -> None:
    """Refuse segments among which a required role is missing; ``advice`` may name {role}.

    Raises
    ------
    InputError : the first such role, and what there is.
    """
    for rule in rules:
        if rule.required and not any(s.role == rule.name for s in segments):
            there = _describe([(s.label, s.name) for s in segments])
            raise InputError(
                f"The segmentation has no {rule.name}. It has {there}.",
                advice.format(role=rule.name),
            )
