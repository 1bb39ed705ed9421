"""Log lines of all that runs here meet in one place."""

import os
import subprocess
import sys

SAY = "from app.log import configure_logging, log; configure_logging(); log.info('Well done.')"


def test_a_line_is_written_at_once_so_that_no_other_comes_between_it_and_its_end() -> None:
    reading, writing = os.pipe2(os.O_DIRECT)  # what is written at once is read alone
    subprocess.run([sys.executable, "-u", "-c", SAY], stderr=writing, check=True)
    os.close(writing)
    with open(reading, "rb", buffering=0) as pipe:
        written = pipe.read(4096)

    assert b"Well done." in written
    assert written.endswith(b"\n")
