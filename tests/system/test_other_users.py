"""Attacks of another user of the machine, each by a real process of one: he gets no byte and is obeyed in nothing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.dataset.destination import Directory
from exporter.model.errors import StorageError
from exporter.model.manifest import decode
from tests.run.test_retention import dataset
from tests.support.processes import ROOT, TOKEN, Api, Exporter, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 if hasattr(os, "geteuid") else True, reason="only root can act as another user"
)
MALLORY = 40404
Attack = Callable[[str], None]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp: everybody can make something in it, and each can remove his own."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    for folder in tmp_path.parents:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    tmp_path.chmod(0o755)
    return place


@pytest.fixture
def mallory(shared: Path) -> Attack:
    """Runs a shell script as another user in the shared folder."""

    def attack(script: str) -> None:
        user = ["setpriv", f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups"]
        subprocess.run([*user, "sh", "-ec", script], cwd=shared, check=True)

    return attack


@pytest.fixture
def victim(api: Api, shared: Path, tmp_path: Path) -> Exporter:
    """The exporter of this user, whose list is his own, at work in the shared folder."""
    exporter = api.exporter(tmp_path / "own", api.numbers[:20])
    return Exporter(cwd=tmp_path / "own", env=exporter.env)


@pytest.fixture(scope="module")
def unfinished(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a run that was killed."""
    exporter = api.exporter(tmp_path_factory.mktemp("killed"), api.numbers[:20])
    with exporter.run_started("--rate", "5/s") as running:
        wait_until((exporter.cwd / "out.partial" / "store.db").exists)
        running.kill()
    return exporter.cwd / "out.partial"


# --- the work directory ---


def test_a_work_directory_that_he_has_made(api: Api, victim: Exporter, shared: Path, mallory: Attack) -> None:
    """His OUT.partial, with files of our names: exit 7, nothing is asked, and nothing reaches his files."""
    mallory(
        "umask 0; mkdir out.partial; touch out.partial/lock out.partial/store.db; ln out.partial/store.db mine"
    )
    asked = api.asked()
    victim.run("--pii", "drop", out=shared / "out").said(7, "out.partial", f"user {MALLORY}", "another place")
    assert api.asked() == asked
    assert (shared / "mine").read_bytes() == b""


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("chmod 777 out.partial", id="open-folder"),
        pytest.param(f"chown {MALLORY} out.partial/store.db", id="his-store"),
        pytest.param("ln out.partial/store.db out.partial.link", id="hard-link"),
        pytest.param("mv out.partial/store.db kept; ln -s $PWD/kept out.partial/store.db", id="link"),
        pytest.param("chmod 666 out.partial/store.db", id="open-store"),
        pytest.param("rm out.partial/lock; ln -s /etc/hostname out.partial/lock", id="linked-lock"),
        pytest.param("mv out.partial kept; ln -s kept out.partial", id="linked-folder"),
        pytest.param(f"mkdir out.partial/ranges; chown {MALLORY} out.partial/ranges", id="his-ranges"),
    ],
)
def test_files_that_are_not_ours_alone(api: Api, victim: Exporter, unfinished: Path, prepare: str) -> None:
    """An unfinished run of ours in which one thing may be another's: exit 7 that names it; nothing is asked."""
    shutil.copytree(unfinished, victim.cwd / "out.partial")
    subprocess.run(["sh", "-ec", prepare], cwd=victim.cwd, check=True)
    asked = api.asked()
    hostname = Path("/etc/hostname").read_bytes()
    victim.run().said(7, "out.partial", "this user alone")
    assert (api.asked(), Path("/etc/hostname").read_bytes()) == (asked, hostname)


def test_a_group_that_shares_its_files(victim: Exporter) -> None:
    """With umask 002 a run resumes all the same: what it makes for itself is its user's alone."""
    before = os.umask(0o002)
    try:
        with victim.run_started("--rate", "5/s") as running:
            wait_until((victim.cwd / "out.partial" / "plan.db").exists)
            running.kill()
        with victim.run_started() as running:
            assert running.end().code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((victim.cwd / "out" / "orders.parquet").stat().st_mode) == 0o664


# --- the store ---


@pytest.mark.parametrize(
    "script",
    [
        "umask 0; touch nightly.db",
        "umask 0; touch nightly.db-wal",
        "umask 0; touch nightly.db-shm",
        "umask 0; touch nightly.db-journal",
        "umask 0; touch nightly.db.lock",
        "ln -s /etc/hostname nightly.db.lock",
        "umask 0; touch his.db; ln -s his.db nightly.db",
    ],
)
def test_a_store_beside_his_files(
    api: Api, victim: Exporter, shared: Path, mallory: Attack, script: str
) -> None:
    """A --store of which he has made one file: exit 7, nothing is asked, no file of anybody is changed."""
    mallory(script)
    # His links are not followed: a system with fs.protected_symlinks would not let us.
    files = [path for path in shared.iterdir() if not path.is_symlink()]
    before = {path: path.read_bytes() for path in [*files, Path("/etc/hostname")]}
    asked = api.asked()
    victim.run("--store", shared / "nightly.db").said(7, "this user alone")
    assert api.asked() == asked
    assert before == {path: path.read_bytes() for path in before}


def test_a_store_in_a_shared_folder(victim: Exporter, shared: Path) -> None:
    """Where he has made nothing, a store in a folder like /tmp works, night after night."""
    words = ("--store", shared / "nightly.db", "--overwrite", "--max-age", "1d")
    assert [victim.run(*words).code for _ in range(2)] == [0, 0]
    assert stat.S_IMODE((shared / "nightly.db").stat().st_mode) == 0o600


def test_a_store_through_a_link(api: Api, victim: Exporter) -> None:
    """A link to the store is followed once: the link stays, and the lock is the store's own."""
    real, link = victim.cwd / "data" / "real.db", victim.cwd / "nightly.db"
    real.parent.mkdir()
    link.symlink_to(real)
    assert victim.run("--store", "nightly.db").code == 0
    assert link.readlink() == real
    assert real.stat().st_size > 0
    with victim.run_started("--store", real, "--rate", "5/s", out="one") as first:
        wait_until((victim.cwd / "one.partial" / "store.db").parent.exists)
        wait_until(Path(f"{real}.lock.json").exists)
        victim.run("--store", link, out="two").said(8, f"process {first.pid}")
    asked = api.asked()
    assert victim.run("--store", link, "--max-age", "1d", out="three").code == 0
    assert api.asked() == asked


# --- settings and credentials ---


def test_settings_that_he_has_left(victim: Exporter, shared: Path, mallory: Attack) -> None:
    """His exporter.toml in the folder where we work would send the token to him: exit 2, and it is named."""
    mallory("umask 022; printf 'api-url = \"http://127.0.0.1:9\"\\n' > exporter.toml")
    there = Exporter(cwd=shared, env={**victim.env, "EXPORTER_API_URL": ""})
    there("run", victim.cwd / "numbers.txt", "--out", victim.cwd / "out").said(
        2, str(shared / "exporter.toml"), f"user {MALLORY}", "--config exporter.toml"
    )


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o660])
def test_settings_that_others_can_change(victim: Exporter, mode: int) -> None:
    """Our own exporter.toml, writable by others, is refused; closed, it is obeyed and the log names it."""
    settings = victim.cwd / "exporter.toml"
    settings.write_text('rate = "100/s"\n')
    settings.chmod(mode)
    victim.run().said(2, str(settings), f"{mode:04o}", "chmod go-w")
    settings.chmod(0o644)
    ended = victim.run()
    assert (ended.code, f"Settings: {settings}" in ended.err) == (0, True)


@pytest.mark.skipif(shutil.which("setfacl") is None, reason="setfacl is not here; Debian: acl")
def test_a_token_that_systemd_hands_over(api: Api, victim: Exporter) -> None:
    """A credential with an access list, which shows as 0440, is taken below CREDENTIALS_DIRECTORY, and nowhere else."""
    folder = victim.cwd / "credentials"
    folder.mkdir(0o700)
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o400)
    subprocess.run(["setfacl", "-m", f"u:{MALLORY}:r", token], check=True)
    assert stat.S_IMODE(token.stat().st_mode) == 0o440
    env = {"EXPORTER_API_TOKEN": "", "EXPORTER_TOKEN_FILE": str(token)}
    assert victim.run(**env, CREDENTIALS_DIRECTORY=str(folder)).code == 0
    victim.run(out="next", **env).said(2, "others can read it", "chmod 600")
    elsewhere = {**env, "CREDENTIALS_DIRECTORY": str(victim.cwd / "other")}
    victim.run(out="next", **elsewhere).said(2, "others can read it")


if Path(
    "/run/systemd/system"
).is_dir():  # sd_booted(3): a container has no systemd to ask, and that is no gap

    def test_a_token_that_a_real_systemd_hands_over(api: Api, victim: Exporter, shared: Path) -> None:
        """A service of another user than root gets its credential by an access list, and the run takes it."""
        import pwd

        nobody = pwd.getpwnam("nobody").pw_uid  # systemd takes no user that has no entry
        user = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups"]
        if subprocess.run([*user, sys.executable, "-c", ""], cwd="/", check=False).returncode != 0:
            pytest.skip("this Python cannot be run by another user")
        token, place = victim.cwd / "token", shared / "night"
        token.write_text(TOKEN)
        token.chmod(0o600)
        place.mkdir()
        os.chown(place, nobody, nobody)
        service = ["systemd-run", "--pipe", "--wait", "--quiet", "--collect", f"--working-directory={place}"]
        service += [f"--property=LoadCredential=token:{token}", "--property=User=nobody"]
        service += [f"--setenv=PYTHONPATH={ROOT}", f"--setenv=EXPORTER_API_URL={api.url}"]
        script = 'EXPORTER_TOKEN_FILE=$CREDENTIALS_DIRECTORY/token exec "$@"'
        words = ["sh", "-c", script, "sh", sys.executable, "-m", "exporter", "run", "-", "--out", "out"]
        listed = (victim.cwd / "numbers.txt").read_text()
        ended = subprocess.run([*service, *words], input=listed, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_a_user_without_a_home(victim: Exporter) -> None:
    """Neither HOME nor an entry in passwd: one sentence where a state folder is needed, no word elsewhere."""
    env = {name: value for name, value in victim.env.items() if name != "HOME"}
    script = (
        "import os, sys, pwd; pwd.getpwuid = lambda uid: (_ for _ in ()).throw(KeyError(uid));"
        "from exporter.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(out: str) -> subprocess.CompletedProcess[str]:
        words = ["run", "numbers.txt", "--out", out, "--rate", "unlimited"]
        return subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=victim.cwd,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run("out").returncode == 0
    refused = run("s3://bucket/orders")
    assert (refused.returncode, "XDG_STATE_HOME" in refused.stderr, "Traceback" in refused.stderr) == (
        2,
        True,
        False,
    )


# --- a file system without owners ---


@pytest.fixture
def ownerless(tmp_path: Path) -> Iterator[Path]:
    """A file system on which everything belongs to somebody else and is open to all, whatever one asks for."""
    source, place = tmp_path / "source", tmp_path / "ownerless"
    source.mkdir()
    place.mkdir()
    options = [f"--force-user={MALLORY}", "--perms=0777", "--chmod-ignore", "--chown-ignore"]
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not here; Debian: bindfs")
    mounted = subprocess.run(["bindfs", *options, source, place], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount by FUSE: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_file_system_without_owners(api: Api, ownerless: Path) -> None:
    """There nothing is refused: the run works and resumes, and the log says once that the file system hides nothing."""
    exporter = api.exporter(ownerless / "work", api.numbers[:20])
    (exporter.cwd / "exporter.toml").write_text('rate = "unlimited"\n')
    ended = exporter.run("--store", "nightly.db")
    assert ended.code == 0, ended.err
    assert ended.err.count("without owners") == 1
    assert not (exporter.cwd / "out.partial").exists()
    assert exporter.run("--store", "nightly.db", "--overwrite", "--max-age", "1d").code == 0


# --- what is removed ---


def named(folder: Path) -> Path:
    return dataset(folder, 1)


@pytest.mark.parametrize("exchange", [True, False])
def test_what_comes_between_look_and_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    """A file put into OUT after the last look is found after the exchange: all is put back, nothing is removed."""
    if not exchange:
        monkeypatch.setattr("exporter.system.durable._exchange", lambda *_: False)
    out, staged = named(tmp_path / "out"), named(tmp_path / "work-staged")
    (staged / "new.txt").touch()
    destination = Directory(out)
    destination.standing()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"mine\.txt.*during the run"):
        destination.put(staged, tmp_path / "retired")
    assert (out / "mine.txt").read_text() == "mine"
    assert (staged / "new.txt").exists()
    (out / "mine.txt").unlink()
    destination.put(staged, tmp_path / "retired")
    assert (out / "new.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_another_dataset_that_comes_between(tmp_path: Path) -> None:
    """A dataset of another run that came after the last look is put back, not replaced."""
    staged = named(tmp_path / "staged")
    destination = Directory(tmp_path / "out")
    assert destination.standing() is None
    other = named(tmp_path / "out")
    with pytest.raises(StorageError, match="another dataset"):
        destination.put(staged, tmp_path / "retired")
    assert decode((other / "manifest.json").read_bytes(), "").run_id == "r"
    assert staged.exists()
