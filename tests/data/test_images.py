"""Decoding: every mode to the RGB that a person sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.class_folders import read_folder
from hf_smalldata.data.images import accepts, check_images, image_problems, open_image
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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11, 64])
def test_a_decompression_bomb_is_refused_by_its_size_before_it_is_decoded(side, tmp_path, monkeypatch):
    Image.new("L", (side, side)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"bomb\.png.*more than 100 pixels; save it smaller"):
        open_image(tmp_path / "bomb.png")


def test_floating_point_images_are_refused():
    with pytest.raises(UserError, match="no agreed range"):
        open_image(stored(Image.fromarray(np.zeros((2, 2), dtype=np.float32)), "TIFF"))


def test_a_window_shows_its_values_of_sixteen_bits_and_leaves_eight_alone():
    values = np.array([[0, 1024], [2048, 4095]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        shown = np.asarray(open_image(stored(Image.fromarray(values), kind), (2048, 4096)))
        assert shown[..., 0].ravel().tolist() == [0, 64, 128, 255]
    picture = stored(Image.new("RGB", (2, 2), (1, 2, 3)))
    assert open_image(picture, (2048, 4096)).getpixel((0, 0)) == (1, 2, 3)


def test_floating_point_images_are_shown_through_a_window():
    values = np.array([[-1, 0, 0.5, 1, np.nan]], dtype=np.float32)
    shown = open_image(stored(Image.fromarray(values), "TIFF"), (0.5, 1.0))
    assert np.asarray(shown)[0, :, 0].tolist() == [0, 0, 128, 255, 0]
    with pytest.raises(UserError, match=r"set data\.window"):
        open_image(stored(Image.fromarray(values), "TIFF"))


def test_a_file_of_many_pages_is_refused_and_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (2, 2), value) for value in (7, 200, 100)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"stack\.tif: holds 3 pages, expected one image"):
        open_image(tmp_path / "stack.tif")
    with pytest.raises(UserError, match=r"1 of 1 images can't be opened.*\n.*stack\.tif: holds 3 pages"):
        check_images([str(tmp_path / "stack.tif")], ["a"], "here")
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert colour(tmp_path / "film.gif") == (7, 7, 7)
    check_images([str(tmp_path / "film.gif")], ["a"], "here")


def test_images_in_which_nothing_is_to_be_seen_are_told():
    rng = np.random.default_rng(0)
    twelve = stored(Image.fromarray(rng.integers(0, 4096, (16, 16)).astype(np.uint16)))
    assert "data.window: {center: 2048, width: 4096}" in image_problems(twelve)
    assert image_problems(twelve, (2048, 4096)) is None
    assert image_problems(stored(Image.fromarray(rng.integers(0, 65536, (16, 16)).astype(np.uint16)))) is None
    assert image_problems(Image.new("RGB", (8, 8), "red")) == "all pixels have one colour"
    dark = Image.fromarray(rng.integers(0, 8, (20, 20)).astype(np.uint8))
    assert "nearly black" in image_problems(dark)
    assert image_problems(Image.fromarray(rng.integers(0, 255, (20, 20)).astype(np.uint8))) is None


def test_class_folders_take_what_is_accepted_and_name_the_rest(tmp_path):
    for name in ("cat/a.png", "cat/b.txt", "dog/c.PNG", "dog/.hidden.png", "none/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = read_folder(tmp_path, "image", accepts)["train"]
    assert table.ids == ["cat/a.png", "dog/c.PNG"]
    assert table.columns["label"] == ["cat", "dog"]
    assert any("2 files are no images and were left out: cat/b.txt, none/d.txt" in told for told in table.warnings)
    assert any("folders without images are no classes here: none" in told for told in table.warnings)


def test_class_folders_of_sounds_speak_of_sounds(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(UserError, match=r"expected a folder of audio files for each class \(cat/1\.wav"):
        read_folder(tmp_path, "audio", lambda path: path.suffix == ".wav")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "1.wav").write_bytes(b"x")
    assert read_folder(tmp_path, "audio", lambda path: path.suffix == ".wav")["train"].ids == ["train/cat/1.wav"]
