"""What every stage agrees on: labels, pictures, metrics, artifacts. No torch on this floor."""

import os

# OpenCV reads its bound once, when it is first imported; pictures.MAX_PIXELS is the same number.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", "120000000")
