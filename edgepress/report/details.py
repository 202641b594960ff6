"""Sections of a report: INT8, reliability, what changed, the device, how to reproduce."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from edgepress.report.blocks import Block, Code, Gallery, Listing, Picture, Table, Text
from edgepress.report.figures import draw_reliability, draw_sensitivity
from edgepress.report.summary import telling

MOST_ANSWERS = 12
"""Labels of one answer that a report names."""


def int8(report: Mapping[str, Any]) -> list[Block]:
    """Of each INT8 engine how it was quantised, what was tried, and the nodes that suffer most."""
    rows = [row for row in report["engines"] if row["precision"] == "int8"]
    if not rows:
        return [Text("No INT8 engine was asked for.")]
    blocks: list[Block] = []
    for row in rows:
        search = row.get("int8")
        if search is None:
            why = "; ".join(row.get("reasons", [])) or "this report was made before it was kept"
            blocks.append(Text(f"{row['engine']}: nothing is known of its quantisation ({why})."))
            continue
        blocks.append(Text(_quantised(row["engine"], search)))
        half = row.get("against_fp16")
        if half is not None:
            ratio, low, high = (f"{half[name]:.2f}" for name in ("ratio", "low", "high"))
            blocks.append(Text(f"{row['engine']}: {ratio} times the time of {half['engine']} ({low} to {high})."))
        if search["tried"]:
            blocks.append(_tried(row["engine"], search))
    figures = [draw_sensitivity(row["engine"], row["int8"]) for row in rows if row.get("int8")]
    return [*blocks, *(figure for figure in figures if figure is not None)]


def _quantised(engine: str, search: Mapping[str, Any]) -> str:
    said = f"{engine}: {search['method']}, calibrated on {search['pictures']} pictures of {search['split']}"
    if search["val_mAP"] is not None and search["val_mAP_float"] is not None:
        said += f"; val mAP {100 * search['val_mAP']:.2f}, of the float model {100 * search['val_mAP_float']:.2f}"
    if search["budget"] is not None:
        said += f", of which {search['budget']:g} points may be lost"
    if search["products"] is not None:
        said += f"; {len(search['kept_float'])} of {search['products']} nodes left in float"
    if search["latency"] is not None:
        ratio = search["latency"]
        said += f"; {ratio['ratio']:.2f} times fp32's time ({ratio['low']:.2f} to {ratio['high']:.2f})"
    if search["missing_labels"]:
        said += f"; no calibration picture shows {', '.join(search['missing_labels'])}"
    return said + "."


def _tried(engine: str, search: Mapping[str, Any]) -> Table:
    whole = sum(not row["kept"] for row in search["tried"])
    return Table(
        caption=f"{engine}: what was tried ({whole} of {search['planned']} candidates, and nodes left in float)",
        columns=("candidate", "val mAP", "drop in points", "SQNR dB", "time, of fp32's", "in INT8"),
        rows=[
            [
                row["candidate"],
                f"{100 * row['val_mAP']:.2f}",
                f"{row['drop_points']:.2f}",
                f"{row['sqnr']:.1f}",
                "" if row["latency"] is None else f"{row['latency']['ratio']:.2f}",
                "" if row["int8_share"] is None else f"{100 * row['int8_share']:.1f} %",
            ]
            for row in search["tried"]
        ],
        folded=True,
    )


def reliability(report: Mapping[str, Any]) -> list[Block]:
    """Whether probabilities mean what they say, before and after calibration."""
    rows = [row for row in report["engines"] if row.get("decisions")]
    if not rows:
        return [Text("No engine was measured.")]
    shown = telling(report)
    figure = []
    if shown is not None and shown.get("reliability"):
        figure = [draw_reliability(shown["engine"], shown["reliability"])]
    names = ("ece_before", "ece_after", "ece_by_chance", "macro_F1_at_half", "macro_F1")
    return [
        *figure,
        Table(
            caption="Expected calibration error in percent (mean over labels; what is left by chance beside it), and "
            "macro-F1 in points by the sigmoid at 0.5 and by the fitted decisions. Fitted on val, measured on test",
            columns=("engine", "ECE, sigmoid", "ECE, calibrated", "ECE by chance", "F1 at 0.5", "F1, fitted"),
            rows=[[row["engine"], *(_percent(row["decisions"].get(key)) for key in names)] for row in rows],
        ),
    ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def flips(report: Mapping[str, Any]) -> list[Block]:
    """The pictures of which the engine to ship decides otherwise than the model it came from."""
    found = report.get("flips")
    if report["verdict"] == "incomplete":
        return [Text("The run was interrupted before its pictures were compared.")]
    if found is None:
        return [Text("No engine was verified, so nothing is known to have changed.")]
    engine = found["engine"]
    source = "the fine-tuned student" if found["finetuned"] else "the student"
    if not found["flipped"]:
        return [Text(f"{engine} decides all {found['decisions']} labels of the test pictures as {source} does.")]
    share = 100 * found["flipped"] / found["decisions"]
    more = found["pictures"] - len(found["shown"])
    return [
        Text(
            f"{engine} decides {found['flipped']} of {found['decisions']} (picture, label) cells otherwise than "
            f"{source} ({share:.2f} %), on {found['pictures']} pictures. Of these cells the engine has "
            f"{found['right']} right and {source} {found['flipped'] - found['right']}."
        ),
        Text(
            "The surest first: where both were farthest from their thresholds."
            + (f" {more} more pictures are not shown." if more else "")
        ),
        Gallery([_picture(one, engine, source) for one in found["shown"]]),
    ]


def _picture(one: Mapping[str, Any], engine: str, source: str) -> Picture:
    told = [
        f"{'now' if flip['answer'] else 'no longer'} {flip['label']} ({flip['before']:.3f} to {flip['after']:.3f}, "
        f"{'right' if flip['right'] else 'wrong'})"
        for flip in one["flips"]
    ]
    truth = _listed(one["truth"])
    return Picture(
        jpeg=one["jpeg"],
        alt=f"Test picture that shows: {truth}",
        name=one["picture"],
        facts=[
            ("Shows", truth),
            ("Changed", "; ".join(told[:MOST_ANSWERS])),
            (f"{source[0].upper()}{source[1:]}", _listed([name for name, _ in one["before"]])),
            (engine, _listed([name for name, _ in one["after"]])),
        ],
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_ANSWERS} more" if len(names) > MOST_ANSWERS else ""
    return (", ".join(names[:MOST_ANSWERS]) + more) or "nothing"


def device(report: Mapping[str, Any]) -> list[Block]:
    """The machine, its state around each measurement, and what to beware of."""
    machine = report["machine"]
    facts = [
        f"Processor: {machine['processor']}, {machine['cores']} cores, {machine['architecture']}",
        f"Board: {machine['model'] or 'not known'}; GPU: {machine['gpu'] or 'none'}",
        f"System: {machine['system']}, Python {machine['python']}",
        f"Clock governor: {machine['governor']}",
    ]
    rows = [row for row in report["engines"] if row.get("bench")]
    cautions = [[row["engine"], caution] for row in rows for caution in row["bench"]["cautions"]]
    if not rows:
        return [Listing(facts), Text("No model was timed.")]
    return [
        Listing(facts),
        Table(
            caption="State before and after each measurement",
            columns=("model", "measured, UTC", "ran on", "load", "hottest, °C", "clocks", "throttled", "peak MB"),
            words=("measured, UTC", "ran on", "clocks", "throttled"),
            rows=[_state(row) for row in rows],
        ),
        *(_cautions(cautions) if cautions else [Text("No measurement carries a caution.")]),
    ]


def _cautions(rows: list[list[str]]) -> list[Block]:
    kinds = Counter(caution.partition(":")[0] for _, caution in rows)
    said = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    caption = "What to beware of in each measurement"
    return [
        Text(f"Beware, the times may be of a machine that did not keep still: {said}."),
        Table(caption=caption, columns=("model", "caution"), words=("caution",), rows=rows, folded=True),
    ]


def _state(row: Mapping[str, Any]) -> list[str]:
    bench = row["bench"]
    before, after = bench["before"], bench["after"]
    ran = bench["ran"]
    hottest = [max(state["temperatures"].values(), default=None) for state in (before, after)]
    throttled = sorted({str(one) for state in (before, after) for one in state["throttling"]})
    return [
        row["engine"],
        bench["when"][:16].replace("T", " "),
        " ".join(str(ran[key]) for key in ("runtime", "version", "provider", "precision") if key in ran),
        _pair(before["load"], after["load"]),
        _pair(*hottest),
        str(before["clocks"]) if before["clocks"] == after["clocks"] else f"{before['clocks']} to {after['clocks']}",
        ", ".join(throttled) or "no",
        "" if bench["memory"]["peak_mb"] is None else f"{bench['memory']['peak_mb']:.0f}",
    ]


def _pair(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{before:g} to {after:g}"


def reproduction(report: Mapping[str, Any]) -> list[Block]:
    """The recipe, versions, hashes and seeds."""
    made = report.get("made_with")
    hashes = [(f"{name}", row["digest"]) for name, row in _digests(report)]
    versions = [f"edgepress {report['edgepress']}"]
    if made is not None:
        hashes += [(f"split {name}", value) for name, value in made["fingerprints"].items()]
        tools = [f"{name} {value}" for name, value in made["tools"].items()]
        versions = list(dict.fromkeys([*versions, *tools, *made["runtimes"]]))
    recipe = report["recipe"]
    seeds = [(name, recipe[name].get("seed")) for name in ("teach", "distill", "quantize", "finetune")]
    return [
        Code(caption="Save the recipe below as recipe.yaml, then", text="edgepress run --recipe recipe.yaml"),
        Text(
            "On the same machine with the same versions the same seeds give the same models; on others numbers differ "
            "in their last digits, and latencies are of this machine alone."
        ),
        Listing(
            [
                f"Versions: {', '.join(versions)}",
                "Seeds: " + ", ".join(f"{name} {'as distill' if seed is None else seed}" for name, seed in seeds),
            ]
        ),
        Table(
            caption="sha256 of models and splits",
            columns=("what", "sha256"),
            words=("sha256",),
            rows=[list(one) for one in hashes],
            folded=True,
        ),
        Code(caption="The recipe, every setting", text=recipe_text(recipe), language="yaml"),
    ]


def _digests(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(row["engine"], row) for row in report["engines"] if row.get("digest")]


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe as YAML that `edgepress run` reads: without what is not set, and without what no file may set."""
    return yaml.safe_dump(_set(recipe, without=("ssh_option",)), sort_keys=False, allow_unicode=True).rstrip()


def _set(values: Mapping[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    kept = {name: value for name, value in values.items() if value is not None and name not in without}
    return {name: _set(value) if isinstance(value, dict) else value for name, value in kept.items()}
