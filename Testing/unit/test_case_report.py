"""The report of a case: everything escaped, no folder shown, every state said in words."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import CLASSES, PNG, PROVENANCE, SIMULATED, TITLES, make_case, region

from REACTKDLib import __version__
from REACTKDLib import case_report_words as words
from REACTKDLib.atomic_file import atomic_file
from REACTKDLib.case_report import case_report_html, pictures_of_scene, write_case_report
from REACTKDLib.case_report_skins import BrowserSkin
from REACTKDLib.cli import main
from REACTKDLib.errors import InputError, OutputError
from REACTKDLib.report import SCENE, write_result
from REACTKDLib.types import RESEARCH_USE, CaseResult, ClassInfo, Notice, PredictionSet

EVIL = '<script>alert("x")</script>&\'"'


class Reader(HTMLParser):
    """Tags with attributes, text, tables as rows of cells; every open tag must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.rows, self._cell = "", [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.rows[-1].append(self._cell)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.text += data
            self._cell += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(case: CaseResult, pictures=None, titles=TITLES, **options: Any) -> Reader:
    return Reader(case_report_html(case, pictures or {}, titles, **options))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


both = pytest.mark.parametrize("simple", [False, True])


# Safety.


@both
def test_everything_is_escaped(simple):
    part, share = region(2, "lesion", 1.0)
    evil = dataclasses.replace(part, name=EVIL)
    inputs = [{"role": "ct", "path": f"/x/{EVIL.replace('/', '')}.nii", "sha256": EVIL}]
    case = make_case(
        (evil, share),
        case_id=EVIL,
        task_title=EVIL,
        classes=tuple(ClassInfo(c.name, EVIL) for c in CLASSES),
        notices=(Notice("x", "info", EVIL), Notice(words.SIMULATED_MODEL, "warning", EVIL)),
        scheme=EVIL,
        provenance={
            **PROVENANCE,
            "model": dict.fromkeys(("name", "version", "weights_sha256"), EVIL),
            "inputs": inputs,
            "segments": [{"label": 1, "name": EVIL, "role": EVIL}],
            "time_utc": EVIL,
            "device": EVIL,
            "libraries": {EVIL: EVIL},
        },
    )
    reader = read(case, {EVIL: PNG}, {"ct": EVIL}, simple=simple)
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in reader.tags}
    assert reader.text.count(EVIL) >= 18
    known = {"alt", "class", "src", "style", "lang", "charset", "name", "content", "scope", "width"}
    known |= {"role", "aria-label", "aria-hidden", "tabindex"}
    known |= {"align", "bgcolor", "cellspacing", "cellpadding"} if simple else set()
    assert {key for _, attributes in reader.tags for key in attributes} <= known
    assert reader.all("img")[0]["alt"] == f"Picture: {EVIL}"


def test_signs_that_no_file_may_hold_are_replaced(tmp_path):
    case = make_case(case_id="a\x00b\udcffc")
    write_case_report(tmp_path / "report.html", case, {}, TITLES)
    assert "Case <strong>a\ufffdb\ufffdc" in (tmp_path / "report.html").read_text(encoding="utf-8")


@both
def test_no_folder_is_shown(simple):
    text = read(make_case(), simple=simple).text
    assert "DOE" not in text
    for shown in ("folder of images", "liver.seg.nrrd", "pet.nii.gz", "01" * 32, "02" * 32):
        assert shown in text


@both
def test_nothing_is_fetched(simple):
    html = case_report_html(make_case(), {"a": PNG, "b": PNG, "c": PNG}, TITLES, simple=simple)
    images = Reader(html).all("img")
    assert len(images) == 3
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert all(image["alt"] for image in images)
    assert not re.search(r"https?:|url\(|@import", html)


def test_what_is_no_picture_is_refused():
    with pytest.raises(InputError, match="no PNG"):
        case_report_html(make_case(), {"caption": b"<svg>"}, TITLES)


# What is said.


@both
def test_it_says_what_it_may_be_used_for_and_who_made_it(simple):
    reader = read(make_case(), simple=simple)
    text = plain(reader.text)
    assert text.strip().startswith(RESEARCH_USE)
    simulated, answer = text.index(SIMULATED.text), text.index("Most probable")
    assert simulated < answer
    assert text.count(SIMULATED.text) == 1
    assert answer < text.index("Warning: Unusual.") < text.index("Note: Not given.")
    assert "Case case 7, from contrast CT, pet_fdg" in text
    assert "grade 1.2 SHA-256 " + "ab" * 32 in text
    assert "2026-01-02 03:04:05 UTC on cpu" in text
    assert "Leber (label 1, liver)" in text
    assert "REACTKD 0.1.0, torch 2.9" in text


def test_a_model_of_real_images_has_no_such_warning():
    text = read(make_case(simulated_model=False, notices=())).text
    assert "simulated" not in text
    assert RESEARCH_USE in text
    html = case_report_html(make_case(notices=()), {}, TITLES)
    assert "trained on simulated images only" in html  # without its notice too


@pytest.mark.parametrize(
    ("possible", "headline", "sentence"),
    [
        (("poorly",), "Most probable: poorly differentiated (72 %)", "coverage): poorly diff"),
        (("poorly", "well"), "Most probable", "(90 % coverage): poorly differentiated, well diff"),
        ((), "The model abstains", "At 90 % coverage no class fits"),
        (("well", "moderately", "poorly"), "The model abstains", "can exclude no class"),
        (None, "Most probable: poorly differentiated (72 %)", "was not calibrated"),
    ],
)
@both
def test_every_kind_of_prediction_set_is_said(possible, headline, sentence, simple):
    chosen = None if possible is None else PredictionSet(possible, 0.9)
    html = case_report_html(make_case(prediction_set=chosen), {}, TITLES, simple=simple)
    text = plain(Reader(html).text)
    assert headline in text
    assert sentence in text
    # Nothing stands out among the bars where there is no answer.
    assert (html.count("#1f5fa8") == 0) == headline.startswith("The model abstains")


def test_each_class_has_its_probability_and_bar():
    reader = read(make_case())
    shown = [plain(" ".join(row)).strip() for row in reader.rows[1:4]]
    assert shown == [
        "poorly differentiated 72 %",
        "moderately differentiated 28 %",
        "well differentiated < 1 %",
    ]
    widths = re.findall(r"width:([\d.]+)%;border-color", str(reader.tags))
    assert [float(w) for w in widths] == [72.0, 27.9, 0.1]


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0 %"),
        (0.004, "< 1 %"),
        (0.006, "1 %"),
        (0.994, "99 %"),
        (0.999, "> 99 %"),
        (1, "100 %"),
    ],
)
def test_what_is_not_certain_is_never_0_or_100_percent(fraction, text):
    assert plain(words.percent(fraction)) == text


@both
def test_regions_are_ranked_and_add_up(simple):
    case = make_case()
    reader = read(case, simple=simple)
    rows = [[plain(c).strip(" \N{BLACK SQUARE}") for c in r] for r in reader.rows if len(r) == 7]
    assert rows == [
        list(words.COLUMNS),
        ["Lesion 2", "lesion", "20.0", "-5", "25", "+1.500", "+0.0750"],
        ["Parenchyma 1", "parenchyma", "10.0", "-5", "", "-0.250", "-0.0250"],
        [words.OUTSIDE, "outside", "", "", "", "+0.050", ""],
    ]
    assert sum(float(row[5]) for row in rows[1:]) == pytest.approx(words.sum_of_shares(case))
    text = plain(reader.text)
    assert "Sum of all shares +1.300, with the reference case's contrast -0.400: +0.900." in text
    assert "contrast is +0.900: the shares explain all of it." in text
    assert "What speaks for “poorly differentiated”" in text


def test_shares_that_do_not_add_up_are_said():
    assert "DO NOT ADD UP" in read(make_case(contrast=2.0)).text


def test_two_classes_no_lesion_nothing_known():
    case = make_case(
        region(1, "organ", 0.0),
        classes=CLASSES[:2],
        probabilities={"well": 0.6, "moderately": 0.4},
        target="well",
        prediction_set=PredictionSet(("well", "moderately"), 0.9),
        provenance={},
        notices=(),
    )
    for simple in (False, True):
        reader = read(case, titles={}, simple=simple)
        assert "abstains" in reader.text
        assert "Pictures" not in reader.text
        assert "+0.000" in reader.text
        assert "Options" in reader.text


# Form.


def test_it_can_be_read_by_all():
    reader = read(make_case(), {"a": PNG})
    assert reader.all("html") == [{"lang": "en"}]
    assert [name for name, _ in reader.tags if re.fullmatch(r"h\d", name)] == ["h1", *["h2"] * 4]
    assert all(a["scope"] in ("row", "col") for a in reader.all("th"))
    assert len(reader.all("main")) == len(reader.all("footer")) == 1
    assert not {"bgcolor", "align", "cellpadding"} & {k for _, a in reader.tags for k in a}


def _luminance(color: str) -> float:
    parts = [int(color[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_text_stands_out_from_its_ground():
    """WCAG 2.1, AA: 4.5 for text; its lightest ground is white, its darkest that of a warning."""
    colors = set(re.findall(r"[{;\n]color:(#\w{6})", BrowserSkin.style))
    assert len(colors) >= 3
    for ground in ("#ffffff", *re.findall(r"background:(#\w{6})", BrowserSkin.style)):
        for color in colors:
            assert (_luminance(ground) + 0.05) / (_luminance(color) + 0.05) >= 4.5


def test_the_simple_report_has_only_what_qts_documents_can_draw():
    """Rich text of Qt: no figures, no grids, no sections."""
    reader = read(make_case(), {"a": PNG, "b": PNG, "c": PNG}, simple=True)
    drawn = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table"}
    drawn |= {"caption", "thead", "tbody", "tr", "th", "td", "img", "br", "span", "strong"}
    assert {name for name, _ in reader.tags} <= drawn


# Files.


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_case_report(path, make_case(), {}, TITLES)
    before = path.read_bytes()
    assert before.decode("utf-8") == case_report_html(make_case(), {}, TITLES)
    with pytest.raises(OutputError, match="exists"):
        write_case_report(path, make_case(case_id="other"), {}, TITLES)
    with pytest.raises(ZeroDivisionError), atomic_file(path, overwrite=True) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(OutputError, match="folder"):
        write_case_report(path.parent, make_case(), {}, TITLES, overwrite=True)
    with pytest.raises(OutputError, match="cannot be written"):
        write_case_report(path / "below.html", make_case(), {}, TITLES)
    assert path.read_bytes() == before
    write_case_report(path, make_case(case_id="other"), {}, TITLES, overwrite=True)
    assert path.read_bytes() != before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_nothing(small_disk):
    with pytest.raises(OutputError, match="cannot be written"):
        write_case_report(small_disk / "report.html", make_case(), {"a": PNG * 2000}, TITLES)
    assert list(small_disk.iterdir()) == []


def test_the_command_writes_a_result_with_its_pictures(tmp_path, capsys):
    result, output = write_result(make_case(), tmp_path / "result"), tmp_path / "report.html"
    (result / SCENE).mkdir()
    for name in ("3d", "axial", "overview"):
        (result / SCENE / f"{name}.png").write_bytes(PNG)
    command = ["report", str(result), "--output", str(output)]
    assert main(command) == 0
    assert str(output) in capsys.readouterr().out
    reader = Reader(output.read_text(encoding="utf-8"))
    captions = [image["alt"] for image in reader.all("img")]
    assert ["Axial" in captions[0], "graph" in captions[1], len(captions)] == [True, True, 2]
    assert list(pictures_of_scene(result / SCENE)) == [
        c.removeprefix("Picture: ") for c in captions
    ]
    assert main(command) == 5
    assert main([*command, "--overwrite"]) == 0
    assert main(["report", str(result), "--output", str(tmp_path / "report.pdf")]) == 2
    assert main(["report", str(tmp_path), "--output", str(tmp_path / "other.html")]) == 3


def test_the_command_knows_the_titles_of_a_shipped_model(tmp_path):
    model = {"name": "hcc-grade3-simulated", "version": "0", "weights_sha256": ""}
    case = make_case(provenance={**PROVENANCE, "model": model})
    result = write_result(case, tmp_path / "result")
    assert main(["report", str(result), "--output", str(tmp_path / "report.html")]) == 0
    assert "FDG-PET" in (tmp_path / "report.html").read_text(encoding="utf-8")


# In a browser.


@pytest.fixture(scope="module")
def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


def normal_case() -> CaseResult:
    """As many regions as a patient with three lesions has."""
    parts = [region(n, k, 0.1) for n in (1, 2, 3) for k in ("lesion", "rim")]
    return make_case(*parts, *(region(n, "parenchyma", 0.1) for n in range(1, 9)))


def tall_png() -> bytes:
    """Of the shape of a view under its title and notices."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (100, 121), 60).save(file, "PNG")
    return file.getvalue()


def headless(browser: str, folder: Path, page: Path, *options: str) -> str:
    """What a Chromium without a window says of a page."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("paper", ["A4", "letter"])
def test_a_normal_case_prints_on_two_pages(paper, browser, tmp_path):
    case = normal_case()
    html = case_report_html(case, dict.fromkeys("abcd", tall_png()), TITLES)
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(html.replace("@page{", f"@page{{size:{paper};"), encoding="utf-8")
    headless(browser, tmp_path, page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) == 2
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) is not installed: the pages' texts are not read")
    read = subprocess.run(
        ["pdftotext", "-layout", str(pdf), "-"], capture_output=True, encoding="utf-8", check=True
    )
    pages = [" ".join(page.split()) for page in read.stdout.split("\f")[:2]]
    for number, text in enumerate(pages, start=1):
        assert RESEARCH_USE in text
        assert re.search(rf"\b{number} ?/ ?2\b", text)
    assert " ".join(words.headline(case).split()) in pages[0]
    for each in case.regions:  # none is cut between the pages
        assert each.name in read.stdout
    assert f"REACTKD {__version__}" in pages[1]


#: Asks the page itself: what is wider than the window, and what is cut.
OVERFLOW = """<script>
const wide = [...document.querySelectorAll('body *')].filter(
  e => !e.closest('.wide') && e.getBoundingClientRect().right > window.innerWidth + 1);
document.body.setAttribute('data-overflow', wide.map(e => e.tagName).join(' ') || 'none');
document.body.setAttribute('data-inner', window.innerWidth);
</script></body>"""


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_runs_out_of_the_window(width, browser, tmp_path):
    """A table wider than the window scrolls in its own frame."""
    page = tmp_path / "report.html"
    html = case_report_html(normal_case(), dict.fromkeys("abcd", PNG), TITLES)
    page.write_text(html.replace("</body>", OVERFLOW), encoding="utf-8")
    dom = headless(browser, tmp_path, page, f"--window-size={width},900", "--dump-dom")
    assert f'data-inner="{width}"' in dom
    assert 'data-overflow="none"' in dom


def test_the_page_on_a_screen_is_not_blank_and_says_its_use_in_large_letters(browser, tmp_path):
    from PIL import Image

    page, shot = tmp_path / "report.html", tmp_path / "shot.png"
    page.write_text(case_report_html(normal_case(), {}, TITLES), encoding="utf-8")
    headless(browser, tmp_path, page, "--window-size=900,1200", f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("L"))
    assert pixels.shape == (1200, 900)
    dark = (pixels < 100).mean(axis=1)
    assert 0.01 < dark.mean() < 0.3
    assert (dark > 0).mean() > 0.4  # text all the way down
    # The frame of the intended use: its border is a dark line over nearly the whole width.
    borders = np.flatnonzero(dark > 0.8)
    assert borders.size and borders[0] < 100
