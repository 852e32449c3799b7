"""What an endpoint says, without the key that it was asked with."""


def without_key(text: str, key: str | None, most: int = 300) -> str:
    """In one line of at most so many characters; whoever refuses a key often repeats it.

    The key goes before the text is cut: of one that stood over the cut, a part would be left.

    Args:
        key: None or "" where there is none.
    """
    line = " ".join(text.split())
    return (line.replace(key, "***") if key else line)[:most]
