import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.spec import DataSpec
from hf_smalldata.doctor import Report
from hf_smalldata.doctor.examination import examined
from hf_smalldata.doctor.source import read_source


def check(folder: Path, **settings) -> Report:
    source = read_source(DataSpec(name=str(folder), **settings))
    return examined(source.data, before=source.findings)


def sounds(folder: Path, count: int, rate_hz: int = 16_000) -> Path:
    soundfile = pytest.importorskip("soundfile")
    for at in range(count):
        place = folder / "ab"[at % 2]
        place.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(at).normal(0, 0.1, rate_hz // 2)
        soundfile.write(place / f"{at:03}.wav", noise, rate_hz)
    return folder


def test_sound_photos_pass(photos, made):
    found = check(photos(40))
    assert found.of("warn", "fail") == []


def test_damaged_photos_are_named_and_the_others_examined(photos, made):
    folder = photos(40)
    (folder / "a" / "000.png").write_bytes(b"no image")
    whole = (folder / "b" / "001.png").read_bytes()
    (folder / "b" / "001.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "003.png").write_bytes(b"")
    shutil.copy(folder / "a" / "002.png", folder / "a" / "copy.png")
    found = check(folder)
    bad = made.named(found, "unreadable")
    assert (bad.level, set(bad.ids)) == ("fail", {"a/000.png", "b/001.png", "b/003.png"})
    assert made.named(found, "duplicates").ids == ("a/copy.png",)


def test_blank_photos_are_a_warning(photos, made):
    folder = photos(40)
    Image.new("RGB", (64, 64), "white").save(folder / "a" / "white.png")
    Image.new("RGB", (64, 64), (3, 2, 1)).save(folder / "a" / "black.png")
    blank = made.named(check(folder), "blank")
    assert (blank.level, set(blank.drops)) == ("warn", {"a/white.png", "a/black.png"})


def test_the_same_photo_in_another_size_is_a_near_leak(photos, made):
    folder = photos(40)
    shutil.move(folder, folder.parent / "train")
    (folder.parent / "all" / "test" / "a").mkdir(parents=True)
    (folder.parent / "all" / "test" / "b").mkdir(parents=True)
    shutil.move(folder.parent / "train", folder.parent / "all" / "train")
    root = folder.parent / "all"
    Image.open(root / "train" / "a" / "000.png").resize((96, 96)).save(root / "test" / "a" / "large.png")
    shutil.copy(root / "train" / "b" / "001.png", root / "test" / "b" / "same.png")
    found = check(root)
    assert made.named(found, "near leaks").ids == ("test/a/large.png",)
    assert made.named(found, "leaks").ids == ("test/b/same.png",)


def test_a_size_that_only_one_class_has_gives_it_away(photos, made):
    folder = photos(40)
    for file in (folder / "a").iterdir():
        Image.open(file).resize((80, 64)).save(file)
    assert "'80 x 64 pixels' in 100% of 'a'" in made.named(check(folder), "giveaways").sentence


def test_silent_clipped_short_and_mixed_sounds_are_told_apart(tmp_path, made):
    soundfile = pytest.importorskip("soundfile")
    folder = sounds(tmp_path / "sounds", 30)
    soundfile.write(folder / "a" / "silent.wav", np.zeros(8000), 16_000)
    soundfile.write(folder / "a" / "loud.wav", np.sign(np.sin(np.arange(8000))), 16_000)
    soundfile.write(folder / "a" / "short.wav", np.ones(10) * 0.1, 16_000)
    soundfile.write(folder / "b" / "phone.wav", np.random.default_rng(99).normal(0, 0.1, 4000), 8_000)
    found = check(folder)
    assert made.named(found, "unreadable").ids == ("a/short.wav",)
    blank = made.named(found, "blank")
    assert (set(blank.ids), set(blank.drops)) == ({"a/silent.wav", "a/loud.wav"}, {"a/silent.wav"})
    assert made.named(found, "sampling rates").ids == ("b/phone.wav",)


def test_every_photo_is_decoded_once(photos, monkeypatch):
    from hf_smalldata.data import images

    opened = []
    decode = images.open_image
    monkeypatch.setattr(images, "open_image", lambda value, window=None: opened.append(1) or decode(value, window))
    check(photos(40))
    assert len(opened) == 40


def test_pictures_of_a_few_pixels_are_not_called_copies(tmp_path, made):
    for at in range(40):
        place = tmp_path / "ab"[at % 2]
        place.mkdir(exist_ok=True)
        stroke = np.zeros((16, 16), dtype=np.uint8)
        stroke[2:14, 7:9] = 200 + at
        Image.fromarray(stroke).save(place / f"{at}.png")
    found = check(tmp_path)
    assert made.named(found, "near duplicates").ids == ()
    assert "too small to look for near copies" in made.named(found, "sizes").sentence
