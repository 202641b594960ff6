"""The demo: show the answers of a run's engines to a picture on a web page, or to every frame of a video.

Nothing here needs torch or onnx; Gradio is imported where the page is made.
"""
