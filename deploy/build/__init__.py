"""From a student to engines: export, compile, and the passport that says where an engine fits."""
