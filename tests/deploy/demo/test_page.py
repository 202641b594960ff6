"""The page in a real Chromium: right labels, engines in turn, what is looked at, hostile pictures, keyboard, contrast.

Every page here must log no error and ask nothing of another host (`tests.browser.clean_page`).
"""

from __future__ import annotations

import base64
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.deploy.demo.gate import Gate
from edgepress.deploy.tag.tagger import open_tagger
from edgepress.multilabel.pictures import read_picture
from tests.browser import clean_page
from tests.deploy.demo.conftest import running
from tests.nasty import readable, refused

pytest.importorskip("playwright", reason="playwright is not installed; it drives the browser")
WAIT = 20_000
CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@pytest.fixture(scope="module")
def picture(splits) -> Path:
    """A picture with three labels or more."""
    chosen = next(index for index, target in enumerate(splits.test.targets) if 3 <= target.sum() < 5)
    return Path(splits.test.paths[chosen])


@pytest.fixture(scope="module")
def tags(run, picture):
    """By engine, what `edgepress predict` says of the picture."""

    def of(engine: str, image=picture) -> list[str]:
        with open_tagger(run / engine) as tagger:
            return tagger.tags(tagger.predict(image))

    return of


def opened(page, demo) -> None:
    page.goto(demo.url)
    page.wait_for_selector("#giver [data-drop]", timeout=WAIT)


def give(page, file) -> None:
    page.set_input_files("#demo-file", file)


def answered(page, count: int = 1) -> None:
    page.wait_for_function(f"document.querySelectorAll('#answer .latency tbody tr').length === {count}", timeout=WAIT)


def yes(page, column: int = 0) -> list[str]:
    """Labels that the page says yes to, in its order."""
    rows = page.locator("#answer table.labels").first.locator("tbody tr")
    cells = [(row.locator("button").inner_text(), row.locator("td").nth(column).inner_text()) for row in rows.all()]
    assert all(("✓ yes" in text) != ("no" in text.split()) for _, text in cells)
    return [label for label, text in cells if "✓ yes" in text]


def model_ms(page, engine: str) -> float:
    return float(page.locator(f'#answer .latency th:text-is("{engine}") ~ td[data-model-ms]').inner_text())


def asked(page, engine: str) -> None:
    """Wait for the answer of another engine."""
    page.locator(f'#answer .latency th:text-is("{engine}")').wait_for(timeout=WAIT)


def choose(page, group: str, name: str) -> None:
    page.select_option(f"#demo-{group}", name)


def test_a_picture_its_labels_and_another_engine(demo, browser, picture, tags, artifacts):
    with clean_page(browser, 1440) as page:
        opened(page, demo)
        give(page, picture)
        answered(page)
        assert sorted(yes(page)) == sorted(tags("onnx-fp32"))
        first = model_ms(page, "onnx-fp32")
        assert first > 0
        alt = page.locator("#picture img").get_attribute("alt")
        assert picture.name in alt
        assert all(tag in alt for tag in tags("onnx-fp32"))
        for engine in ("onnx-int8-onnxruntime", "openvino-fp32", "student"):
            choose(page, "engine", engine)
            asked(page, engine)
            assert sorted(yes(page)) == sorted(tags(engine))
            assert model_ms(page, engine) != first
        page.screenshot(path=artifacts / "demo-answer-1440.png", full_page=True)


def test_two_engines_side_by_side_and_the_one_that_is_not_here(demo, browser, picture, tags):
    with clean_page(browser) as page:
        opened(page, demo)
        give(page, picture)
        answered(page)
        choose(page, "beside", "onnx-int8-onnxruntime")
        answered(page, 2)
        assert sorted(yes(page, 0)) == sorted(tags("onnx-fp32"))
        assert sorted(yes(page, 1)) == sorted(tags("onnx-int8-onnxruntime"))
        assert model_ms(page, "onnx-fp32") != model_ms(page, "onnx-int8-onnxruntime")
        page.locator("#refused summary").click()
        assert "openvino-broken: " in page.locator("#refused li").inner_text()
        assert "missing from the bundle" in page.locator("#refused li").inner_text()


def test_what_the_label_that_is_pressed_is_read_from(demo, browser, picture, splits, artifacts):
    from edgepress.deploy.engines.attention import attention_of

    with clean_page(browser, 1440) as page:
        opened(page, demo)
        give(page, picture)
        answered(page)
        label = yes(page)[-1]
        page.get_by_role("button", name=label, exact=True).click()
        image = page.locator("#seen img")
        image.wait_for(timeout=WAIT)
        tagger = demo.engines.taggers["onnx-fp32-attention"]
        attention = attention_of(tagger.engine, tagger.engine.preprocess.load(picture)[None])[0]
        grid = attention[splits.test.labels.names.index(label)]
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        place = f"{(column + 0.5) / grid.shape[1]:.0%} from the left and {(row + 0.5) / grid.shape[0]:.0%} from the top"
        assert image.get_attribute("alt") == f"Where onnx-fp32-attention looks for {label}: most at {place}."
        assert page.locator("#answer button[aria-pressed=true]").all_inner_texts() == [label]
        page.screenshot(path=artifacts / "demo-look-1440.png", full_page=True)


def test_hostile_pictures_are_refused_on_the_page(demo, browser, picture, artifacts, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with clean_page(browser) as page:
        opened(page, demo)
        for name, (data, said) in refused(picture.read_bytes()).items():
            give(page, {"name": name, "mimeType": "image/jpeg", "buffer": data})
            page.locator("#answer [role=alert]", has_text=f"{name}: {said}").wait_for(timeout=WAIT)
            assert page.locator("#picture img").count() == 0
        page.screenshot(path=artifacts / "demo-refused.png")
        give(page, {"name": "empty.jpg", "mimeType": "image/jpeg", "buffer": b""})
        page.locator("#giver [role=alert]", has_text="is empty").wait_for(timeout=WAIT)
        with (tmp_path / "large.jpg").open("wb") as file:
            file.truncate(20_000_001)
        give(page, tmp_path / "large.jpg")
        page.locator("#giver [role=alert]", has_text="taken up to 20 MB").wait_for(timeout=WAIT)
        assert page.evaluate("window.harmed") is None
        give(page, picture)  # the server lives
        answered(page)
        assert not page.locator("#giver [data-error]").is_visible()
    # A 60,000 x 60,000 picture takes 10.8 GB.
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, f"{grown:,} kB"


def test_unusual_pictures_are_answered(demo, browser, picture, tags):
    with clean_page(browser) as page:
        opened(page, demo)
        for name, data in readable(read_picture(picture)).items():
            give(page, {"name": name, "mimeType": "image/jpeg", "buffer": data})
            page.locator("#picture figcaption", has_text=name).wait_for(timeout=WAIT)
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert sorted(yes(page)) == sorted(tags("onnx-fp32", cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)))


def test_the_last_of_pictures_given_in_a_hurry_is_answered(demo, browser, picture, splits):
    with clean_page(browser) as page:
        opened(page, demo)
        for number, file in enumerate(splits.test.paths[:4]):
            give(page, {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": Path(file).read_bytes()})
        give(page, picture)
        page.locator("#picture figcaption", has_text=picture.name).wait_for(timeout=WAIT)
        page.wait_for_timeout(500)
        assert picture.name in page.locator("#picture figcaption").inner_text()


def test_a_picture_whose_upload_took_longer_does_not_replace_the_next_one(demo, browser, picture, splits):
    with clean_page(browser) as page:
        opened(page, demo)
        held = []
        page.route("**/picture?name=slow.jpg", lambda route: held.append(route))  # playwright takes no builtin
        give(page, {"name": "slow.jpg", "mimeType": "image/jpeg", "buffer": Path(splits.test.paths[0]).read_bytes()})
        give(page, picture)
        page.locator("#picture figcaption", has_text=picture.name).wait_for(timeout=WAIT)
        with page.expect_response("**/picture?name=slow.jpg"):
            held[0].continue_()
        page.wait_for_timeout(500)
        assert picture.name in page.locator("#picture figcaption").inner_text()


def test_a_busy_server_is_told_on_the_page(engines, browser, picture, artifacts):
    with running(engines, Gate(1, 0.2)) as demo, clean_page(browser) as page:
        opened(page, demo)
        with demo.gate.turn():
            give(page, picture)
            page.locator("#answer [role=alert]", has_text="Busy: the turn did not come within 0.2 s").wait_for(
                timeout=WAIT
            )
            page.screenshot(path=artifacts / "demo-busy.png")
        give(page, picture)
        answered(page)


HAND_OVER = """([text, kind]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], kind + ".jpg", { type: "image/jpeg" }));
  const made = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
  (kind === "drop" ? document.querySelector("#giver [data-drop]") : document).dispatchEvent(made);
}"""


def test_dropped_and_pasted(demo, browser, picture, tags):
    text = base64.b64encode(picture.read_bytes()).decode()
    with clean_page(browser) as page:
        opened(page, demo)
        for kind in ("drop", "paste"):
            page.evaluate(HAND_OVER, [text, kind])
            page.locator("#picture figcaption", has_text=f"{kind}.jpg").wait_for(timeout=WAIT)
            assert sorted(yes(page)) == sorted(tags("onnx-fp32"))


def test_the_webcam(demo, browser):
    """Chromium's own test picture stands for one."""
    with clean_page(browser) as page:
        opened(page, demo)
        page.get_by_role("button", name="Use the webcam").click()
        page.get_by_role("button", name="Take the picture").click(timeout=WAIT)
        page.locator("#picture figcaption", has_text="webcam picture").wait_for(timeout=WAIT)
        assert not page.locator("#giver video").is_visible()


def test_by_keyboard_alone(demo, browser, picture):
    """Tab reaches every control in the order of the page, and each shows that it has the focus."""
    with clean_page(browser) as page:
        opened(page, demo)
        reached = []
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id"))
            page.keyboard.press("Enter")
        chooser.value.set_files(picture)
        answered(page)
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        page.keyboard.press("ArrowDown")
        asked(page, list(demo.engines.taggers)[1])
        for _ in range(6):
            page.keyboard.press("Tab")
            if page.evaluate("'label' in document.activeElement.dataset"):
                break
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.locator("#seen img").wait_for(timeout=WAIT)
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        assert reached == ["demo-file", "Use the webcam", "demo-engine"]


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1440, "light"), (1440, "dark")])
def test_readable(demo, browser, picture, artifacts, width, scheme):
    """No sideways scrolling, contrast of 4.5 (WCAG 1.4.3), an alt text a picture, a name a control."""
    with clean_page(browser, width) as page:
        page.emulate_media(color_scheme=scheme)
        opened(page, demo)
        give(page, picture)
        answered(page)
        choose(page, "beside", "onnx-int8-onnxruntime")
        answered(page, 2)
        page.locator("#answer button[data-label]").first.click()
        page.locator("#seen img").wait_for(timeout=WAIT)
        page.wait_for_timeout(300)  # a button's colour fades in
        page.screenshot(path=artifacts / f"demo-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rights = "[...document.querySelectorAll('table, img, p, select')].map((it) => it.getBoundingClientRect().right)"
        assert max(page.evaluate(rights)) <= page.evaluate(
            "document.querySelector('h1').getBoundingClientRect().right + 1"
        )
        assert page.evaluate(CONTRAST) == []
        assert page.evaluate("[...document.images].filter((image) => !image.alt.trim()).length") == 0
        assert page.evaluate("document.documentElement.lang") == "en"
        for control in page.locator("input:visible, select:visible, button:visible").all():
            assert control.evaluate("(it) => it.labels?.[0]?.textContent.trim() || it.textContent.trim()"), control


def test_the_contrast_test_finds_what_is_planted(demo, browser):
    with clean_page(browser) as page:
        opened(page, demo)
        page.evaluate("document.querySelector('h1').style.color = '#999'")
        assert any("edgepress demo" in found for found in page.evaluate(CONTRAST))
