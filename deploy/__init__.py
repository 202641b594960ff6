"""From a student to engines on a device: export, compile, open, verify, time.

`open_engine` and `open_tagger` are what an application needs; both work without torch.
"""

from deploy.engines import open_engine
from deploy.tagger import Tagger, open_tagger

__all__ = ["Tagger", "open_engine", "open_tagger"]
