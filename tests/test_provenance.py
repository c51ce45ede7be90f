import json
from dataclasses import replace

import pytest
from PIL import Image

from ehmfaces.errors import ImageError
from ehmfaces.images import encode_png, open_image
from ehmfaces.provenance import KEY, Provenance

RECORD = Provenance(
    "0.1.0", "org/name", "0123456789abcdef", 7, 0.7, None, "const", {"with": 9}, "deeplab", "ehm", "none"
)
PICTURE = Image.new("RGBA", (4, 4))


def test_round_trip(tmp_path):
    png = encode_png(PICTURE, RECORD.to_text())
    (tmp_path / "a.png").write_bytes(png)
    assert Provenance.read(png) == RECORD
    assert Provenance.read(tmp_path / "a.png") == RECORD
    with Image.open(tmp_path / "a.png") as image:
        assert Provenance.read(image) == RECORD


def test_the_keys_are_a_file_format():
    text = RECORD.to_text()
    assert set(text) == {"Software", "Description", "ehmfaces"}
    assert json.loads(text[KEY])["synthetic"] is True
    assert "does not exist" in text["Description"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"seed": "x"}', json.dumps({"seed": 1}), "[" * 30000]
)
def test_damaged_records_get_a_sentence(text):
    with pytest.raises(ImageError, match="damaged"):
        Provenance.read(encode_png(PICTURE, {KEY: text}))


def test_wrong_types_are_refused():
    values = json.loads(RECORD.to_text()[KEY]) | {"truncation_psi": "much"}
    with pytest.raises(ImageError, match="damaged"):
        Provenance.read(encode_png(PICTURE, {KEY: json.dumps(values)}))


def test_pictures_of_others_get_a_sentence():
    with pytest.raises(ImageError, match="no ehmfaces record"):
        Provenance.read(encode_png(PICTURE))
    with pytest.raises(ImageError, match="cannot be opened"):
        Provenance.read(b"nothing")
    assert open_image(encode_png(PICTURE)).size == (4, 4)


def test_the_engine_is_named_only_where_it_is_not_the_reference():
    assert not {"engine", "precision"} & set(json.loads(RECORD.to_text()[KEY]))
    other = replace(RECORD, engine="onnx")
    png = encode_png(PICTURE, other.to_text())
    assert Provenance.read(png) == other
    assert json.loads(other.to_text()[KEY])["engine"] == "onnx"
