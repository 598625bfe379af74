"""What an error of Keras or TensorFlow means, in one line.

Both wrap the cause: in front of it stand the frames of the program that called them, behind it the arguments of the
call, or a configuration as long as the model.
"""

import re

from ...serving.texts import shorten

_NOISE = [
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"\x1b\[[0-9;]*m",  # colours
        r'^([ \t]*)File "[^"\n]*", line \d+, in [^\n]*\n?(?:\1[ \t]+(?!File ")[^\n]*\n?)*',  # frames with their lines
        r"^in user code:|Graph execution error:|<stack traces unavailable>",
        r"Detected at node \S+ defined at \(most recent call last\):",
        r"\{\{function_node \S+\}\} ?",
        r"\[Op:\w+\]( name: *)?",
        r"You can attempt the following resolutions to the problem:.*?for more information\.",
        r"Please ensure you are using a `keras\.utils\.custom_object_scope`.*? for details\.",
        r"\bconfig=\{.*?\}\.?(?=\s*Exception encountered: )",  # what Keras could not read, whole
        r", value=\[.*?\](?=>)",  # a variable's numbers
        r"\bArguments received by .*|\bList of objects that could not be loaded:.*|\bFull object config: .*",
    )
]


def cause_of(error: BaseException, length: int = 300) -> str:
    """Returns an error's text on one line of about `length` letters, without frames, arguments and terminal codes.

    A text that is too long loses its middle: its beginning says what failed, its end why.
    """
    message = getattr(error, "message", None)  # a TensorFlow error's own words
    text = message = message if isinstance(message, str) and message else str(error)
    for noise in _NOISE:
        text = noise.sub("", text)
    return shorten(text.strip() or message or type(error).__name__, length)
