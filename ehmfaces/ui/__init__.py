"""The Gradio page and its API.

Gradio's usage reports are off unless somebody switched them on: this runs before gradio is imported.
"""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
