"""Markup: write answers as HTML. Every text that comes from a file is escaped here, and nowhere else."""

from __future__ import annotations

import base64
from html import escape

from edgepress.deploy.demo.answers import CALLS, Answer, Answers, Engines, as_jpeg
from edgepress.deploy.demo.looking import Look
from edgepress.multilabel.plural import plural

MOST_ROWS = 12
"""Labels shown at once; more are shown if more reach their thresholds, and the rest is folded away."""
MOST_SPOKEN = 5
HOW_TO_LOOK = "edgepress export STUDENT --data DIR --attention --out onnx-fp32-attention"


def intro_html(engines: Engines, held_seconds: float) -> str:
    """The introduction: what the page does."""
    labels = len(next(iter(engines.taggers.values())).engine.labels)
    return (
        f"<h1>edgepress demo</h1><p>{len(engines.taggers)} of the engines in {escape(engines.folder.resolve().name)} "
        f"open here; {plural(labels, 'label')}. "
        f"Pictures are held in memory, for {held_seconds / 60:g} minutes at most.</p>"
    )


def options_html(engines: Engines) -> str:
    """The engines to choose from."""
    return "".join(f"<option>{escape(name)}</option>" for name in engines.taggers)


def picture_html(answers: Answers, name: str) -> str:
    """The uploaded picture."""
    size = f"{answers.width} by {answers.height} pixels"
    first = answers.of[0]
    alt = f"{name}, {size}. {first.engine} says: {', '.join(first.tags) or 'no label'}."
    return _figure(as_jpeg(answers.preview), alt, f"{name}, {size}")


def answers_html(answers: Answers, token: str, number: str) -> str:
    """The engines' answers to a picture, and how long each step took.

    Args:
        token: the picture's token; a pressed label sends it.
        number: the question's number, as the page counts.
    """
    about = f'data-token="{escape(token)}" data-number="{escape(number)}" data-said="{escape(_spoken(answers))}"'
    return f'<section aria-label="Answer" {about}>{_latency(answers)}{_labels(answers)}</section>'


def error_html(message: str, number: str = "") -> str:
    """The reason why there is no answer to a question."""
    return (
        f'<p class="wrong" data-number="{escape(number)}" data-said="" role="alert">'
        f"<strong>No answer.</strong> {escape(message)}</p>"
    )


def look_html(seen: Look, label: str, engine: str) -> str:
    """What a model looks at for a label."""
    place = f"{seen.across:.0%} from the left and {seen.down:.0%} from the top"
    alt = f"Where {engine} looks for {label}: most at {place}."
    return _figure(as_jpeg(seen.image), alt, f"{alt} The brighter, the more it looks there; the ring is the maximum.")


def no_look_html() -> str:
    """How to export a bundle from which the labels' attention can be drawn."""
    return (
        "<p>None of these engines shows what it looks at. Make one beside them, and start the demo again: "
        f"<code>{HOW_TO_LOOK}</code></p>"
    )


def engines_html(engines: Engines) -> str:
    """The engines that cannot run here, with the reasons."""
    if not engines.refused:
        return ""
    rows = "".join(
        f"<li><strong>{escape(name)}</strong>: {escape(reason)}</li>" for name, reason in engines.refused.items()
    )
    return f"<details><summary>Not on this machine: {len(engines.refused)}</summary><ul>{rows}</ul></details>"


def _figure(jpeg: bytes, alt: str, caption: str) -> str:
    source = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    return f'<figure><img src="{source}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _spoken(answers: Answers) -> str:
    said = []
    for answer in answers.of:
        tags = ", ".join(answer.tags[:MOST_SPOKEN]) or "no label"
        more = f" and {len(answer.tags) - MOST_SPOKEN} more" if len(answer.tags) > MOST_SPOKEN else ""
        said.append(f"{answer.engine}: {tags}{more}; {answer.model_ms:.1f} ms.")
    return " ".join(said)


def _labels(answers: Answers) -> str:
    first = answers.of[0]
    tags = {tag for answer in answers.of for tag in answer.tags}
    # Labels that an engine answers yes come first; both parts are sorted by the first engine's probability.
    order = sorted(first.probabilities, key=lambda label: (label not in tags, -first.probabilities[label]))
    rows = [_row(label, answers.of) for label in order[: max(answers.top, len(tags))]]
    left = len(order) - len(rows)
    shown = max(MOST_ROWS, len(tags))
    table = _table(answers.of, rows[:shown], "Labels. Press one to see what the model looks at for it.")
    if left:
        table += f"<p>{plural(left, 'less probable label is', 'less probable labels are')} not shown (--top).</p>"
    if len(rows) <= shown:
        return table
    rest = _table(answers.of, rows[shown:], "Less probable labels")
    return f"{table}<details><summary>The other {len(rows) - shown} labels</summary>{rest}</details>"


def _table(answers: tuple[Answer, ...], rows: list[str], caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(answer.engine)}</th>' for answer in answers)
    return (
        f'<table class="labels"><caption>{caption}</caption><thead><tr><th scope="col">Label</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(label: str, answers: tuple[Answer, ...]) -> str:
    cells = "".join(
        _cell(answer.probabilities[label], answer.thresholds[label], label in answer.tags) for answer in answers
    )
    name = escape(label)
    button = f'<button type="button" data-label="{name}" aria-pressed="false">{name}</button>'
    return f'<tr><th scope="row">{button}</th>{cells}</tr>'


def _cell(probability: float, threshold: float | None, yes: bool) -> str:
    bar = "" if threshold is None else f'<b style="left:{threshold:.1%}"></b>'
    said = "most probable of its group" if threshold is None else f"threshold {threshold:.3f}"
    return (
        f'<td class="{"yes" if yes else "no"}"><span class="bar" aria-hidden="true">'
        f'<i style="width:{probability:.1%}"></i>{bar}</span>'
        f"<span><strong>{'✓ yes' if yes else 'no'}</strong> {probability:.3f} "
        f"<small>{said}</small></span></td>"
    )


def _latency(answers: Answers) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(answer.engine)}</th><td>{answers.decode_ms:.1f}</td>'
        f"<td>{answer.prepare_ms:.1f}</td><td data-model-ms>{answer.model_ms:.3f}</td></tr>"
        for answer in answers.of
    )
    return (
        f'<table class="latency"><caption>Milliseconds for this picture; model: median of {CALLS} calls. '
        "edgepress bench measures properly.</caption>"
        '<thead><tr><th scope="col">Engine</th><th scope="col">decode</th><th scope="col">prepare</th>'
        f'<th scope="col">model</th></tr></thead><tbody>{rows}</tbody></table>'
    )
