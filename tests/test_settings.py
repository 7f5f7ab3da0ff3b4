"""The settings there are: where they are looked for, what others call them, how they are shown."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codexgate.backends.openai import OpenAIOptions
from codexgate.cli import main
from codexgate.config import MASK, Secret, describe
from codexgate.errors import GateError
from codexgate.gate import Alias
from codexgate.settings import AUTHORITY, FLAGS, FOREIGN, Settings, find_file, load_settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is set."""
    for name in [name for name in os.environ if name.startswith("CODEXGATE_") or name in FOREIGN]:
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; gives the exit code, standard output and standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["codexgate", *words])
        try:
            code = main.run()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


# Where


def test_the_file_is_looked_for_in_order(home: Path) -> None:
    work, user = home / "work", home / "xdg_config_home" / "codexgate"
    assert find_file(None, {}, work) is None
    user.mkdir(parents=True)
    (user / "codexgate.toml").touch()
    assert find_file(None, {}, work) == user / "codexgate.toml"
    (work / "codexgate.toml").touch()
    assert find_file(None, {}, work) == work / "codexgate.toml"
    environ = {"CODEXGATE_CONFIG": "/etc/gate.toml"}
    assert find_file(None, environ, work) == Path("/etc/gate.toml")
    assert find_file(Path("mine.toml"), environ, work) == Path("mine.toml")


@pytest.mark.parametrize(
    "layers", [{"config": Path("no.toml")}, {"environ": {"CODEXGATE_CONFIG": "no.toml"}}]
)
def test_a_file_that_was_named_must_be_there(layers: dict[str, Any]) -> None:
    with pytest.raises(GateError, match=r"no\.toml: the file cannot be read: No such file"):
        load_settings(**({"environ": {}} | layers))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have owners on POSIX only")
def test_a_file_that_somebody_else_left_in_the_folder_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "work" / "codexgate.toml"
    file.touch()
    if os.geteuid() == 0:
        os.chown(file, 4242, 4242)
    monkeypatch.setattr(os, "geteuid", lambda: 4243)
    with pytest.raises(GateError, match=r"belongs to another user. If you trust it, name it: --config"):
        load_settings()
    assert load_settings(config=file).settings == Settings()


@pytest.mark.parametrize("key", AUTHORITY)
def test_a_file_of_the_folder_one_is_in_decides_nothing_about_what_may_run(home: Path, key: str) -> None:
    """A cloned repository may bring one; naming it is a decision, being there is not."""
    section, _, name = key.rpartition(".")
    values = {
        "codex.use_host_config": "true",
        "codex.sandbox": '"workspace-write"',
        "codex.approvals": '"ask"',
        "threads.redis_url": '"redis://evil.example"',
        "embeddings.provider": '"demo"',
    }
    value = values.get(key, '"/tmp/x"')
    text = f"[{section}]\n{name} = {value}\n" if section else f"{name} = {value}\n"
    file = home / "work" / "codexgate.toml"
    file.write_text(text)
    with pytest.raises(GateError, match="not taken from the folder"):
        load_settings(environ={})
    assert load_settings(environ={}, config=file).sources[key].startswith("file ")


def test_a_file_of_the_folder_one_is_in_sends_no_key_anywhere(home: Path) -> None:
    """Its address would get the key that stands in the environment."""
    file = home / "work" / "codexgate.toml"
    file.write_text('[openai.llama]\nbase_url = "https://evil.example/v1"\n')
    environ = {"LLAMA_API_KEY": "s3cret"}
    with pytest.raises(GateError, match=r"openai\.llama is not taken from the folder"):
        load_settings(environ=environ)
    named = load_settings(environ=environ, config=file).settings.openai["llama"]
    assert named == OpenAIOptions(base_url="https://evil.example/v1", api_key=Secret("s3cret"))


def test_a_file_of_the_folder_one_is_in_gives_no_name_a_sandbox(home: Path) -> None:
    file = home / "work" / "codexgate.toml"
    file.write_text('[aliases.writer]\nmodel = "m"\nsandbox = "workspace-write"\n')
    with pytest.raises(GateError, match=r"aliases\.writer is not taken from the folder"):
        load_settings(environ={})
    assert load_settings(config=file).settings.aliased["writer"].sandbox == "workspace-write"


def test_nothing_is_made_by_looking(home: Path) -> None:
    assert load_settings().settings.data_dir == home / "xdg_data_home" / "codexgate"
    assert [each.name for each in home.iterdir()] == ["work"]


def test_order_of_layers_for_one_key(home: Path) -> None:
    (home / "work" / "codexgate.toml").write_text("[server]\nport = 1\n")
    layers: list[tuple[int, str, dict[str, str], dict[str, object]]] = [
        (1, f"file {home}/work/codexgate.toml:2", {}, {}),
        (2, "environment PORT", {"PORT": "2"}, {}),
        (3, "environment CODEXGATE_SERVER_PORT", {"PORT": "2", "CODEXGATE_SERVER_PORT": "3"}, {}),
        (4, "flag --port", {"PORT": "2", "CODEXGATE_SERVER_PORT": "3"}, {"server.port": 4}),
    ]
    for port, source, environ, flags in layers:
        loaded = load_settings(flags, environ=environ)
        assert (loaded.settings.server.port, loaded.sources["server.port"]) == (port, source)


# What


def test_the_defaults_of_the_contract() -> None:
    server = Settings().server
    assert (server.host, server.port, server.drain) == ("127.0.0.1", 8140, 10)
    assert (server.max_connections, server.max_streams) == (256, 64)
    ollama = Settings().ollama
    assert (ollama.connect_timeout, ollama.first_token_timeout, ollama.idle_timeout) == (2, 300, 120)


def test_every_setting_says_what_it_means() -> None:
    assert [row.key for row in describe(Settings) if not row.description] == []


def test_flags_and_foreign_variables_name_settings_that_exist() -> None:
    known = {row.key for row in describe(Settings)}
    assert set(FLAGS) <= known
    assert {foreign.key.replace("openai.llama.", "openai.NAME.") for foreign in FOREIGN.values()} <= known


def test_aliases_are_short_or_long(home: Path) -> None:
    (home / "work" / "codexgate.toml").write_text(
        'aliases.fast = "demo"\n[aliases.slow]\nmodel = "big"\noptions.num_ctx = 4096\n'
    )
    assert load_settings().settings.aliased == {
        "fast": Alias(model="demo"),
        "slow": Alias(model="big", options={"num_ctx": 4096}),
    }


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('a = "b"\nb = "a"', ":2: aliases.a must be a model, but 'b' is an alias too."),
        ('a = "b"\nb = "m"', ":2: aliases.a must be a model, but 'b' is an alias too. Did you mean m?"),
        ('a = "m"\nm = { model = "m", effort = "high" }', ""),
    ],
)
def test_an_alias_stands_for_a_model(toml: str, said: str, home: Path) -> None:
    """One of a model's own name gives the model other settings, and may be meant."""
    (home / "work" / "codexgate.toml").write_text(f"[aliases]\n{toml}\n")
    if not said:
        assert "m" in load_settings().settings.aliased
        return
    with pytest.raises(GateError) as raised:
        load_settings()
    assert said in raised.value.fault.text
    assert raised.value.fault.code == "invalid_setting"


MISTAKEN = {
    "a sandbox among the options": (
        '[aliases.careful]\nmodel = "codex/m"\noptions = { sandbox = "read-only" }\n',
        r":1: aliases\.careful\.options\.sandbox is not a setting\. It is aliases\.careful\.sandbox\.",
    ),
    "a sandbox that there is not": (
        '[aliases.careful]\nmodel = "codex/m"\nsandbox = "none"\n',
        r":3: aliases\.careful\.sandbox must be one of danger-full-access, read-only, workspace-write",
    ),
    "a context beyond the largest": (
        "[ollama]\nnum_ctx = 65536\nmax_num_ctx = 16384\n",
        r":2: ollama\.num_ctx is larger than ollama\.max_num_ctx\. Set ollama\.max_num_ctx to 65536 too\.",
    ),
}


@pytest.mark.parametrize(("toml", "said"), MISTAKEN.values(), ids=MISTAKEN)
def test_settings_that_would_not_be_heeded_are_refused(home: Path, toml: str, said: str) -> None:
    (home / "work" / "codexgate.toml").write_text(toml)
    with pytest.raises(GateError, match=said) as raised:
        load_settings(environ={})
    assert raised.value.fault.code == "invalid_setting"


def test_a_key_that_is_empty_is_a_mistake(home: Path) -> None:
    (home / "work" / "codexgate.toml").write_text('[server]\napi_key = ""\n')
    with pytest.raises(GateError, match=r"codexgate\.toml:2: server\.api_key is empty\. Leave it out"):
        load_settings()


def test_the_documentation_names_what_a_file_of_the_working_folder_may_not_set() -> None:
    text = (Path(__file__).parent.parent / "docs/settings.md").read_text("utf-8").partition("```toml")[0]
    assert {
        key for key in (*AUTHORITY, "openai.NAME", "aliases.NAME.sandbox") if f"`{key}`" not in text
    } == set()


# What others call them


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("gpu-box", "http://gpu-box:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        ("https://gpu-box/ollama", "https://gpu-box/ollama"),
        ("::1", "http://[::1]:11434"),
        ("gpu-box:99999", None),
        ("gpu-box:http", None),
        ("unix:///run/ollama.sock", None),
    ],
)
def test_ollama_host_becomes_a_url_or_is_left_alone(host: str, url: str | None) -> None:
    loaded = load_settings(environ={"OLLAMA_HOST": host})
    assert loaded.settings.ollama.url == (url or Settings().ollama.url)
    assert loaded.ignored == (() if url else ("OLLAMA_HOST",))


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("PORT", "9000", "server.port"),
        ("HOST", "0.0.0.0", "server.host"),
        ("HOST", "localhost", "server.host"),
        ("CODEX_CWD", "/work", "codex.cwd"),
        ("JANGAR_MODELS", "a, b", "codex.models"),
        ("JANGAR_DEFAULT_MODEL", "a", "default_model"),
    ],
)
def test_variables_that_people_already_have_set_count(name: str, text: str, key: str) -> None:
    assert load_settings(environ={name: text}).sources[key] == f"environment {name}"
    ours = f"CODEXGATE_{key.replace('.', '_').upper()}"
    loaded = load_settings(environ={name: text, ours: "1"})
    assert loaded.sources[key] == f"environment {ours}"


LLAMA = {"LLAMA_BASE_URL": "http://gpu-box:8000/v1", "LLAMA_API_KEY": "k", "LLAMA_MODELS": " a, ,b ,"}


def test_llama_variables_make_a_server_of_that_name() -> None:
    made = OpenAIOptions(base_url="http://gpu-box:8000/v1", api_key=Secret("k"), models=("a", "b"))
    assert load_settings(environ=LLAMA).settings.openai == {"llama": made}
    ours = {"CODEXGATE_OPENAI_LLAMA_MODELS": "c", "CODEXGATE_OPENAI_GPU_BASE_URL": "http://gpu"}
    settings = load_settings(environ=LLAMA | ours).settings
    assert settings.openai["llama"].models == ("c",)
    assert settings.openai["gpu"] == OpenAIOptions(base_url="http://gpu")
    assert (
        load_settings(environ={"LLAMA_BASE_URL": "HTTP://gpu"}).settings.openai["llama"].base_url
        == "HTTP://gpu"
    )


@pytest.mark.parametrize("url", [None, "tcp://10.0.0.1:80"])
def test_llama_variables_without_an_address_are_left_alone(url: str | None) -> None:
    environ = {name: text for name, text in (LLAMA | {"LLAMA_BASE_URL": url}).items() if text}
    loaded = load_settings(environ=environ)
    assert loaded.settings.openai == {}
    assert set(loaded.ignored) == set(environ)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "tcp://10.0.0.1:80"),
        ("PORT", "70000"),
        ("HOST", "my-laptop"),
        ("HOST", "x86_64-conda-linux-gnu"),
    ],
)
def test_variables_that_were_set_for_something_else_are_left_alone(name: str, text: str) -> None:
    loaded = load_settings(environ={name: text})
    assert loaded.settings == Settings()
    assert loaded.ignored == (name,)


# Shown


def test_config_shows_every_setting_and_its_source_in_80_columns(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEXGATE_OLLAMA_FIRST_TOKEN_TIMEOUT", "5")
    monkeypatch.setenv("HOST", "my-laptop")
    code, out, err = run("config")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [
        "SETTING",
        *(row.key for row in describe(Settings) if "NAME" not in row.key),
    ]
    assert "ollama.first_token_timeout  5" in out
    assert err == "HOST is set, but not to anything of use here; it is left alone.\n"


def test_config_as_json(run: Run) -> None:
    code, out, _ = run("config", "--json")
    assert code == 0
    assert json.loads(out)["server.port"] == {"value": 8140, "source": "default"}


def test_config_never_shows_a_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEXGATE_SERVER_API_KEY", "s3cret")
    monkeypatch.setenv("CODEXGATE_OLLAMA_URL", "http://me:s3cret@gpu-box:11434")
    for words in (["config"], ["config", "--json"]):
        code, out, err = run(*words)
        assert code == 0 and MASK in out
        assert "s3cret" not in out + err


@pytest.mark.parametrize("words", [["config"], ["models"], ["serve"], ["key", "show"]])
def test_a_folder_that_is_gone_is_no_crash(words: list[str], run: Run, home: Path) -> None:
    (home / "work").rmdir()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("codexgate: The folder that this was started in cannot be used: No such file")


def test_config_tells_what_is_wrong_with_a_broken_file(run: Run, home: Path) -> None:
    file = home / "gate.toml"
    file.write_text('[server]\nprot = "s3cret"\n"\\u001b[2J" = 1\n')
    said = f"codexgate: {file}:2: server.prot is not a setting. Did you mean server.port?\n"
    assert run("--config", str(file), "config") == (2, "", said)
    assert run("config", "--config", str(file)) == (2, "", said)
    assert run("key", "show", "--config", str(file)) == (2, "", said)


def test_what_a_file_says_cannot_act_on_the_terminal(run: Run, home: Path) -> None:
    file = home / "gate.toml"
    file.write_text('"\\u001b[2J" = 1\n')
    assert "\x1b" not in run("--config", str(file), "config")[2]
    file.write_text('default_model = "\\u001b[2J\\n[bold]"\n')
    code, out, _ = run("--config", str(file), "config")
    assert code == 0 and "\x1b" not in out and "[bold]" in out
