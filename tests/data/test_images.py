"""Decoding: every mode to the RGB that a person sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.images import open_image
from hf_smalldata.errors import UserError


def stored(image: Image.Image, kind: str = "PNG", **options) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def colour(value) -> tuple[int, ...]:
    image = open_image(value)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def test_exif_rotation_is_applied():
    picture = Image.new("RGB", (40, 20), "red")
    picture.paste("blue", (0, 0, 40, 10))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    upright = open_image(stored(picture, "JPEG", exif=exif, quality=95))
    assert upright.size == (20, 40)
    assert upright.getpixel((17, 20))[2] > 200  # the upper half lies on the right now


def test_cmyk_is_converted():
    red, green, blue = colour(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red > 200
    assert max(green, blue) < 60


def test_transparent_pixels_are_white():
    assert colour(stored(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))) == (255, 255, 255)
    assert colour(stored(Image.new("LA", (2, 2), (0, 0)))) == (255, 255, 255)
    assert colour(stored(Image.new("RGBA", (2, 2), (255, 0, 0, 255)))) == (255, 0, 0)


def test_a_palette_gives_its_colours_and_its_transparency():
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert colour(stored(palette)) == (10, 20, 30)
    assert colour(stored(palette, transparency=1)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "value", "expected"), [("L", 77, 77), ("1", 1, 255)])
def test_grey_is_spread_over_three_channels(mode, value, expected):
    assert colour(stored(Image.new(mode, (3, 3), value))) == (expected,) * 3


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (257, 1), (255, 1), (32896, 128), (65535, 255)])
def test_sixteen_bits_are_scaled_by_their_range_whatever_they_hold(value, expected):
    sixteen = Image.fromarray(np.full((2, 2), value, dtype=np.uint16))
    assert sixteen.mode.startswith("I;16")
    assert colour(stored(sixteen)) == (expected,) * 3
    assert colour(stored(Image.fromarray(np.full((2, 2), value, dtype=np.int32)), "TIFF")) == (expected,) * 3


def test_an_image_of_one_pixel_is_decoded():
    image = open_image(stored(Image.new("L", (1, 1), 9)))
    assert (image.size, image.mode) == ((1, 1), "RGB")


def test_paths_bytes_and_opened_images_are_decoded_alike(tmp_path):
    picture = Image.new("RGB", (2, 2), (1, 2, 3))
    picture.save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    values = [path, str(path), path.read_bytes(), picture, {"bytes": None, "path": str(path)}]
    assert [colour(value) for value in values] == [(1, 2, 3)] * 5


def test_a_cut_file_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = stored(Image.fromarray(noise), "JPEG")["bytes"]
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.jpg: expected an image, could not decode it"):
        open_image(str(path))
    with pytest.raises(UserError, match="without a file name"):
        open_image({"bytes": b"", "path": None})


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match=r"bomb\.png.*decompression bomb"):
        open_image(tmp_path / "bomb.png")


def test_floating_point_images_are_refused():
    with pytest.raises(UserError, match="no agreed range"):
        open_image(stored(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "TIFF"))
