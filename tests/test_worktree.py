"""A worktree for each chat, with the real git."""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from codexgate.backends.codex import worktree
from codexgate.backends.codex.worktree import Worktrees
from codexgate.errors import Fault, GateError

from .support import run

ENVIRON = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=ENVIRON, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def trees(repo: Path) -> Worktrees:
    return Worktrees(repo, grace=0)


def fails(attempt: Callable[[], Awaitable[object]]) -> Fault:
    async def awaited() -> object:
        return await attempt()

    with pytest.raises(GateError) as failed:
        run(awaited())
    assert failed.value.fault.code == "worktree_failed"
    assert failed.value.fault.kind != "unavailable"
    return failed.value.fault


def records(repo: Path) -> list[str]:
    return sorted(path.name for path in (repo / ".git" / "worktrees").glob("*"))


def test_it_is_made_on_a_branch_of_its_name_from_head(repo: Path) -> None:
    path = run(trees(repo).allocate("calm-oak-1f"))
    assert path == repo / ".worktrees" / "calm-oak-1f"
    assert (path / "a.txt").read_text() == "one\n"
    assert git(path, "branch", "--show-current") == "calm-oak-1f"
    assert git(path, "rev-parse", "HEAD") == git(repo, "rev-parse", "main")


def test_the_repository_does_not_see_it(repo: Path) -> None:
    exclude = repo / ".git" / "info" / "exclude"
    exclude.write_text("*.log")  # whose last line has no end
    run(trees(repo).allocate("a"))
    run(trees(repo).allocate("b"))
    assert git(repo, "status", "--porcelain") == ""
    assert exclude.read_text() == "*.log\n.worktrees/\n"


def test_an_existing_branch_is_taken_up_again(repo: Path) -> None:
    git(repo, "branch", "a")
    (repo / "a.txt").write_text("two\n")
    git(repo, "commit", "-q", "-am", "second")
    path = run(trees(repo).allocate("a"))
    assert (path / "a.txt").read_text() == "one\n"


def test_it_is_the_same_the_second_time(repo: Path) -> None:
    path = run(trees(repo).allocate("a"))
    (path / "new.txt").write_text("mine")
    assert run(trees(repo).allocate("a")) == path
    assert (path / "new.txt").read_text() == "mine"


def test_a_folder_that_is_gone_is_made_again(repo: Path) -> None:
    path = run(trees(repo).allocate("a"))
    (path / "a.txt").write_text("two\n")
    git(path, "commit", "-q", "-am", "second")
    subprocess.run(["rm", "-r", str(path)], check=True)
    assert run(trees(repo).allocate("a")) == path
    assert (path / "a.txt").read_text() == "two\n"
    assert records(repo) == ["a"]


def test_many_at_once(repo: Path) -> None:
    async def all_at_once() -> list[Path]:
        here = trees(repo)
        return await asyncio.gather(*(here.allocate(f"w{n % 4}") for n in range(8)))

    assert len(set(run(all_at_once()))) == 4
    assert records(repo) == ["w0", "w1", "w2", "w3"]


@pytest.mark.parametrize("name", ["", "-x", "../x", "a/b", "A", "a b", "a\n", "é"])
def test_other_names_are_refused(repo: Path, name: str) -> None:
    assert "name" in fails(lambda: trees(repo).allocate(name)).message


def test_a_file_in_the_way_is_an_error(repo: Path) -> None:
    (repo / ".worktrees").mkdir()
    (repo / ".worktrees" / "a").write_text("")
    assert "in the way" in fails(lambda: trees(repo).allocate("a")).message


def test_a_link_in_the_way_is_an_error(repo: Path, tmp_path: Path) -> None:
    (repo / ".worktrees").symlink_to(tmp_path)
    assert "in the way" in fails(lambda: trees(repo).allocate("a")).message


def test_a_folder_of_somebody_elses_is_an_error(repo: Path) -> None:
    (repo / ".worktrees" / "a").mkdir(parents=True)
    (repo / ".worktrees" / "a" / "file").write_text("")
    assert "already exists" in fails(lambda: trees(repo).allocate("a")).message


@pytest.mark.parametrize("folder", ["plain", "missing"])
def test_a_folder_without_a_repository_gets_advice(tmp_path: Path, folder: str) -> None:
    (tmp_path / "plain").mkdir()
    fault = fails(lambda: trees(tmp_path / folder).allocate("a"))
    assert "git repository" in fault.message
    assert "git init" in fault.advice


def test_a_repository_without_a_commit_is_an_error_with_gits_reason(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert "HEAD" in fails(lambda: trees(tmp_path).allocate("a")).message


def test_without_git_there_is_advice(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert fails(lambda: trees(repo).allocate("a")).advice == "Install git."


def test_no_hook_runs_and_no_variable_of_the_gates_is_seen(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("post-checkout", "reference-transaction"):
        hook = repo / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {repo}/ran\n")
        hook.chmod(0o755)
    git(repo, "config", "core.fsmonitor", f"touch {repo}/ran")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    run(trees(repo).allocate("a"))
    assert run(trees(repo).remove("a"))
    assert not (repo / "ran").exists()


def test_a_clean_one_is_removed_and_its_branch_stays(repo: Path) -> None:
    path = run(trees(repo).allocate("a"))
    (path / "a.txt").write_text("two\n")
    git(path, "commit", "-q", "-am", "second")
    assert run(trees(repo).remove("a"))
    assert not path.exists()
    assert git(repo, "show", "a:a.txt") == "two"
    assert not run(trees(repo).remove("a"))


def change(path: Path) -> None:
    (path / "a.txt").write_text("two\n")


def stage(path: Path) -> None:
    change(path)
    git(path, "add", ".")


def add(path: Path) -> None:
    (path / "new.txt").write_text("")


def detach(path: Path) -> None:
    git(path, "checkout", "-q", "--detach")
    stage(path)
    git(path, "commit", "-q", "-m", "on no branch")


def lock(path: Path) -> None:
    git(path, "worktree", "lock", str(path))


@pytest.mark.parametrize("work", [change, stage, add, detach, lock])
def test_work_is_never_removed(repo: Path, work: Callable[[Path], None]) -> None:
    path = run(trees(repo).allocate("a"))
    work(path)
    assert not run(trees(repo).remove("a"))
    assert run(trees(repo).clean(frozenset())) == []
    assert path.exists()


def test_only_ours_that_nobody_keeps_are_cleaned(repo: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run(trees(repo).allocate(name))
    add(repo / ".worktrees" / "c")
    git(repo, "worktree", "add", "-q", str(repo / ".worktrees" / "users"))
    git(repo, "worktree", "add", "-q", str(tmp_path / "elsewhere"))
    run(trees(repo).allocate("users"))  # which does not make it ours
    assert run(trees(repo).clean(frozenset({"b"}))) == ["a"]
    assert records(repo) == ["b", "c", "elsewhere", "users"]
    assert not run(trees(repo).remove("users"))


def test_one_that_was_just_handed_out_is_left(repo: Path) -> None:
    run(Worktrees(repo).allocate("a"))
    mark = repo / ".git" / "worktrees" / "a" / "codexgate"
    assert run(Worktrees(repo).clean(frozenset())) == []
    os.utime(mark, (0, 0))
    run(Worktrees(repo).allocate("a"))
    assert run(Worktrees(repo).clean(frozenset())) == []
    os.utime(mark, (0, 0))
    assert run(Worktrees(repo).clean(frozenset())) == ["a"]


def test_one_that_cannot_be_removed_does_not_save_the_others(repo: Path) -> None:
    for name in ("a", "b"):
        run(trees(repo).allocate(name))
    (repo / ".worktrees" / "a" / ".git").write_text("gitdir: /nowhere\n")
    assert run(trees(repo).clean(frozenset())) == ["b"]
    assert "a" in fails(lambda: trees(repo).remove("a")).message


def test_a_stale_lock_is_removed(repo: Path) -> None:
    lock = repo / ".git" / "refs" / "heads" / "a.lock"
    lock.write_text("")
    os.utime(lock, (time.time() - 180,) * 2)
    assert run(trees(repo).allocate("a")).is_dir()
    assert not lock.exists()


def test_a_lock_that_is_let_go_is_waited_for(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = repo / ".git" / "refs" / "heads" / "a.lock"
    lock.write_text("")
    real = asyncio.sleep

    async def let_go(seconds: float) -> None:
        lock.unlink()
        await real(0)

    monkeypatch.setattr("codexgate.backends.codex.worktree.asyncio.sleep", let_go)
    assert run(trees(repo).allocate("a")).is_dir()


def test_a_lock_that_stays_is_an_error_to_try_again(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worktree, "WAIT", 0.0)
    lock = repo / ".git" / "refs" / "heads" / "a.lock"
    lock.write_text("")
    fault = fails(lambda: trees(repo).allocate("a"))
    assert "File exists" in fault.message
    assert fault.retryable
    assert lock.exists()


@pytest.fixture
def endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git that never ends; the file where it writes its number."""
    program, number = tmp_path / "bin" / "git", tmp_path / "number"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho $$ > {number}.new\nmv {number}.new {number}\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return number


def gone(number: Path) -> bool:
    try:
        os.kill(int(number.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_git_that_hangs_is_ended(repo: Path, endless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worktree, "DEADLINE", 3.0)  # by then it has begun
    fault = fails(lambda: trees(repo).allocate("a"))
    assert fault.retryable
    assert "given up" in fault.message
    assert gone(endless)


def test_a_caller_that_leaves_leaves_no_git(repo: Path, endless: Path) -> None:
    async def leave() -> None:
        task = asyncio.create_task(trees(repo).allocate("a"))
        while not endless.exists():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(leave())
    assert gone(endless)


def test_new_names_are_new(repo: Path) -> None:
    taken: set[str] = set()
    for _ in range(200):
        name = trees(repo).new_name(taken)
        assert worktree._NAME.fullmatch(name)
        assert name not in taken
        taken.add(name)


def test_names_do_not_run_out(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codexgate.backends.codex.worktree.secrets.token_hex", "0".__mul__)
    monkeypatch.setattr("codexgate.backends.codex.worktree.secrets.choice", lambda words: words[0])
    run(trees(repo).allocate("amber-ash-000"))
    assert trees(repo).new_name({"amber-ash-00"}) == "amber-ash-0000"
