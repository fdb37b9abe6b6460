"""What all tests share: repeatable examples, and one seed."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# CI must say the same of the same commit twice, on a machine of any speed. To hunt for new
# examples: HYPOTHESIS_PROFILE=hunt.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("hunt", max_examples=1_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


# A shell starts what runs in the background deaf to Ctrl-C, and so are its children then.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def seed() -> int:
    """The seed of all that draws at random."""
    return 20130101


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow on SQLite, to copy."""
    from tests.mlflows import tables

    return tables(tmp_path_factory.mktemp("mlflow"))
