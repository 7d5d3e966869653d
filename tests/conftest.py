"""Fixtures that the tests of whole scripts share."""

import pytest

from tests.tiny import load_script


@pytest.fixture
def run(tmp_path, capsys):
    """run("main.py", "--flag", ...) -> what the script printed; experiments go to tmp_path."""

    def run_script(name: str, *args: str) -> str:
        load_script(name).main([*map(str, args), "--experiments_root", str(tmp_path)])
        return capsys.readouterr().out

    return run_script
