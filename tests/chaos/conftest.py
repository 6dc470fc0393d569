import pytest

from connectplugin_chaos.toxiproxy.binary import Binary, NoToxiproxyError, find


@pytest.fixture(scope="session")
def toxiproxy() -> Binary:
    """The real program; nothing stands in for it."""
    try:
        return find()
    except NoToxiproxyError as error:
        pytest.skip(str(error))
