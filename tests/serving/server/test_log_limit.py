"""What callers can cause is not written for ever."""

import logging
import subprocess
import sys
import textwrap

from maskport.serving.server.log_limit import LogLimit


def test_lines_of_one_place_are_bounded_and_counted_and_others_pass():
    now, written = [0.0], []
    logger, handler = logging.Logger("test"), logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    handler.addFilter(LogLimit(lines=3, period_s=60, clock=lambda: now[0]))
    logger.addHandler(handler)

    def complain(count):
        for number in range(count):
            logger.warning("bad image %d", number)

    complain(1000)
    logger.error("something else")
    for _ in range(5):
        logger.info("loaded")  # what happens by itself is not limited
    assert written == ["bad image 0", "bad image 1", "bad image 2", "something else", *["loaded"] * 5]
    written.clear()
    now[0] = 61.0
    complain(5)
    assert written == [
        "bad image 0 (before it 997 more such lines, which were left out)", "bad image 1", "bad image 2",
    ]  # fmt: skip
    written.clear()
    now[0] = 200.0
    complain(1)
    assert written == ["bad image 0 (before it 2 more such lines, which were left out)"]


def test_what_native_code_writes_is_bounded_and_the_log_and_later_words_are_not():
    program = """
    import logging, os, sys
    from maskport.serving.server.log_limit import native_output_limited

    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(handler)
    with native_output_limited(handler, lines=5):
        for number in range(3000):
            try:
                os.write(2, b"Corrupt JPEG data %d\\n" % number)
            except BlockingIOError:
                pass
        logging.warning("a line of the log")
    print("afterwards", file=sys.stderr)
    logging.warning("and in the log")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("Corrupt")] == [f"Corrupt JPEG data {n}" for n in range(5)]
    assert lines.count("a line of the log") == 1
    assert lines[-2:] == ["afterwards", "and in the log"]
