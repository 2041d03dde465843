"""Near-duplicates: copies are found, different rows are not, whatever their number and order."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from hf_smalldata.data.similar import MOST_EACH, Pair, groups, similar_hashes
from hf_smalldata.data.similar_images import image_hash, similar_images
from hf_smalldata.data.similar_sounds import similar_sounds, sound_hash
from hf_smalldata.data.similar_texts import similar_sequences, similar_texts

RATE_HZ = 16_000
QUESTION = "How hot should the oven be when making peachy oat muffins?"


def ends(pairs: list[Pair]) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in pairs]


def words(count: int, seed: int) -> str:
    generator = np.random.default_rng(seed)
    return " ".join("".join(generator.choice(list("abcdefghijklmnop"), 5)) for _ in range(count))


def dna(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def photo(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Overlapping discs of many sizes: energy at low frequencies above all, as in photos."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(generator.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for radius in np.geomspace(60, 4, 60):
        x, y = generator.random(2) * size
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], tuple(generator.integers(0, 256, 3).tolist()))
    return image


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file)


def sound(seed: int, seconds: float = 0.6) -> np.ndarray:
    """Noise through four resonances that glide, swelling and fading."""
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 1, int(seconds * RATE_HZ))
    total = np.zeros_like(time)
    for _ in range(8):
        pitch = np.interp(time, np.linspace(0, 1, 6), generator.uniform(200, 6000, 6))
        loud = np.interp(time, np.linspace(0, 1, 9), generator.random(9))
        total += loud * np.sin(2 * np.pi * np.cumsum(pitch) / RATE_HZ)
    return total * np.sin(np.pi * time) / 10


# Groups


def test_a_group_is_known_by_its_smallest_row_and_reaches_over_chains():
    pairs = [Pair(1, 4, 0.9), Pair(4, 5, 0.9), Pair(2, 3, 1.0)]
    assert groups(pairs, 7) == [0, 1, 2, 2, 1, 1, 6]


def test_without_pairs_each_row_is_its_own_group():
    assert groups([], 3) == [0, 1, 2]
    assert groups([], 0) == []


# Texts


@pytest.mark.parametrize(
    "other",
    [
        "how hot should the oven be, when making peachy oat muffins",
        "HOW HOT SHOULD THE OVEN BE WHEN MAKING PEACHY OAT MUFFINS ?!",
        "How hot should the oven be when baking peachy oat muffins?",
        "How hot should an oven be when making peachy oat muffins?",
    ],
)
def test_texts_that_differ_in_signs_case_or_a_word_are_a_pair(other):
    assert ends(similar_texts([QUESTION, "What is a fear of shadows?", other])) == [(0, 2)]


def test_texts_equal_but_for_signs_and_case_have_similarity_one():
    assert similar_texts(["To be, or not to be.", "to be or NOT to be"]) == [Pair(0, 1, 1.0)]


def test_questions_of_one_pattern_with_another_subject_are_no_pair():
    places = ["Kentucky", "Yugoslavia", "Mongolia", "Burkina Faso", "Ethiopia"]
    assert similar_texts([f"What is the capital of {place}?" for place in places]) == []


def test_similarity_of_texts_is_jaccard_of_their_shingles_of_four_letters():
    first, second = words(30, 0), words(30, 0)[:-9] + "zz" + words(30, 0)[-7:]
    sets = [{text[at : at + 4] for at in range(len(text) - 3)} for text in (first, second)]
    (pair,) = similar_texts([first, second])
    assert pair.similarity == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))


def test_every_pair_of_texts_above_the_threshold_is_found_and_none_below():
    texts = [words(40, seed)[: -at or None] for seed in range(20) for at in range(0, 60, 12)]
    sets = [{text[at : at + 4] for at in range(len(text) - 3)} for text in texts]
    wanted = [
        (a, b) for a, b in combinations(range(len(texts)), 2) if len(sets[a] & sets[b]) / len(sets[a] | sets[b]) >= 0.85
    ]
    assert ends(similar_texts(texts, 0.85)) == wanted


def test_empty_texts_and_very_short_ones_pair_only_with_their_equals():
    assert ends(similar_texts(["", "ok", "  ", "OK!", "oh", ""])) == [(1, 3)]
    assert similar_texts([]) == []
    assert similar_texts(["alone"]) == []


def test_texts_of_signs_and_symbols_are_told_apart():
    assert ends(similar_texts([":)", ":(", "😀", "😡", ":)"])) == [(0, 4)]
    assert similar_texts(["fine 😀", "fine 😡", "it costs $5", "it costs £5"]) == []


def test_vowel_signs_of_other_scripts_are_part_of_the_letters():
    assert similar_texts(["कि", "की"]) == []


def test_equal_texts_are_chained_to_the_first():
    assert similar_texts(["the same text"] * 500) == [Pair(0, row, 1.0) for row in range(1, 500)]


def test_a_crowd_of_texts_is_one_group_with_few_pairs():
    texts = [f"Patient {row} came with a headache that had lasted for days, and with no fever." for row in range(500)]
    pairs = similar_texts([*texts, "A different text."])
    assert groups(pairs, 501) == [0] * 500 + [500]
    assert len(pairs) < 500 * 4 * MOST_EACH


def test_pairs_come_in_order_whatever_the_order_of_the_texts():
    texts = [words(40, 1), words(40, 0), words(40, 1) + " end", words(40, 0), words(40, 1)]
    pairs = similar_texts(texts)
    assert pairs == sorted(pairs)
    assert ends(pairs) == [(0, 2), (0, 4), (1, 3)]


# Sequences


@pytest.mark.parametrize(("length", "changes"), [(57, 1), (100, 2), (1000, 20)])
def test_dna_with_few_substitutions_pairs_and_random_dna_does_not(length, changes):
    sequences = [dna(length, seed) for seed in range(100)]
    changed = list(sequences[7])
    for at in np.linspace(10, length - 10, changes).astype(int):
        changed[at] = "A" if changed[at] != "A" else "C"
    (pair,) = similar_sequences([*sequences, "".join(changed)])
    assert pair[:2] == (7, 100)
    assert pair.similarity == pytest.approx(1 - changes / length, abs=0.005)


def test_dna_shifted_by_two_letters_is_a_pair():
    long = dna(60, 0)
    assert ends(similar_sequences([long[:57], dna(57, 1), long[2:59].lower()])) == [(0, 2)]


def test_the_other_strand_is_a_pair_only_when_asked_for():
    strand = dna(100, 0)
    sequences = [strand, dna(100, 1), strand.translate(str.maketrans("ACGT", "TGCA"))[::-1]]
    assert similar_sequences(sequences) == []
    assert similar_sequences(sequences, reverse_complement=True) == [Pair(0, 2, 1.0)]


def test_proteins_with_a_few_other_residues_are_a_pair():
    generator = np.random.default_rng(0)
    proteins = ["".join(generator.choice(list("ACDEFGHIKLMNPQRSTVWY"), 200)) for _ in range(50)]
    assert ends(similar_sequences([*proteins, proteins[3][:90] + "WWW" + proteins[3][93:]])) == [(3, 50)]


# Hashes


def test_hashes_pair_by_the_bits_that_differ():
    hashes = [np.zeros(9, dtype=np.uint8) for _ in range(3)]
    hashes[1][8], hashes[2][0] = 0b1, 0b1111
    assert similar_hashes(hashes, 4) == [Pair(0, 1, 1 - 1 / 72), Pair(0, 2, 1 - 4 / 72)]
    assert similar_hashes(hashes, 0) == []
    assert similar_hashes([], 4) == []


def test_hashes_over_several_blocks_match_a_count_pair_by_pair():
    hashes = np.random.default_rng(0).integers(0, 256, (300, 2), dtype=np.uint8)
    first_equal = {row: min(r for r in range(300) if (hashes[r] == hashes[row]).all()) for row in range(300)}
    wanted = [
        (a, b)
        for a, b in combinations(range(300), 2)
        if (first_equal[b] == a) or (first_equal[a] == a and first_equal[b] == b
            and np.bitwise_count(hashes[a] ^ hashes[b]).sum() <= 1)
    ]  # fmt: skip
    assert ends(similar_hashes(list(hashes), 1)) == wanted


def test_equal_hashes_are_chained_and_a_crowd_of_near_ones_is_one_group():
    equal = [np.full(8, 7, dtype=np.uint8)] * 300
    assert similar_hashes(equal, 5) == [Pair(0, row, 1.0) for row in range(1, 300)]
    near = [np.array([row, 0, 0, 0, 0, 0, 0, 0], dtype=np.uint8) for row in range(256)]
    pairs = similar_hashes(near, 8)
    assert set(groups(pairs, 256)) == {0}
    assert len(pairs) <= 256 * MOST_EACH


# Images


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((80, 60)),
        jpeg,
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.convert("L"),
        lambda image: image.crop((2, 1, 160, 120)),
    ],
    ids=["resized", "jpeg", "brighter", "grey", "moved"],
)
def test_copies_of_a_photo_are_a_pair_and_other_photos_are_not(change):
    photos = [photo(seed) for seed in range(30)]
    assert ends(similar_images(iter([*photos, change(photos[4])]))) == [(4, 30)]


def test_flat_images_pair_only_with_those_of_their_colour():
    colours = ["red", "blue", "white", "black", "red"]
    images = [Image.new("RGB", (40, 30 + at), colour) for at, colour in enumerate(colours)]
    assert similar_images([*images, photo(0)]) == [Pair(0, 4, 1.0)]


def test_an_image_hash_has_256_bits_and_half_of_them_set():
    assert image_hash(photo(0)).shape == (32,)
    assert np.bitwise_count(image_hash(photo(0))).sum() == 128


# Sounds


@pytest.mark.parametrize(
    "change",
    [
        lambda wave: 0.3 * wave,
        lambda wave: np.pad(wave, (2000, 5000)),
        lambda wave: wave + 0.02 * wave.std() * np.random.default_rng(0).standard_normal(len(wave)),
        lambda wave: (wave * 32767).astype(np.int16),
        lambda wave: wave + 0.2,
    ],
    ids=["gain", "silence around", "noise", "16 bits", "offset"],
)
def test_copies_of_a_sound_are_a_pair_and_other_sounds_are_not(change):
    sounds = [sound(seed) for seed in range(20)]
    assert ends(similar_sounds(iter([*sounds, change(sounds[5])]), RATE_HZ)) == [(5, 20)]


def test_a_sound_played_faster_is_another_sound():
    slow = sound(0)
    fast = np.interp(np.arange(0, len(slow), 1.02), np.arange(len(slow)), slow)
    faster = np.interp(np.arange(0, len(slow), 1.25), np.arange(len(slow)), slow)
    assert ends(similar_sounds([slow, fast], RATE_HZ)) == [(0, 1)]
    assert similar_sounds([slow, faster], RATE_HZ, most_bits=255) == []


def test_silent_clips_pair_with_those_of_their_length():
    clips = [np.zeros(100), np.zeros(200), np.full(100, 0.5), np.zeros(0), sound(0)]
    assert ends(similar_sounds(clips, RATE_HZ)) == [(0, 2)]


def test_a_sound_hash_has_256_bits_and_does_not_depend_on_loudness():
    assert sound_hash(sound(0), RATE_HZ).shape == (32,)
    assert (sound_hash(sound(0), RATE_HZ) == sound_hash(8 * sound(0), RATE_HZ)).all()
