"""Bytes to lines: on LF alone, under a limit, however the bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexgate.lines import Lines, LineTooLong


@given(st.lists(st.binary(max_size=40).filter(lambda line: b"\n" not in line)), st.data())
def test_any_chunking_gives_the_same_lines(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    splitter, read = Lines(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += splitter.feed(stream[start:end])
    assert read == [line.removesuffix(b"\r") for line in lines]
    assert splitter.rest() == b""


def test_only_lf_ends_a_line() -> None:
    text = '{"a":"\u2028 \u0085 \x0b"}'.encode()
    assert Lines().feed(text + b"\n") == [text]


def test_what_is_left_is_known() -> None:
    splitter = Lines()
    assert splitter.feed(b"a\nb") == [b"a"]
    assert splitter.rest() == b"b"


@pytest.mark.parametrize(
    "chunks", [[b"x" * 11], [b"x" * 6, b"x" * 6], [b"x" * 11 + b"\n"], [b"ok\n", b"x" * 11]]
)
def test_a_line_over_the_limit_ends_it(chunks: list[bytes]) -> None:
    splitter = Lines(limit=10)
    with pytest.raises(LineTooLong):
        for chunk in chunks:
            splitter.feed(chunk)
