"""torch's threads, within what this process may use."""

from __future__ import annotations

import torch

from edgepress.multilabel.cores import thread_limit


def keep_to_cores() -> None:
    """Give torch no more threads than this process may use: torch counts the machine's cores, or those of the process's
    affinity, and knows no container's CPU quota. Fewer, as by OMP_NUM_THREADS, stay as they are.

    This holds for the whole process, because torch has no narrower setting.
    """
    limit = thread_limit()
    if limit is not None and torch.get_num_threads() > limit:
        torch.set_num_threads(limit)
