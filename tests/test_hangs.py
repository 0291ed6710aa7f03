"""A test that hangs ends its run with an error, and says where it was."""

import subprocess
import sys

from dfsae.data import ROOT

TESTS = "import time\n\ndef test_hangs():\n    time.sleep(60)\n\ndef test_after():\n    pass\n"


def test_a_test_that_hangs_ends_its_run(tmp_path):
    file = tmp_path / "test_sleep.py"
    file.write_text(TESTS)
    done = subprocess.run([sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "no:cacheprovider",
                           "-o", "faulthandler_timeout=2", file], capture_output=True, text=True, timeout=40)
    assert done.returncode == 1 and "Timeout" in done.stderr and "in test_hangs" in done.stderr
    assert "passed" not in done.stdout
