"""ssl.py has the standard library's name and must hand over the real module to whoever imports it."""

import subprocess
import sys

import pytest

from tests.tiny import ROOT

USE_THE_REAL_ONE = (
    "import ssl, urllib.request; ssl.create_default_context(); urllib.request.HTTPSHandler(); print(ssl.__file__)"
)


def real_path(output: str) -> bool:
    return output.strip().endswith("ssl.py") and str(ROOT) not in output


def test_a_plain_interpreter_in_the_project_gets_the_standard_module():
    done = subprocess.run(
        [sys.executable, "-c", USE_THE_REAL_ONE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert real_path(done.stdout)


def test_pytest_run_as_a_module_gets_the_standard_module():
    import ssl
    import urllib.request

    ssl.create_default_context()
    urllib.request.HTTPSHandler()
    assert real_path(ssl.__file__)


def test_a_spawned_process_gets_the_standard_module(tmp_path):
    code = (
        "import multiprocessing as mp\n"
        "def child(queue):\n"
        "    import ssl, urllib.request\n"
        "    ssl.create_default_context(); urllib.request.HTTPSHandler(); queue.put(ssl.__file__)\n"
        "if __name__ == '__main__':\n"
        "    context = mp.get_context('spawn'); queue = context.Queue()\n"
        "    process = context.Process(target=child, args=(queue,)); process.start()\n"
        "    print(queue.get(timeout=60)); process.join()\n"
    )
    file = tmp_path / "probe.py"  # a spawned child imports the parent's file, so it must be one
    file.write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_path({str(file)!r}, run_name='__main__')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert real_path(done.stdout)


@pytest.mark.parametrize("script", ["main.py", "parallel.py", "relabel.py", "ssl.py"])
def test_a_script_answers_from_another_folder_whatever_else_is_called_utils(script, tmp_path):
    for name in ("utils", "models", "datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('somebody else')\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--cuda_dev" in done.stdout


def test_the_training_script_itself_reaches_the_standard_module():
    code = (
        "import runpy, sys; sys.argv = ['ssl.py', '--help']\n"
        f"try: runpy.run_path({str(ROOT / 'ssl.py')!r}, run_name='__main__')\n"
        f"except SystemExit: pass\n{USE_THE_REAL_ONE}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert real_path(done.stdout.splitlines()[-1])
