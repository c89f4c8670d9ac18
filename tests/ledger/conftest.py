"""Both ways to do the ledger's arithmetic: `arithmetic` runs a test with each."""

from collections.abc import Iterator

import pytest

from pipeline.ledger import native


@pytest.fixture(scope="module", params=["native", "numpy"])
def arithmetic(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "native" and native.code is None:
        pytest.skip(native.runs)  # where it could be built, tests/ledger/test_native.py fails
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(native, "code", None)
        yield request.param
