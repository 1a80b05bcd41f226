"""A printed command can be pasted: each word is quoted as the machine's shell takes it."""

import shlex
import subprocess
import sys

import pytest

from exporter.system.shell_words import shell_word

WORDS = ["a b", 'say "hi" now', "C:\\my dir\\", 'ends in \\"', "x y\\\\", ""]


@pytest.mark.fast
@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_quoted_for_windows_as_its_programs_split_it(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule of Microsoft's C runtime, by which Python itself joins words there."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert shell_word(word) == subprocess.list2cmdline([word])


@pytest.mark.fast
def test_what_the_shell_of_windows_would_take_for_itself_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`list2cmdline` leaves these as they are: it quotes for a program, not for a shell."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert [shell_word(word) for word in ("a&b", "50%", "(x)", "nightly\\{date}")] == [
        '"a&b"',
        '"50%"',
        '"(x)"',
        '"nightly\\{date}"',
    ]
    assert shell_word("C:\\nightly\\orders-1.csv") == "C:\\nightly\\orders-1.csv"


@pytest.mark.fast
@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell's words")
@pytest.mark.parametrize("word", [*WORDS, "$HOME", "it's"])
def test_a_word_is_quoted_for_a_posix_shell(word: str) -> None:
    """A shell gives the word back."""
    assert shlex.split(shell_word(word)) == [word]
