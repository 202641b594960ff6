"""Draw the demo's page with a run's engines and one picture: the picture in the README.

    .venv/bin/python examples/draw_demo.py runs/quickstart examples/clipart-sample/test/00002.jpg docs/demo.png

Needs playwright (the extra `dev`) and Chromium. The run should hold a bundle that shows what it looks at (`edgepress
export runs/quickstart/student --data examples/clipart-sample --attention --out runs/quickstart/onnx-fp32-attention`).
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from edgepress.deploy.demo.answers import open_engines
from edgepress.deploy.demo.server import bind, make_app, make_server

WIDTH, HEIGHT = 1200, 826
BESIDE = "onnx-int8-onnxruntime"


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with open_engines(arguments.run) as engines, bind("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server = make_server(make_app(engines))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            _draw(url, arguments.picture, arguments.out)
        finally:
            server.should_exit = True
            thread.join()


def _draw(url: str, picture: Path, out: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("#giver [data-drop]")
        page.select_option("#demo-beside", BESIDE)
        page.set_input_files("#demo-file", picture)
        page.locator("#answer button[data-label]").first.click()
        page.wait_for_selector("#seen img")
        page.wait_for_timeout(500)
        page.evaluate("document.activeElement.blur(), window.scrollTo(0, 0)")
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
