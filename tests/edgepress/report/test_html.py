"""report.html in a real Chromium: whole, without network and script, readable on a telephone, by keyboard, on paper."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgepress.report.html import to_html
from edgepress.report.overview import report_document
from tests.browser import clean_page
from tests.edgepress.conftest import typed

HOSTILE = '<script>window.hit = 1</script><img src=x onerror="window.hit = 1">"&\'`'
CONTRAST = """() => {
  const parse = (c) => { const n = c.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => { const f = [r, g, b].map((v) => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > 0) return c; } throw new Error("no background"); };
  const bad = []; let seen = 0;
  const judge = (e, colour, least) => { const [a, b] = [light(parse(colour)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); seen += 1;
    if (ratio < least) bad.push([e.outerHTML.slice(0, 80), colour, ratio]); };
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (own) judge(e, e.namespaceURI.endsWith("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color, 4.5);
    if (e.matches("svg .mark, svg .line, svg .axis, svg .bound")) judge(e, getComputedStyle(e).stroke, 3);
  }
  return { bad, seen };
}"""


@pytest.fixture(scope="module")
def report(run_folder: Path) -> dict[str, Any]:
    return json.loads((run_folder / "report.json").read_text())


def opened(page: Any, file: Path) -> None:
    page.goto(file.as_uri())


def written(folder: Path, report: dict[str, Any]) -> Path:
    file = folder / "report.html"
    file.write_text(to_html(report_document(typed(report))), encoding="utf-8")
    return file


def test_every_section_and_plot_is_there_and_the_verdict_is_first(browser, run_folder, report):
    with clean_page(browser) as page:
        opened(page, run_folder / "report.html")
        first = page.locator("h1, h2, .word").all_inner_texts()
        assert first[1].split()[-1] == report["verdict"].upper()
        assert first[2:] == [
            "From teacher to engines",
            "Accuracy against latency",
            "Labels",
            "Training",
            "INT8",
            "Reliability",
            "What changed",
            "Device",
            "How to reproduce",
        ]
        plots = page.locator("figure").all()
        # mAP against latency and size, labels, four loss terms (also simkd), val mAP, INT8, reliability.
        assert len(plots) == 10
        for plot in plots:
            box = plot.locator("svg").bounding_box()
            assert box["width"] > 200
            assert box["height"] > 100
        text = page.locator("main").inner_text()
        for row in report["engines"]:
            assert row["engine"] in text
            assert f"{100 * row['mAP']:.2f}" in text
    assert (run_folder / "report.html").stat().st_size < 2_000_000


def test_the_pareto_plot_has_a_mark_a_model_and_a_mark_further_left_is_faster(browser, run_folder, report):
    with clean_page(browser) as page:
        opened(page, run_folder / "report.html")
        plot = page.locator("#accuracy-against-latency ~ figure").first
        marks = plot.locator(".mark").count() - plot.locator("text", has_text=re.compile("^(torch|.* engine)$")).count()
        assert marks == len(report["engines"])
        names = plot.locator("text").all_text_contents()
        for number, row in enumerate(report["engines"], 1):
            assert f"{number}  {row['engine']}" in names
    times = {row["engine"]: row["p50_ms"] for row in report["engines"]}
    alt = re.search(r'aria-label="(Accuracy against[^"]*)"', (run_folder / "report.html").read_text())
    assert alt is not None
    for name, p50 in times.items():
        assert f"{name} {100 * next(r['mAP'] for r in report['engines'] if r['engine'] == name):.2f}" in alt.group(1)
        assert f"at {p50:.3g} ms" in alt.group(1)


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_telephone_and_on_a_wide_screen(browser, run_folder, width, scheme):
    with clean_page(browser, width=width) as page:
        page.emulate_media(color_scheme=scheme)
        opened(page, run_folder / "report.html")
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        # Nothing makes the page itself scroll sideways; wide tables scroll within.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = page.evaluate(CONTRAST)
        assert found["bad"] == []
        assert found["seen"] > 100
        small = page.evaluate(
            "[...document.querySelectorAll('svg text')].filter((e) => e.getBoundingClientRect().height < 9).length"
        )
        assert small == 0


def test_the_contrast_test_would_see_a_grey_text(browser, run_folder):
    with clean_page(browser) as page:
        opened(page, run_folder / "report.html")
        page.locator("h1").evaluate("(e) => { e.style.color = '#999'; }")
        assert len(page.evaluate(CONTRAST)["bad"]) == 1


def test_by_keyboard_everything_is_reached_and_every_picture_has_words(browser, run_folder):
    with clean_page(browser) as page:
        opened(page, run_folder / "report.html")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        reached = set()
        for _ in range(80):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.tagName"))
            if page.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
                page.keyboard.press("Enter")
        assert reached >= {"A", "DIV", "SUMMARY", "PRE"}
        assert page.locator("details:not([open])").count() == 0
        for image in page.locator("img").all():
            assert image.get_attribute("alt")
        for plot in page.locator("svg").all():
            outer = plot.locator("xpath=..")
            assert outer.get_attribute("role") == "img"
            assert len(outer.get_attribute("aria-label")) > 30
        assert page.locator("th:not([scope])").count() == 0


def test_on_paper_what_is_folded_is_printed_and_links_are_not(browser, run_folder):
    with clean_page(browser, width=794) as page:
        opened(page, run_folder / "report.html")
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator("nav").is_hidden()
        for folded in page.locator("details pre, details table").all():
            assert folded.bounding_box()["height"] > 20
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.pdf(format="A4")[:5] == b"%PDF-"


def planted(report: dict[str, Any]) -> dict[str, Any]:
    """A report in which every text that may come from a data set, a file name or a recipe is markup."""
    hurt = copy.deepcopy(report)
    hurt["recipe"]["data"] = hurt["data"]["root"] = HOSTILE
    hurt["student"]["backbone"] = hurt["machine"]["processor"] = HOSTILE
    flip = {"label": HOSTILE, "before": 0.2, "after": 0.8, "answer": True, "right": False}
    shown = {
        "index": 0,
        "picture": HOSTILE,
        "truth": [HOSTILE],
        "before": [],
        "after": [[HOSTILE, 0.8]],
        "flips": [flip],
    }
    found = {"engine": "onnx-fp32", "finetuned": False, "decisions": 9, "flipped": 1, "right": 0, "pictures": 1}
    hurt["flips"] = {**found, "shown": [{**shown, "index": 0, "jpeg": '" onerror="window.hit = 1'}]}
    for row in hurt["engines"]:
        row["judgement"] = {"verdict": "fail", "reasons": [{"kind": "drop", "text": HOSTILE}]}
        row["labels"][0]["label"] = HOSTILE
        row["bench"]["cautions"] = [HOSTILE]
        if row.get("int8"):
            row["int8"]["sensitivity"][0]["node"] = HOSTILE
    hurt["training"][0]["terms"][HOSTILE] = hurt["training"][0]["val_mAP"]
    return hurt


def test_markup_in_labels_file_names_and_recipes_is_shown_as_text(browser, report, tmp_path):
    file = written(tmp_path, planted(report))
    assert "<script" not in file.read_text()
    page = browser.new_page()
    opened(page, file)
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 1
    assert page.locator("h1").inner_text().startswith(HOSTILE)
    assert page.locator(".gallery h3").inner_text() == HOSTILE
    page.close()


def test_a_script_that_slipped_through_would_not_run(browser, run_folder, tmp_path):
    file = tmp_path / "report.html"
    hurt = (run_folder / "report.html").read_text().replace("<h1>", "<script>window.hit = 1</script><h1>")
    file.write_text(hurt)
    page = browser.new_page()
    opened(page, file)
    assert page.locator("script").count() == 1
    assert page.evaluate("window.hit") is None
    page.close()
