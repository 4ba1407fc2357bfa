"""The demo page's modules without a browser, on a clock of their own: `modules.test.mjs` under Node's test runner."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_modules_of_the_page_keep_the_protocol():
    command = ["node", "--test", "--test-reporter=tap", "modules.test.mjs"]
    done = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60, check=False
    )
    failures = done.stdout if done.returncode else ""
    assert failures == ""
    assert "# pass 25" in done.stdout
