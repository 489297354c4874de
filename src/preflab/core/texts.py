"""Text of models, data and other people's folders, made safe to show."""

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in (9, 10)} | {
    127: "\u2421",
    **dict.fromkeys(range(0x80, 0xA0), "\ufffd"),
}


def without_controls(text: str) -> str:
    """Return text with pictures for control characters, so that none steers a terminal; tabs and lines stay."""
    return text.translate(_CONTROLS)
