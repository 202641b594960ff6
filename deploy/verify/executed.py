"""How much of an INT8 engine computes in INT8 here, against what its manifest recorded when it was made.

A runtime has INT8 kernels for some operations on some processors, and computes the others in float without a word. The
answers are then right, but the engine is as slow as a float one. An example is OpenVINO on a Cortex-A76 (Raspberry Pi
5), which ran 22 of 56 products of the sample's student in INT8.
"""

from __future__ import annotations

from edgepress.deploy.engines.base import Ran, counted
from edgepress.multilabel.manifest import Quantization

FAR = 0.2
"""Difference of the share of products in INT8 from which a caution is given. It is not smaller because the runtime
counts other products than the manifest does: those in attention as well, and fewer where it has fused some."""


def int8_caution(calibration: Quantization | None, ran: Ran) -> str | None:
    """A caution where the share of products that ran in INT8 is far from the manifest's; None where it is near, where
    the runtime does not report what ran, and for a float engine.

    Example:
        >>> made = Quantization(pictures=8, sha256="", split="train", method="min-max", products=50)
        >>> ran = Ran(runtime="r", version="1", provider="p", precision="f32", products={"f32": 56})
        >>> int8_caution(made, ran)
        'int8: what ran here is 56 of 56 products in f32, while its manifest records 50 of 50 in int8; ...'
    """
    if calibration is None or not calibration.products or not ran.products:
        return None
    made, here = calibration.products - len(calibration.kept_float), ran.products.get("int8", 0)
    if abs(here / sum(ran.products.values()) - made / calibration.products) <= FAR:
        return None
    return (
        f"int8: what ran here is {counted(ran.products)}, while its manifest records {made} of {calibration.products} "
        "in int8; the runtime chooses its kernels by the processor, so time this engine against a float one here "
        "(edgepress bench --against)"
    )
