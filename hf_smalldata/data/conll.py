"""CoNLL files: a token a line with its tag, a blank line after each sentence. Most entity corpora come in this form.

The first column is the token and the last its tag; columns between them (part of speech, chunk) are not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hf_smalldata.data.table import first_of
from hf_smalldata.errors import Problems

# Not .conllu: its first column is a number and its last holds no tag.
SUFFIXES = (".conll", ".iob", ".iob2", ".bio", ".bioes", ".bilou", ".txt")

_DOCUMENT = "-DOCSTART-"
Line = tuple[int, list[str]]  # its 1-based number, its columns


def read_conll(text: str, name: str) -> dict[str, list[list[str]]]:
    """Columns `tokens` and `tags`, a list of strings a sentence; tags as they are written.

    Columns are cut by tabs where most lines have one, else by blanks and tabs. Lines that begin with -DOCSTART- end a
    sentence and are left out. A comment is a line of one column that begins with #, or one that begins with # and a
    blank; but `# O` is a token where the file has two columns and other lines end in O.

    Args:
        text: the whole file, without a byte order mark.
        name: the file's name for messages.

    Raises:
        UserError: lines with more or fewer columns than most, or without a token or tag, named up to 20; a first column
            that numbers the tokens; no sentences.
    """
    lines = text.split("\n")  # splitlines() would cut at U+2028 inside a token
    blank_cut = 2 * sum("\t" in line.strip() for line in lines) < sum(bool(line.strip()) for line in lines)
    cut = [(number, _columns(line.strip("\r"), blank_cut)) for number, line in enumerate(lines, start=1)]
    sure = [columns for _, columns in cut if columns and not columns[0].startswith(("#", _DOCUMENT))]
    width = Counter(map(len, sure)).most_common(1)[0][0] if sure else 2
    tags = {columns[-1] for columns in sure if len(columns) == width}
    sentences: list[list[Line]] = [[]]
    for (number, columns), line in zip(cut, lines, strict=True):
        if not columns or columns[0].startswith(_DOCUMENT):
            sentences.append([])
        elif not _is_comment(line, columns, width, tags):
            sentences[-1].append((number, columns))
    sentences = [sentence for sentence in sentences if sentence]
    _check(sentences, width, name)
    return {
        "tokens": [[columns[0] for _, columns in sentence] for sentence in sentences],
        "tags": [[columns[-1] for _, columns in sentence] for sentence in sentences],
    }


def _columns(line: str, blank_cut: bool) -> list[str]:
    """Columns of a line, none if it is blank. A no-break space is part of its token."""
    if not line.strip():
        return []
    return re.split(r"[ \t]+", line.strip(" \t")) if blank_cut else [cell.strip(" ") for cell in line.split("\t")]


def _is_comment(line: str, columns: Sequence[str], width: int, tags: set[str]) -> bool:
    if not line.startswith("#"):
        return False
    return len(columns) == 1 or (line[1] == " " and (len(columns) != width or columns[-1] not in tags))


def _check(sentences: Sequence[Sequence[Line]], width: int, name: str) -> None:
    if not sentences:
        raise Problems(name, ["expected a token and its tag a line, found no such line"])
    if width == 1:
        raise Problems(
            name, ["expected a token and its tag a line, cut by a tab or a blank, found a single column in most lines"]
        )
    problems = [
        f"line {number}: expected {width} columns, found {len(columns)}"
        if len(columns) != width
        else f"line {number}: expected a token first and a tag last, found {columns}"
        for sentence in sentences
        for number, columns in sentence
        if len(columns) != width or not columns[0] or not columns[-1]
    ]
    if problems:
        raise Problems(name, first_of(problems))
    numbered = all(
        [columns[0] for _, columns in each] == [str(at + 1) for at in range(len(each))] for each in sentences
    )
    if numbered:
        raise Problems(name, ["expected the token in the first column, found its number there; take that column out"])
