"""Entry of the Space and of a local run: python app.py."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from ehmfaces.ui.app import build_app, launch  # noqa: E402  the line above has to come first

demo = build_app()

if __name__ == "__main__":
    launch(demo)
