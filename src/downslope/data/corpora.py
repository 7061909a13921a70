"""Standard texts by name."""

from __future__ import annotations

from downslope.data.fetch import Remote, located
from downslope.data.table import Text
from downslope.data.text_file import Level, text

SHAKESPEARE = Remote(
    folder="",
    name="tinyshakespeare.txt",
    urls=(
        "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/"
        "tinyshakespeare/input.txt",
    ),
    digest="sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    from_where="https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare",
)


def tinyshakespeare(*, block: int = 64, level: Level = "character", valid: float = 0.1) -> Text:
    """1,115,394 characters of Shakespeare, 65 different ones (Karpathy 2015, char-rnn).

    Args:
        block: tokens of a window, at least 1.
        level: "character" or "byte".
        valid: share held out at the end, float in [0, 1); a tenth, as nanoGPT has it.

    Returns:
        The parts and the vocabulary.

    Raises:
        DataError: the file is nowhere and cannot be fetched, or an argument lies outside its domain.
    """
    return text(located(SHAKESPEARE), block=block, level=level, valid=valid)
