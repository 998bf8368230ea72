"""The shape of the code, as far as a test can keep it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import metta_hub

PACKAGE = Path(metta_hub.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE = 380
LONGEST_FUNCTION = 50


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_stay_small(module):
    text = module.read_text()
    assert text.count("\n") <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= LONGEST_FUNCTION, node.name


def test_the_public_names_are_sorted_and_there():
    assert sorted(metta_hub.__all__) == metta_hub.__all__ == dir(metta_hub)
    for name in metta_hub.__all__:
        assert getattr(metta_hub, name) is not None


def test_import_loads_nothing_heavy():
    code = "import sys, metta_hub; print({'torch', 'huggingface_hub', 'pydantic', 'typer'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_error_is_in_the_tree_and_says_so():
    from metta_hub import errors

    classes = [item for item in vars(errors).values() if isinstance(item, type) and issubclass(item, Exception)]
    for error in classes:
        assert issubclass(error, errors.MettaHubError)
        assert error.__name__ in errors.__doc__


def test_every_error_survives_a_copy_and_another_process():
    import copy
    import pickle

    from metta_hub import errors

    samples = [
        errors.NotPlainError("a.pt", "it asks for x", globals_=["x"], hint="look"),
        errors.ChecksumError("a.pt", "data/0", "differs"),
        errors.NoRoomError("a.pt", 12, "3 are free"),
        errors.HubAccessError("org/nav", "No.", token_source="HF_TOKEN", status=403),
        errors.UnknownArchitectureError("X", ["Y"]),
    ]
    for error in samples:
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error)
            assert (str(again), vars(again)) == (str(error), vars(error))
