"""Small rosters and a quick worker for tests of packs; run as a script it writes one, to be killed."""

import io
import sys
import time

import numpy as np
from PIL import Image

from ehmfaces.facepack.changes import PackOptions
from ehmfaces.facepack.plan import FacepackSettings, plan_facepack
from ehmfaces.facepack.writer import write_facepack
from ehmfaces.roster.reader import read_roster

ROWS = [f"Ann{n},Berg,{n % 27 + 1}.3.1990,{'Non-Player' if n % 5 == 0 else 'Player'}" for n in range(24)]


def plan_of(rows=ROWS, **settings):
    text = "First Name,Last Name,DOB,Classification\n" + "\n".join(rows) + "\n"
    return plan_facepack(read_roster(text.encode(), name="players.csv"), FacepackSettings(**settings))


def picture(number):
    """Return a PNG of 32 x 40 with its own coarse pattern."""
    coarse = np.random.RandomState(number).randint(0, 256, (5, 4, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((32, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def make_worker():
    """Every seed has its own picture."""
    return picture


def make_colliding_worker():
    """One of 50 pictures for all seeds, so that there are look-alikes."""
    return lambda seed: picture(seed % 50)


def names(result_path):
    return sorted(
        path.relative_to(result_path).as_posix() for path in result_path.rglob("*") if path.is_file()
    )


def make_slow_worker():
    def slow(seed):
        time.sleep(0.004)
        return picture(seed % 50)

    return slow


if __name__ == "__main__":
    write_facepack(plan_of(), make_slow_worker, sys.argv[1], options=PackOptions())
