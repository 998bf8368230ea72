"""Property tests: few examples as a rule, many with --hypothesis-profile=soak, where each counts as slow."""

from pathlib import Path

import pytest
from hypothesis import settings

from properties.limited import Limited

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    if settings.get_current_profile_name() == "soak":
        for item in items:
            if item.path.is_relative_to(HERE):
                item.add_marker("slow")


@pytest.fixture(scope="session")
def limited():
    """Reads files in a process that has neither torch nor much memory, and must answer."""
    with Limited() as reader:
        yield reader


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One folder for all examples: each overwrites the files of the one before."""
    return tmp_path_factory.mktemp("properties")
