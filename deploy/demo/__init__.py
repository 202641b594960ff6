"""The demo: what the engines of a run say of a picture given on a web page, or of a video's every frame.

Nothing here needs torch or onnx; Gradio is imported where the page is made.
"""
