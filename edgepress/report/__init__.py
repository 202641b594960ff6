"""Reports for people and for programs: report.json, report.html, report.md, tables, model cards."""
