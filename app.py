"""Entry of the Space and of a local run: python app.py."""

import os

from ehmfaces.launcher import tune_process

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
tune_process()

from ehmfaces.ui.app import build_app, launch  # noqa: E402 - after the settings

demo = build_app()

if __name__ == "__main__":
    launch(demo)
