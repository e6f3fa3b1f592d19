"""Downloads from a server on the loopback that has the faults of real ones."""

from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import numpy as np
import pytest
from loopback import http_server

from seaice_lab import servers
from seaice_lab.catalog import DailyFiles
from seaice_lab.errors import InputError

MONTH, PATH, CHUNK = date(2010, 1, 1), "/2010/01/ice_20100102.nc", servers.CHUNK
HDF5 = b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(60_000)


@pytest.fixture(scope="module")
def running():
    with http_server() as server:
        yield server


@pytest.fixture
def server(running):
    running.files, running.faults = {PATH: HDF5}, {}
    running.requests.clear()
    return running


def january(server, patience):
    """The files of a month on the server."""
    address = DailyFiles(url=f"{server.address}/%Y/%m/ice_%Y%m%d.nc", since=date(1978, 10, 25))
    rule = SimpleNamespace(way="urls", urls=(address,))
    return servers.WAYS["urls"](SimpleNamespace(fetch=rule), MONTH, patience)


@pytest.fixture
def remote(server, patience):
    """The only file of the month, of which the server tells the size."""
    (remote,) = january(server, patience)
    assert (remote.name, remote.size, remote.day) == (PATH[9:], len(HDF5), date(2010, 1, 2))
    server.requests.clear()
    return remote


def ranges(server):
    return [asked for _, _, asked in server.requests]


def test_the_period_of_an_address_bounds_the_days_that_are_asked_for(server, patience):
    periods = [(date(2010, 1, 2), date(2010, 1, 2)), (date(2010, 1, 30), None)]
    urls = [
        DailyFiles(url=f"{server.address}/{n}_%Y%m%d.nc", since=since, until=until)
        for n, (since, until) in enumerate(periods)
    ]
    entry = SimpleNamespace(fetch=SimpleNamespace(way="urls", urls=urls))
    assert servers.WAYS["urls"](entry, MONTH, patience) == []
    paths = [path for _, path, _ in server.requests]
    assert paths == ["/0_20100102.nc", "/1_20100130.nc", "/1_20100131.nc"]


def test_a_broken_download_is_resumed(server, remote, patience, waits, tmp_path):
    server.faults[PATH] = ["cut", "cut"]
    servers.download(remote, tmp_path / "ice.nc", patience)
    assert ranges(server) == [None, f"bytes={CHUNK}-", f"bytes={2 * CHUNK}-"]
    assert waits == [1, 2]
    assert (tmp_path / "ice.nc").read_bytes() == HDF5
    assert [path.name for path in tmp_path.iterdir()] == ["ice.nc"]


def test_a_server_that_stops_sending_is_asked_for_the_rest(server, patience, tmp_path):
    server.faults[PATH] = ["slow"]
    (remote,) = january(server, patience._replace(timeout_s=0.3))
    servers.download(remote, tmp_path / "ice.nc", patience)
    assert f"bytes={CHUNK}-" in ranges(server)
    assert (tmp_path / "ice.nc").read_bytes() == HDF5


def test_a_download_is_resumed_by_the_next_command_unless_the_file_changed(
    server, remote, patience, tmp_path
):
    def interrupted():
        server.faults[PATH] = ["cut", 404]
        with pytest.raises(InputError, match="404"):
            servers.download(remote, tmp_path / "ice.nc", patience)
        assert not (tmp_path / "ice.nc").exists()

    interrupted()
    servers.download(*january(server, patience), tmp_path / "ice.nc", patience)
    assert ranges(server)[-1] == f"bytes={CHUNK}-"
    (tmp_path / "ice.nc").unlink()
    interrupted()
    server.files[PATH] = HDF5[::-1].replace(HDF5[:8][::-1], b"") + HDF5[:8]
    server.files[PATH] = HDF5[:8] + server.files[PATH][:-8]  # the same size, other content
    assert len(server.files[PATH]) == len(HDF5)
    servers.download(*january(server, patience), tmp_path / "ice.nc", patience)
    assert ranges(server)[-1] is None
    assert (tmp_path / "ice.nc").read_bytes() == server.files[PATH]


def test_a_file_that_is_not_resumed_is_not_appended(server, remote, patience, tmp_path):
    server.faults[PATH] = ["cut", "whole"]
    servers.download(remote, tmp_path / "ice.nc", patience)
    assert (tmp_path / "ice.nc").read_bytes() == HDF5


def test_nothing_is_resumed_if_the_server_says_nothing_about_the_file(
    server, remote, patience, tmp_path
):
    unknown = remote._replace(size=None, version="")
    for faults in (["cut", 404], []):
        server.faults[PATH] = faults
        try:
            servers.download(unknown, tmp_path / "ice.nc", patience)
        except InputError:
            server.requests.clear()
    assert ranges(server) == [None]
    assert (tmp_path / "ice.nc").read_bytes() == HDF5


def test_a_busy_server_is_asked_again_when_it_says(server, remote, patience, waits, tmp_path):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100))
    server.faults[PATH] = [(429, {"Retry-After": "40"}), (503, {"Retry-After": later}), 502]
    servers.download(remote, tmp_path / "ice.nc", patience)
    assert waits[0] == 40 and 90 < waits[1] <= 100 and waits[2] == 3
    server.faults[PATH] = [(503, {"Retry-After": "99999"})]
    servers.download(remote, tmp_path / "again.nc", patience)
    assert waits[3] == servers.LONGEST_WAIT_S


@pytest.mark.parametrize(
    "status, count, words", [(503, 4, "try again later"), (403, 1, "use a valid key")]
)
def test_a_server_that_stays_busy_or_refuses_is_one_sentence(
    server, remote, patience, tmp_path, status, count, words
):
    server.faults[PATH] = [status] * 9
    with pytest.raises(InputError, match=f"{status}.*{words}"):
        servers.download(remote, tmp_path / "ice.nc", patience)
    assert len(server.requests) == count
    assert not (tmp_path / "ice.nc").exists()


def test_a_wrong_address_is_not_tried_again(patience, waits):
    with pytest.raises(InputError, match="InvalidSchema"):
        january(SimpleNamespace(address="htps://host"), patience)
    assert waits == []


def test_a_password_in_an_address_never_appears(server, patience, tmp_path):
    (remote,) = january(
        SimpleNamespace(address=server.address.replace("//", "//me:sesame@")), patience
    )
    server.faults[PATH] = [403]
    with pytest.raises(InputError, match=r"//\*\*\*@127") as refused:
        servers.download(remote, tmp_path / "ice.nc", patience)
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"size": 1}, f"has {len(HDF5)} bytes, but the server announced 1"),
        ({"checksum": f"md5:{32 * '0'}"}, "has another md5 checksum than the server announced"),
    ],
)
def test_another_size_or_checksum_than_announced_is_refused(
    remote, patience, waits, tmp_path, change, words
):
    with pytest.raises(InputError, match=words):
        servers.download(remote._replace(**change), tmp_path / "ice.nc", patience)
    assert waits == [1, 2, 3]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content, words", [(b"<html>log in</html>", "web page"), (b"", "empty")])
def test_a_page_instead_of_data_is_refused_and_not_kept(server, patience, tmp_path, content, words):
    server.files[PATH] = content
    with pytest.raises(InputError, match=f"^{PATH[9:]}: is .*{words}"):
        servers.download(*january(server, patience), tmp_path / "ice.nc", patience)
    assert not list(tmp_path.iterdir())
