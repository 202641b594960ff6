"""The style of a document on telephones, wide screens and paper, light and dark. Contrast is AA or better."""

_COLOURS = """
:root { --back: #fff; --front: #1b1f24; --soft: #57606a; --line: #8a939d; --panel: #f3f5f7; --link: #0b57a8;
  --a: #1f4e79; --b: #b3470b; --c: #1b6e3c; --d: #6b3fa0; --pass: #1b6e3c; --fail: #a3211b; --open: #7a5200; }
@media screen and (prefers-color-scheme: dark) {
  :root { --back: #14181d; --front: #e8ebee; --soft: #aab3bc; --line: #76808a; --panel: #20262d; --link: #86bdff;
    --a: #8cc4ff; --b: #ffb26b; --c: #7ddc9a; --d: #d3b6ff; --pass: #7ddc9a; --fail: #ff9d94; --open: #f1c257; }
}
"""
_PLOTS = """svg { font: 12px system-ui, sans-serif; }
svg text { fill: var(--front); paint-order: stroke; stroke: var(--back); stroke-width: 3px; }
svg .soft { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); stroke-width: .5; opacity: .45; }
svg .axis { stroke: var(--line); stroke-width: 1; fill: none; }
svg .bound { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
svg .line { fill: none; stroke-width: 1.6; }
svg .a { stroke: var(--a); } svg .b { stroke: var(--b); } svg .c { stroke: var(--c); } svg .d { stroke: var(--d); }
svg .mark { stroke-width: 1.5; fill: var(--back); }
svg .mark.a { fill: var(--a); } svg .mark.b { fill: var(--b); } svg .mark.c { fill: var(--c); }
svg .mark.open { fill: var(--back); }
svg .thin { stroke: var(--line); stroke-width: .7; opacity: .5; fill: none; }
"""
_PAGE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 0 1rem 3rem; background: var(--back); color: var(--front);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1rem 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .85rem; margin: 0 0 .25rem; font-weight: 600; }
p { margin: .4rem 0; max-width: 60rem; }
a { color: var(--link); }
td, th, code, h3, li { unicode-bidi: isolate; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
.verdict { border: 1px solid var(--line); border-left: .5rem solid var(--open); background: var(--panel);
  padding: .4rem .8rem; }
.verdict.pass { border-left-color: var(--pass); }
.verdict.fail { border-left-color: var(--fail); }
.word { font-size: 1.3rem; font-weight: 700; margin: 0; color: var(--open); }
.pass .word { color: var(--pass); }
.fail .word { color: var(--fail); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; margin: .8rem 0; list-style: none; }
nav a { display: inline-block; padding: .2rem 0; }
.path { display: flex; flex-wrap: wrap; gap: .6rem; padding: 0; list-style: none; }
.path li { flex: 1 1 13rem; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .7rem; }
.path li:not(:last-child) strong::after { content: " \\2192"; }
.path span { display: block; font-size: .9rem; }
.scroll { overflow-x: auto; margin: .3rem 0 .6rem; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; overflow-wrap: normal; }
.caption { color: var(--soft); font-size: .875rem; margin: .8rem 0 0; break-after: avoid; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { min-width: 3rem; }
th[scope=row] { font-weight: 600; position: sticky; left: 0; background: var(--back); max-width: 16rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
figure { display: inline-block; vertical-align: top; margin: .6rem 1rem .6rem 0; width: 100%; max-width: 32rem; }
figcaption { font-size: .875rem; color: var(--soft); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .8rem; padding: 0;
  list-style: none; }
.gallery li { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; font-size: .875rem; }
.gallery img { float: left; width: 8rem; height: 8rem; margin: 0 .7rem .3rem 0; object-fit: contain; background: #fff; }
.gallery p { margin: .1rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
pre { background: var(--panel); padding: .6rem; overflow-x: auto; font-size: .8rem; overflow-wrap: normal; }
@page { margin: 14mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav, .skip { display: none; }
  h2, h3 { break-after: avoid; }
  figure, tr, .gallery li, .path li, .verdict { break-inside: avoid; }
  figure { max-width: 48%; margin-right: 1%; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .12rem .3rem; }
  th[scope=row] { position: static; }
  pre { white-space: pre-wrap; font-size: 7.5pt; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""
PLOT_STYLE = _COLOURS + _PLOTS + "svg { background: var(--back); }\n"
"""Style sheet of a plot that is a separate file."""
STYLE = _COLOURS + _PAGE + _PLOTS
"""Style sheet of a page; colours are named once, for light and for dark."""
