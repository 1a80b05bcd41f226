"""Settings: a flag beats the environment, which beats the file; typing slips are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.offline import Offline, offline_in

pytestmark = pytest.mark.fast

PROXY = "http://user:secret@proxy.example:8080"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offline:
    """The exporter in an empty directory, without any setting from outside."""
    return offline_in(tmp_path, monkeypatch, capsys)


def settings(offline: Offline, *words: object, file: str = "", **env: str) -> dict[str, dict[str, Any]]:
    """Return what `exporter config --json` says."""
    (offline.cwd / "exporter.toml").write_text(file, "utf-8")
    ended = offline("config", "--json", *words, **env)
    assert ended.code == 0, ended.err
    shown: dict[str, dict[str, Any]] = json.loads(ended.out)
    return shown


@pytest.mark.parametrize(
    ("key", "in_file", "in_environment", "on_the_line"),
    [
        ("max-rejects", '"1%"', "2%", "3%"),
        ("concurrency", "1", "2", "3"),
        ("timeout", "1.5", "2.5", "3.5"),
        ("format", '["csv"]', "parquet csv", "parquet"),
        ("select", '["amount", "status"]', "number amount", "status"),
        ("refresh-status", '["100=1d", "550=30d"]', "100=2d 550=60d", "100=3d"),
        ("compression", '"gzip"', "snappy", "lz4"),
        ("api-url", '"https://one"', "https://two", "https://three"),
        ("out", '"one"', "two", "three"),
    ],
)
def test_each_source_beats_the_weaker_ones(
    offline: Offline, key: str, in_file: str, in_environment: str, on_the_line: str
) -> None:
    """For every kind of option: default < file < environment < flag, and `config` names the one that won."""
    file, variable = f"{key} = {in_file}", f"EXPORTER_{key.upper().replace('-', '_')}"
    by_default = settings(offline)[key]
    by_file = settings(offline, file=file)[key]
    by_environment = settings(offline, file=file, **{variable: in_environment})[key]
    by_flag = settings(offline, f"--{key}", on_the_line, file=file, **{variable: in_environment})[key]
    sources = [found["source"] for found in (by_default, by_file, by_environment, by_flag)]
    assert sources == ["default", f"exporter.toml: {key}", variable, f"--{key}"]
    assert _words(by_file["value"]) == _words(json.loads(in_file))
    assert _words(by_environment["value"]) == in_environment.split()
    assert _words(by_flag["value"]) == [on_the_line]


def _words(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def test_a_flag_without_value_can_come_from_anywhere(offline: Offline) -> None:
    """`overwrite = true` in the file and EXPORTER_OVERWRITE=1 do what --overwrite does; 0 takes it back."""
    assert settings(offline)["overwrite"]["value"] is False
    assert settings(offline, file="overwrite = true")["overwrite"]["value"] is True
    assert settings(offline, EXPORTER_OVERWRITE="1")["overwrite"]["value"] is True
    assert settings(offline, file="overwrite = true", EXPORTER_OVERWRITE="0")["overwrite"]["value"] is False
    assert settings(offline, "--overwrite", EXPORTER_OVERWRITE="0")["overwrite"]["value"] is True


def test_one_value_may_stand_for_a_list_in_the_file(offline: Offline) -> None:
    """`format = "csv"` is `format = ["csv"]`."""
    assert settings(offline, file='format = "csv"')["format"]["value"] == ["csv"]


def test_an_empty_variable_is_no_setting(offline: Offline) -> None:
    """A crontab's `EXPORTER_RATE=` leaves the default."""
    assert settings(offline, EXPORTER_RATE="")["rate"] == {"value": "10/s", "source": "default"}


def test_another_file_can_be_named(offline: Offline) -> None:
    """--config and EXPORTER_CONFIG name a file in place of exporter.toml; the flag wins."""
    (offline.cwd / "a.toml").write_text('rate = "1/s"')
    (offline.cwd / "b.toml").write_text('rate = "2/s"')
    assert settings(offline, EXPORTER_CONFIG="a.toml")["rate"]["source"] == "a.toml: rate"
    found = settings(offline, "--config", "b.toml", EXPORTER_CONFIG="a.toml")["rate"]
    assert found == {"value": "2/s", "source": "b.toml: rate"}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("max-reject = 3", ["exporter.toml", "'max-reject'", "max-rejects"]),
        ("max_rejects = 3", ["exporter.toml", "'max_rejects'", "max-rejects"]),
        ('formats = ["csv"]', ["exporter.toml", "'formats'", "format"]),
        ('token = "abc"', ["exporter.toml", "'token'", "token-file"]),
        ("[run]\nrate = 3", ["exporter.toml", "'run'"]),
        ("rate = ", ["exporter.toml", "expected TOML"]),
        ('rate = ["1/s", "2/s"]', ["exporter.toml: rate", "expected one value, got a list"]),
        ('concurrency = "many"', ["exporter.toml: concurrency", "not a valid integer"]),
        ('rate = "10 per second"', ["exporter.toml: rate", "10/s"]),
        ('max-age = "7"', ["exporter.toml: max-age", "7d"]),
        ("overwrite = 1", ["exporter.toml: overwrite", "true or false"]),
        ('overwrite = "no"', ["exporter.toml: overwrite", "true or false"]),
        ("timeout = true", ["exporter.toml: timeout", "got true or false"]),
    ],
)
def test_a_slip_in_the_file_is_named_with_its_place(offline: Offline, file: str, words: list[str]) -> None:
    """What cannot work in the file is exit 2, with file, key and the nearest name; nothing is made."""
    (offline.cwd / "exporter.toml").write_text(file, "utf-8")
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": "t"}
    offline("run", "numbers.txt", "--out", "out", **env).said(2, *words)
    assert [path.name for path in offline.cwd.iterdir()] == ["exporter.toml"]


def test_a_missing_file_is_named(offline: Offline) -> None:
    """A --config that is not there is exit 2; a missing exporter.toml is nothing."""
    offline("run", "numbers.txt", "--out", "o", "--config", "nightly.toml").said(2, "nightly.toml")


def test_a_slip_in_the_environment_is_named(offline: Offline) -> None:
    """An impossible value from the environment is named by its variable, not by a flag nobody gave."""
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": "t"}
    offline("run", "n.txt", "--out", "o", **env, EXPORTER_MAX_AGE="7").said(2, "EXPORTER_MAX_AGE:", "7d")
    offline("run", "n.txt", "--out", "o", **env, EXPORTER_TIMEOUT="x").said(2, "EXPORTER_TIMEOUT:")


def test_secrets_are_not_shown(offline: Offline) -> None:
    """`config` says that credentials are set, and never what they are; a proxy's user is hidden as well."""
    secrets = {
        "EXPORTER_API_TOKEN": "marker-token",
        "EXPORTER_API_USERNAME": "marker-user",
        "EXPORTER_API_PASSWORD": "marker-password",
        "EXPORTER_PII_KEY": "marker-key",
    }
    for words in ([], ["--json"]):
        ended = offline("config", *words, "--proxy", PROXY, **secrets)
        assert ended.code == 0
        assert "marker" not in ended.out + ended.err
        assert "secret" not in ended.out + ended.err
        assert ended.out.count("(hidden)") == 5


def test_config_fits_a_terminal_and_points_at_slips(offline: Offline) -> None:
    """The text fits 80 columns; a variable that no option has is pointed at."""
    ended = offline("config", EXPORTER_MAX_REJECT="3")
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "EXPORTER_MAX_REJECT is set" in ended.err
    assert "EXPORTER_MAX_REJECTS" in ended.err


def test_one_file_serves_every_command(offline: Offline) -> None:
    """A setting of `run` does not disturb `status`, which reads the same file."""
    (offline.cwd / "exporter.toml").write_text('format = ["csv"]\nmax-age = "7d"\n')
    ended = offline("status", "nothing")
    ended.said(2, "nothing: expected a dataset")


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:s3/cret@proxy.example:8080",
        "http://user:s3@cret@proxy.example:port",
        "http://user:s3cret@[::1:8080",
        "http://user:s3cret@proxy.example/path@more",
        "ftp://user:s3cret@proxy.example:21",
        "http://user:s3cret@",
        "http://user:s3cret@proxy.example:8080?x=s3cret@y",
    ],
)
def test_a_malformed_proxy_is_refused_and_hidden(offline: Offline, proxy: str) -> None:
    """Exit 2 that names --proxy, and neither error, next command nor `config` shows a word of its password."""
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": "t"}
    refused = offline("run", "n.txt", "--out", "o", "--proxy", proxy, "--json", **env)
    refused.said(2, "--proxy: expected http://HOST:PORT", "(hidden)")
    shown = offline("config", "--proxy", proxy)
    assert shown.code == 0
    assert "s3" not in refused.out + refused.err + shown.out + shown.err


def test_the_next_command_hides_a_proxys_password(offline: Offline) -> None:
    """What a failed run says to run again has the proxy, and nothing of its user."""
    (offline.cwd / "n.txt").write_text("A1\n")
    env = {"EXPORTER_API_URL": "https://api.invalid", "EXPORTER_API_TOKEN": "t"}
    ended = offline("run", "n.txt", "--out", "n.txt/o", "--proxy", "http://me:s3cret@127.0.0.1:9", **env)
    ended.said(7, "http://(hidden)@127.0.0.1:9")
    assert "s3cret" not in ended.out + ended.err


@pytest.mark.parametrize(
    "host", ["127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "0.0.0.0"]
)
def test_a_name_that_looks_like_loopback(offline: Offline, host: str) -> None:
    """http is for this machine: a name server may say of any other name what it likes."""
    ended = offline("run", "n.txt", "--out", "o", EXPORTER_API_URL=f"http://{host}", EXPORTER_API_TOKEN="t")
    ended.said(2, "expected https", "clear text")
