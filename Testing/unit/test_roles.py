"""Roles of segments: by choice, by name, by known label, and never by guess."""

from __future__ import annotations

import pytest
from images import LIVER_RULES
from random_models import shipped_specification

from REACTKDLib.errors import InputError
from REACTKDLib.model_package import spec_from_section
from REACTKDLib.roles import RoleRule, assign_roles, role_of_name


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Liver", "liver"),
        ("LIVER ", "liver"),
        ("liver_left-lobe", "liver"),
        ("Hepatic Parenchyma", "liver"),
        ("hepatic_parenchyma 1", "liver"),
        ("liver_segment_3", "liver"),
        ("Liver segments", "liver"),
        ("left liver lobe (II, III)", "liver"),
        ("liver_portal_venous_mask", "liver"),
        ("hepatic vein", None),
        ("hepatic_vessels", None),
        ("liver_vessels", None),
        ("Liver vessel", None),
        ("LiverVeins", None),
        ("portal_vein_and_splenic_vein", None),
        ("liver cyst", None),
        ("liver without tumor", None),
        ("liver hilum", None),
        ("Tumor", "lesion"),
        ("tumour-2", "lesion"),
        ("Tumors", "lesion"),
        ("masses", "lesion"),
        ("HCC", "lesion"),
        ("HCC1", "lesion"),
        ("liver_tumor", "lesion"),
        ("liver tumour", "lesion"),
        ("LiverLesion", "lesion"),
        ("liver_lesions", "lesion"),
        ("Hepatic lesion no. 2", "lesion"),
        ("HCC nodule", "lesion"),
        ("hepatocellular carcinoma of the liver", None),  # no alias of these rules
        ("kidney tumor", None),
        ("lymph node metastases", None),
        ("tumor thrombus", None),
        ("peritumoral rim", None),
        ("deliverable", None),
        ("spleen", None),
        ("kidney_left", None),
        ("Läsion", None),
        ("", None),
    ],
)
def test_a_name_means_a_role_by_whole_words(name, role):
    assert role_of_name(name, LIVER_RULES) == role


def test_an_alias_may_hold_a_word_that_names_a_structure_elsewhere():
    rules = (
        RoleRule("kidney", True, ("kidney",)),
        RoleRule("lesion", False, ("tumour", "renal cell carcinoma")),
    )
    assert role_of_name("kidney_left", rules) == "kidney"
    assert role_of_name("Renal cell carcinoma", rules) == "lesion"
    assert role_of_name("liver tumour", rules) is None


def test_the_oedema_around_a_tumour_is_no_tumour():
    rules = (RoleRule("lesion", True, ("GTV", "tumour")),)
    assert role_of_name("GTV_Mass", rules) == "lesion"
    assert role_of_name("GTV_Edema", rules) is None
    assert role_of_name("tumour oedema", rules) is None


def test_the_shipped_aliases_leave_only_the_liver_of_a_whole_body_segmentation():
    rules = spec_from_section(shipped_specification()).role_rules
    names = """
        spleen kidney_right kidney_left gallbladder stomach pancreas adrenal_gland_right duodenum
        colon lung_upper_lobe_left esophagus inferior_vena_cava hepatic_vessels liver_vessels
        portal_vein_and_splenic_vein vertebrae_L1 rib_left_4 heart aorta liver liver_tumor
    """
    found = list(enumerate(names.split(), start=1))
    roles = {s.name: s.role for s in assign_roles(found, rules) if s.role is not None}
    assert roles == {"liver": "liver", "liver_tumor": "lesion"}


def test_named_segments_keep_label_name_and_order():
    segments = assign_roles([(3, "spleen"), (7, "Liver"), (2, "HCC")], LIVER_RULES)
    assert [(s.label, s.name, s.role) for s in segments] == [
        (3, "spleen", None),
        (7, "Liver", "liver"),
        (2, "HCC", "lesion"),
    ]


def test_several_segments_may_share_a_role():
    segments = assign_roles([(1, "liver"), (2, "lesion 1"), (3, "lesion 2")], LIVER_RULES)
    assert [s.role for s in segments] == ["liver", "lesion", "lesion"]


def test_known_labels_without_names_get_their_roles():
    segments = assign_roles([(1, None), (2, None)], LIVER_RULES)
    assert [(s.name, s.role) for s in segments] == [("liver", "liver"), ("lesion", "lesion")]


def test_an_unknown_label_without_name_is_not_guessed():
    with pytest.raises(InputError, match=r"labels 1, 6 without names.*1 liver, 2 lesion") as error:
        assign_roles([(1, None), (6, None)], LIVER_RULES)
    assert "liver=LABEL" in error.value.advice


def test_rules_without_default_labels_need_explicit_roles():
    with pytest.raises(InputError, match="known by themselves are none"):
        assign_roles([(1, None)], (RoleRule("kidney", True, ()),))


def test_a_label_override_assumes_nothing_about_the_other_labels():
    # In this organ map 2 is not a lesion, although it is the lesion's default label.
    segments = assign_roles([(1, None), (2, None), (6, None)], LIVER_RULES, {"liver": "6"})
    assert [(s.name, s.role) for s in segments] == [
        ("label 1", None),
        ("label 2", None),
        ("liver", "liver"),
    ]


def test_an_override_replaces_the_name_rule_of_its_role_alone():
    found = [(1, "Liver"), (2, "Lebermaske"), (3, "Tumor")]
    segments = assign_roles(found, LIVER_RULES, {"liver": ("lebermaske",)})
    assert [s.role for s in segments] == [None, "liver", "lesion"]


def test_an_override_may_name_several_segments():
    found = [(1, "right"), (2, "left"), (3, "x")]
    segments = assign_roles(found, LIVER_RULES, {"liver": ("right", "2")})
    assert [s.role for s in segments] == ["liver", "liver", None]


def test_an_override_prefers_a_name_to_a_label():
    segments = assign_roles([(1, "2"), (2, "Liver")], LIVER_RULES, {"lesion": "2"})
    assert [s.role for s in segments] == ["lesion", "liver"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"liver": "kidney"}, r"no segment 'kidney' for the role liver.*1 \"Liver\", 2 \"Tumor\""),
        ({"lesion": "9"}, "no segment '9'"),
        ({"spleen": "Liver"}, "no role 'spleen'.*liver, lesion"),
        ({"liver": "Liver", "lesion": "Liver"}, "two roles, liver and lesion"),
    ],
)
def test_an_override_that_cannot_hold_is_an_error(overrides, message):
    with pytest.raises(InputError, match=message):
        assign_roles([(1, "Liver"), (2, "Tumor")], LIVER_RULES, overrides)


@pytest.mark.parametrize("found", [[(1, "spleen"), (2, "HCC")], [(2, None)]])
def test_a_required_role_must_be_there(found):
    with pytest.raises(InputError, match="has no liver"):
        assign_roles(found, LIVER_RULES)


def test_an_optional_role_may_be_missing():
    assert [s.role for s in assign_roles([(1, "Liver")], LIVER_RULES)] == ["liver"]


def test_no_segment_at_all_is_an_error():
    with pytest.raises(InputError, match="empty"):
        assign_roles([], LIVER_RULES)


def test_a_long_listing_is_cut():
    found = [(n, f"structure {n}") for n in range(1, 105)]
    with pytest.raises(InputError, match="and 64 more"):
        assign_roles(found, LIVER_RULES)
