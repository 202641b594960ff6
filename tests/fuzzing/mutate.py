"""Bytes that were something valid, changed so that most of it still is."""

from __future__ import annotations

import random

# What readers trip over: numbers at the ends of their types, deep nesting, other encodings, what closes too early.
TOKENS = (
    *(b"0", b"-1", b"-0", b"1e999", b"NaN", b"null", b"true", b'""', b"[]", b"{}", b"[" * 3000, b"{" * 3000),
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\n\n", b"\t", b",", b";", b'"', b"\\"),
    *(b"9" * 400, b"18446744073709551616", b"../../../etc/passwd", b"/dev/zero", b"CON", b".", b"A" * 5000),
    *(b"<!DOCTYPE x [<!ENTITY a '1'>]>", b"&a;", b"<![CDATA[", b"]]>", b"&#0;", b"!!python/object:os.system ", b"*a"),
    *(b"&a [*a,*a]", b"\xff\xd8", b"\xff\xd9", b"\xff\xc0", b"\x7f\xff\xff\xff", b"\x00" * 64, b"%s%n", b"\x1b[2J"),
)


def mutated(seed: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """`seed` after one to four changes: bits, bytes, numbers, cuts, repeats, tokens, or parts of other seeds."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        _change(data, others, rng)
    return bytes(data)


def _change(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    place = rng.randrange(len(data) + 1)
    length = rng.choice((1, 1, 2, 4, 8, rng.randrange(1, 65), len(data)))
    kind = rng.randrange(8)
    if kind == 0 and place < len(data):
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place : place + length] = rng.randbytes(min(length, 64))
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        del data[place : place + length]
    elif kind == 4:
        data[place:place] = data[place : place + length] * rng.choice((1, 1, 2, 50))
    elif kind == 5:
        data[place : place + rng.choice((0, 0, length))] = rng.choice(TOKENS)
    elif kind == 6:
        other = rng.choice(others)
        begin = rng.randrange(len(other) + 1)
        data[place : place + length] = other[begin : begin + length]
    else:
        _number(data, place, rng)
    del data[1 << 20 :]  # a mutation may grow what the one before grew


def _number(data: bytearray, place: int, rng: random.Random) -> None:
    """Replace the run of digits at or after a place."""
    while place < len(data) and not 48 <= data[place] <= 57:
        place += 1
    end = place
    while end < len(data) and 48 <= data[end] <= 57:
        end += 1
    data[place:end] = rng.choice((b"0", b"-1", b"2147483648", b"9" * 30, b"0.5", b"1e309", b"", b"7"))
