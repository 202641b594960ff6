"""The page: Gradio's blocks around a picture, a choice of engines, and their answers.

Two of Gradio's own components are not used. The server of its picture component keeps every upload in a folder without
bound, decodes with another library than ours, and fetches a picture from any address that a request names; so the page
sends the file's bytes to `deploy.demo.server`, and an event carries a token for them. Its radio buttons are not a group
for a keyboard or a screen reader; so the page uses the browser's own lists.
"""

# No `annotations` import here: Gradio looks for `EventData` itself, not its name, and it is imported in a function.
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgepress.deploy.demo import markup
from edgepress.deploy.demo.answers import Engines, ask
from edgepress.deploy.demo.gate import BusyError, Gate, Shelf
from edgepress.deploy.demo.looking import look
from edgepress.multilabel.errors import InputError

SESSIONS = 64
"""Browser tabs that Gradio remembers; for each it keeps the last answer, with the picture in it."""
SEEN = "watch('value', () => element.querySelector('img, p') && element.scrollIntoView({ block: 'nearest' }));"
"""On a narrow screen the pressed label is far below the picture, so the page scrolls to it."""


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


STYLE = _read("page.css")
FRAME = """.gradio-container { max-width: 1200px !important; padding: 0 !important; margin: 0 auto; }
.gradio-container .main { padding: 10px !important; }"""


def make_page(engines: Engines, shelf: Shelf, gate: Gate, max_upload: int) -> Any:
    """The demo as `gradio.Blocks`.

    Args:
        max_upload: most bytes of a picture; the page refuses a larger one before it is sent.
    """
    import gradio as gr

    show = _answering(engines, shelf, gate)
    with gr.Blocks(title=f"edgepress demo: {engines.folder.resolve().name}", analytics_enabled=False) as page:
        gr.HTML(markup.intro_html(engines, shelf.seconds))
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                giver = gr.HTML(
                    markup.options_html(engines),
                    html_template=_read("giver.html"),
                    js_on_load=f"const MAX_UPLOAD = {max_upload};\n{_read('giver.js')}",
                    elem_id="giver",
                )
                gr.HTML(markup.engines_html(engines), elem_id="refused")
            with gr.Column(scale=2, min_width=300):
                with gr.Row():
                    picture = gr.HTML(elem_id="picture", min_width=240)
                    seen = gr.HTML(elem_id="seen", min_width=240, js_on_load=SEEN)
                answer = gr.HTML(js_on_load=_read("answer.js"), elem_id="answer")

        def asked(event: gr.EventData) -> tuple[str, str, str]:
            return "", *show(*(str(getattr(event, name, "")) for name in ("token", "engine", "beside", "number")))

        def pressed(event: gr.EventData) -> str:
            return _looked(engines, shelf, gate, *(str(getattr(event, name, "")) for name in ("token", "label")))

        # Events bypass Gradio's queue: `gate` limits who waits, and the page says so.
        options: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        options["trigger_mode"] = "multiple"  # the default drops an event while another answer is awaited
        giver.asked(asked, None, [seen, picture, answer], **options)
        answer.pressed(pressed, None, [seen], **options)
    page.state_session_capacity = SESSIONS
    return page


def theme() -> Any:
    """Gradio's plainest theme with the reader's own fonts, because Gradio's fonts come from another host."""
    import gradio as gr

    fonts = ["system-ui", "sans-serif"]
    return gr.themes.Base(primary_hue="blue", font=fonts, font_mono=["ui-monospace", "monospace"])


def _answering(engines: Engines, shelf: Shelf, gate: Gate) -> Callable[[str, str, str, str], tuple[str, str]]:
    """A function from token, engine, engine beside it and question number to the picture and the answers, as HTML."""

    def show(token: str, engine: str, beside: str, number: str) -> tuple[str, str]:
        try:
            picture = shelf.get(token)
            chosen = [engine] if beside in ("", engine) else [engine, beside]
            with gate.turn():
                answers = ask(engines, chosen, picture.data, picture.name)
        except (InputError, BusyError) as error:
            return "", markup.error_html(str(error), number)
        return markup.picture_html(answers, picture.name), markup.answers_html(answers, token, number)

    return show


def _looked(engines: Engines, shelf: Shelf, gate: Gate, token: str, label: str) -> str:
    tagger = engines.looking
    if tagger is None:
        return markup.no_look_html()
    try:
        picture = shelf.get(token)
        with gate.turn():
            seen = look(tagger, label, picture.data, picture.name)
    except (InputError, BusyError) as error:
        return markup.error_html(str(error))
    return markup.look_html(seen, label, tagger.engine.bundle.name)
