"""How long texts of others are shown to people."""


def shorten(text: str, length: int = 300) -> str:
    """Returns a text on one line; of one that is too long both ends: the first says what failed, the last why."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    head, tail = text[: length // 3], text[-2 * length // 3 :]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"
