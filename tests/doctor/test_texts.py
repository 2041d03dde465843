import pytest

from hf_smalldata.doctor import texts

ENGLISH = (
    "The committee said on Monday that the new library would be open to everyone who lives in the town, number {}."
)
GERMAN = (
    "Der Ausschuss teilte am Montag mit, dass die neue Bücherei allen offen stehe, die in der Stadt wohnen, Nummer {}."
)


@pytest.mark.parametrize(("wrong", "said"), [("cafÃ© au lait", "'Ã©' for 'é'"), ("itâ€™s", "'â€™' for '’'"),
                                             ("naÃ¯ve", "'Ã¯' for 'ï'"), ("ðŸ˜€ ok", "'ðŸ˜€' for '😀'")])  # fmt: skip
def test_utf8_read_as_windows_text_is_seen(made, wrong, said):
    found = texts.characters(made.sample(train=[*made.rows(10), (wrong, "a")]))
    assert (found.level, found.ids) == ("warn", ("train:10",))
    assert said in found.sentence


@pytest.mark.parametrize(
    "text", ["über größere Straßen", "déjà vu à Málaga", "日本語の文章", "Привет, мир", "“so” – ‘oui’…", "😀😀"]
)
def test_letters_of_other_languages_are_no_wrong_encoding(made, text):
    assert texts.characters(made.sample(train=[*made.rows(10), (text, "a")])).level == "pass"


@pytest.mark.parametrize(("text", "said"), [("lost \ufffd here", "lost"), ("bell \x07 here", "control")])
def test_lost_and_control_characters_are_seen(made, text, said):
    found = texts.characters(made.sample(train=[*made.rows(10), (text, "a")]))
    assert (found.level, found.ids) == ("warn", ("train:10",))
    assert said in found.sentence


def test_a_second_language_is_named_with_its_rows(made):
    rows = [((GERMAN if at % 5 == 0 else ENGLISH).format(at), "ab"[at % 2]) for at in range(100)]
    found = texts.languages(made.sample(train=rows))
    assert found.level == "warn"
    assert "en 80%, de 20%" in found.sentence
    assert len(found.ids) == 20


def test_one_language_passes_and_short_texts_tell_none(made):
    rows = [(ENGLISH.format(at), "ab"[at % 2]) for at in range(40)]
    assert texts.languages(made.sample(train=rows)).sentence.startswith("en")
    assert "too short to tell" in texts.languages(made.sample(train=[("ja", "a"), ("no", "b")])).sentence
