"""Faces are found where they are, with points that fit, and nothing is found where there is none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="needs the train extra")
pytest.importorskip("onnxruntime", reason="needs the train extra")

from ehmfaces.data.face_detector import LEFT_IRIS, RIGHT_IRIS, FaceDetector
from ehmfaces.errors import MissingExtraError
from ehmfaces.hub import load_pipeline


@pytest.fixture(scope="session")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.fixture(scope="session")
def portrait() -> Image.Image:
    """The embedded generator's first face at 256 px."""
    _, image = next(iter(load_pipeline().iter_images([0])))
    return image.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)


def points_of(detector, image):
    faces = detector.detect(np.asarray(image))
    assert len(faces) == 1
    return faces[0]


def test_one_face_in_the_frame(detector, portrait):
    face = points_of(detector, portrait)
    eyes = face.points[[RIGHT_IRIS, LEFT_IRIS], :2]
    assert face.points.shape == (478, 3)
    assert np.abs(eyes.mean(axis=0) - [128, 0.49 * 256]).max() < 0.04 * 256
    assert face.interocular_px == pytest.approx(0.225 * 256, rel=0.12)
    assert face.presence > 0.9
    assert max(abs(face.yaw_deg), abs(face.roll_deg)) < 25


def test_mirrored_moved_and_turned_pictures(detector, portrait):
    face = points_of(detector, portrait)
    mirrored = points_of(detector, portrait.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert mirrored.yaw_deg == pytest.approx(-face.yaw_deg, abs=4)
    turned = points_of(detector, portrait.rotate(-20, fillcolor=(31, 44, 56)))
    assert turned.roll_deg == pytest.approx(face.roll_deg + 20, abs=3)
    assert turned.yaw_deg == pytest.approx(face.yaw_deg, abs=5)
    wide = Image.new("RGB", (700, 400), (90, 90, 90))
    wide.paste(portrait, (300, 100))
    moved = points_of(detector, wide)
    assert np.abs(moved.points[:, :2] - face.points[:, :2] - [300, 100]).max() < 6


def test_several_none_and_small_faces(detector, portrait):
    pair = Image.new("RGB", (540, 256), (31, 44, 56))
    pair.paste(portrait, (0, 0))
    pair.paste(portrait, (284, 0))
    assert len(detector.detect(np.asarray(pair))) == 2
    noise = np.random.default_rng(0).integers(0, 256, (200, 160, 3), np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((1, 1, 3), np.uint8)) == []
    small = Image.new("RGB", (1000, 1000), (31, 44, 56))
    small.paste(portrait, (350, 300))
    assert len(detector.detect(np.asarray(small))) == 1


def test_points_agree_with_the_shared_ones(detector, shared):
    errors = []
    with np.load(shared / "faces" / "landmarks.npz") as known:
        for name in ("m000", "m010", "f000", "f020"):
            image = Image.open(Path(shared) / "faces" / "portraits" / f"{name}.webp").convert("RGBA")
            ground = Image.new("RGBA", image.size, (31, 44, 56, 255))
            face = points_of(detector, Image.alpha_composite(ground, image).convert("RGB"))
            errors.append(np.linalg.norm(face.points[:, :2] - known[name], axis=1).mean())
    assert max(errors) < 4  # pixels of 320


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("ehmfaces.data.face_detector.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"ehmfaces\[train\]"):
        FaceDetector()
