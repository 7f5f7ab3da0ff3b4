"""Layers of settings: which one counts, and what each says when it is wrong."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from codexgate import config
from codexgate.config import Foreign, Secret
from codexgate.errors import GateError


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    token: Secret = Secret()
    options: dict[str, Any] = {}


class Server(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535, description="The TCP port.")] = 8140
    drain: Annotated[float, msgspec.Meta(ge=0)] = 10
    api_key: Secret = Secret()
    key_file: Path | None = None
    hosts: tuple[str, ...] = ()
    open: bool = False


class Log(msgspec.Struct, frozen=True, kw_only=True):
    format: Literal["text", "json"] = "text"


class Box(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    token: Secret = Secret()
    names: tuple[str, ...] = ()


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    server: Server = Server()
    log: Log = Log()
    aliases: Annotated[dict[str, str | Entry], msgspec.Meta(description="Other names.")] = {}
    boxes: Annotated[dict[str, Box], msgspec.Meta(description="Other machines.")] = {}
    default_model: str = ""
    limit: int | None = None


def load(tmp_path: Path, toml: str | None = None, **layers: Any) -> config.Loaded[Schema]:
    file = None
    if toml is not None:
        file = tmp_path / "gate.toml"
        file.write_text(toml)
    return config.load(Schema, file=file, **layers)


def refused(tmp_path: Path, toml: str | None = None, **layers: Any) -> str:
    with pytest.raises(GateError) as caught:
        load(tmp_path, toml, **layers)
    fault = caught.value.fault
    assert (fault.kind, fault.code) == ("invalid_request", "invalid_setting")
    return fault.text.replace(str(tmp_path), ".")


# Order: one setting on its way through all layers

LAYERS: list[tuple[str, dict[str, Any]]] = [
    ("default", {}),
    ("file ./gate.toml:2", {"toml": "[server]\nport = 1"}),
    ("environment PORT", {"environ": {"PORT": "2"}}),
    ("environment CODEXGATE_SERVER_PORT", {"environ": {"PORT": "2", "CODEXGATE_SERVER_PORT": "3"}}),
    ("flag --port", {"flags": {"server.port": 4}}),
]


@pytest.mark.parametrize("top", range(len(LAYERS)))
def test_the_highest_layer_that_speaks_counts(top: int, tmp_path: Path) -> None:
    layers: dict[str, Any] = {}
    for _, layer in LAYERS[: top + 1]:
        layers |= layer
    foreign = {"PORT": Foreign("server.port")}
    loaded = load(tmp_path, **layers, foreign=foreign, flag_names={"server.port": "--port"})
    assert loaded.sources["server.port"].replace(str(tmp_path), ".") == LAYERS[top][0]
    assert loaded.settings.server.port == (8140, 1, 2, 3, 4)[top]


def test_every_setting_has_a_source(tmp_path: Path) -> None:
    loaded = load(tmp_path, '[aliases]\nfast = "demo"')
    assert loaded.sources.keys() == config.masked(loaded.settings).keys()


def test_a_flag_that_was_not_given_says_nothing(tmp_path: Path) -> None:
    flags: dict[str, object] = {"server.port": None, "server.hosts": [], "server.open": False}
    loaded = load(tmp_path, "[server]\nopen = true", flags=flags)
    assert loaded.sources["server.hosts"] == "default"
    assert loaded.sources["server.open"] == "flag --server-open"
    assert not loaded.settings.server.open


# Values of each layer


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("SERVER_PORT", "0", 0),
        ("SERVER_PORT", " 80 ", 80),
        ("SERVER_DRAIN", "0.5", 0.5),
        ("SERVER_HOSTS", "a.example, b.example,", ("a.example", "b.example")),
        ("SERVER_OPEN", "true", True),
        ("SERVER_OPEN", "0", False),
        ("SERVER_API_KEY", "k", Secret("k")),
        ("SERVER_KEY_FILE", "k/ey", Path("k/ey")),
        ("LOG_FORMAT", "json", "json"),
        ("DEFAULT_MODEL", "qwen3:8b", "qwen3:8b"),
        ("DEFAULT_MODEL", "8", "8"),
        ("LIMIT", "8", 8),
    ],
)
def test_environment_text_becomes_the_settings_type(
    name: str, text: str, value: object, tmp_path: Path
) -> None:
    settings = load(tmp_path, environ={f"CODEXGATE_{name}": text}).settings
    section, _, key = name.lower().partition("_")
    found = (
        getattr(getattr(settings, section), key)
        if hasattr(settings, section) and key
        else getattr(settings, name.lower())
    )
    assert found == value and type(found) in (type(value), type(Path()))


def test_an_entry_that_is_always_a_table_can_be_made_of_variables(tmp_path: Path) -> None:
    environ = {"CODEXGATE_BOXES_BIG_ONE_URL": "http://big", "CODEXGATE_BOXES_BIG_ONE_NAMES": "a, b"}
    loaded = load(tmp_path, environ=environ)
    assert loaded.settings.boxes == {"big_one": Box(url="http://big", names=("a", "b"))}
    assert loaded.sources["boxes.big_one"] == (
        "environment CODEXGATE_BOXES_BIG_ONE_URL, environment CODEXGATE_BOXES_BIG_ONE_NAMES"
    )


def test_a_variable_fills_in_what_the_file_leaves_out(tmp_path: Path) -> None:
    toml = '[boxes.big-one]\nurl = "http://big"\nnames = ["a"]\n[boxes.big]\nurl = "http://x"'
    environ = {"CODEXGATE_BOXES_BIG_ONE_TOKEN": "s3cret", "TOKEN": "lower", "NAMES": "c"}
    foreign = {"TOKEN": Foreign("boxes.big-one.token"), "NAMES": Foreign("boxes.big-one.names")}
    loaded = load(tmp_path, toml, environ=environ, foreign=foreign)
    assert loaded.settings.boxes == {
        "big-one": Box(url="http://big", token=Secret("s3cret"), names=("c",)),
        "big": Box(url="http://x"),
    }
    source = loaded.sources["boxes.big-one"]
    assert source.startswith("file ") and source.endswith(
        ":1, environment CODEXGATE_BOXES_BIG_ONE_TOKEN, environment NAMES"
    )
    assert "s3cret" not in str(config.masked(loaded.settings))


def test_variables_that_make_no_whole_entry(tmp_path: Path) -> None:
    foreign = {"TOKEN": Foreign("boxes.big.token")}
    loaded = load(tmp_path, environ={"TOKEN": "s3cret"}, foreign=foreign)
    assert (loaded.settings.boxes, loaded.ignored) == ({}, ("TOKEN",))
    said = refused(tmp_path, environ={"CODEXGATE_BOXES_BIG_TOKEN": "s3cret"})
    assert said == "CODEXGATE_BOXES_BIG_TOKEN: boxes.big needs url."
    said = refused(tmp_path, environ={"CODEXGATE_BOXES_BIG_TOKNE": "s3cret"})
    assert said.startswith("CODEXGATE_BOXES_BIG_TOKNE is not a setting.")


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"CODEXGATE_SERVER_PORT": " "}).sources["server.port"] == "default"


def test_paths_know_the_home_and_in_a_file_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load(tmp_path, 'server.key_file = "key"').settings.server.key_file == tmp_path / "key"
    assert load(tmp_path, 'server.key_file = "~/key"').settings.server.key_file == Path("/home/me/key")
    assert load(tmp_path, flags={"server.key_file": "key"}).settings.server.key_file == Path("key")


def test_entries_of_a_table_are_short_or_long(tmp_path: Path) -> None:
    toml = """
        [aliases]
        fast = "demo"
        "gpt-4.1" = { model = "qwen3:8b" }

        [aliases.slow]
        model = "big"
        options = { num_ctx = 4096 }
    """
    loaded = load(tmp_path, toml)
    assert loaded.settings.aliases == {
        "fast": "demo",
        "gpt-4.1": Entry(model="qwen3:8b"),
        "slow": Entry(model="big", options={"num_ctx": 4096}),
    }
    lines = {key: source[-2:] for key, source in loaded.sources.items() if key.startswith("aliases")}
    assert lines == {"aliases.fast": ":3", "aliases.gpt-4.1": ":4", "aliases.slow": ":6"}


# Refusals

FILES = [
    # the file, what is said
    (
        "\n[server]\nprot = 1",
        "./gate.toml:3: server.prot is not a setting. Did you mean server.port?",
    ),
    ("port = 1", "./gate.toml:1: port is not a setting. Did you mean server.port?"),
    (
        "# c\n\n[sevrer]\nport = 1",
        "./gate.toml:3: sevrer is not a setting. Did you mean server?",
    ),
    (
        "[server]\nxylophone = 1",
        "./gate.toml:2: server.xylophone is not a setting. `codexgate config` lists every setting.",
    ),
    (
        '[server]\nhost = "::1"\nport = "high"',
        "./gate.toml:3: server.port must be a whole number from 0 to 65535, got text.",
    ),
    (
        "server.port = 70_000",
        "./gate.toml:1: server.port must be a whole number from 0 to 65535, got the number 70000.",
    ),
    (
        "server.port = true",
        "./gate.toml:1: server.port must be a whole number from 0 to 65535, got true or false.",
    ),
    ('server.drain = "5s"', "./gate.toml:1: server.drain must be a number of at least 0, got text."),
    ("server.drain = nan", "./gate.toml:1: server.drain must be a number of at least 0, got the number nan."),
    ("server.drain = inf", "./gate.toml:1: server.drain must be a number of at least 0, got the number inf."),
    ("server.host = 1", "./gate.toml:1: server.host must be text, got a number."),
    ("server.host = 2001-01-01", "./gate.toml:1: server.host must be text, got a date or time."),
    ("server.open = 1", "./gate.toml:1: server.open must be true or false, got a number."),
    ('server.hosts = "a"', "./gate.toml:1: server.hosts must be a list of text, got text."),
    ('server.key_file = ""', "./gate.toml:1: server.key_file must be a path, got empty text."),
    ("server.api_key = 12345678", "./gate.toml:1: server.api_key must be text, got a number."),
    (
        '[log]\nformat = "jsn"',
        "./gate.toml:2: log.format must be one of json, text, got 'jsn'. Did you mean json?",
    ),
    ('log.format = "xml"', "./gate.toml:1: log.format must be one of json, text, got another text."),
    ("limit = 1.5", "./gate.toml:1: limit must be a whole number, got a number."),
    ("server = 1", "./gate.toml:1: server must be a table, got a number."),
    ("[[server]]\nport = 1", "./gate.toml:1: server must be a table, got a list."),
    ("aliases = []", "./gate.toml:1: aliases must be a table, got a list."),
    ("[aliases]\nfast = 1", "./gate.toml:2: aliases.fast must be text or a table, got a number."),
    ("[aliases.fast]\noptions = {}", "./gate.toml:1: aliases.fast needs model."),
    (
        '[aliases.fast]\nmodel = "m"\nopitons = {}',
        "./gate.toml:3: aliases.fast.opitons is not a setting. Did you mean aliases.fast.options?",
    ),
    ("[aliases.fast]\nmodel = 1", "./gate.toml:2: aliases.fast.model must be text, got a number."),
    ("[server]\nport = ", "./gate.toml:2: this is not TOML: Invalid value."),
    ("[server]\nport = 1\nport = 2", "./gate.toml:3: this is not TOML: Cannot overwrite a value."),
]


@pytest.mark.parametrize(("toml", "said"), FILES)
def test_a_wrong_file_is_told_with_its_line(toml: str, said: str, tmp_path: Path) -> None:
    assert refused(tmp_path, toml) == said


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="cannot be read: No such file"):
        config.load(Schema, file=tmp_path / "none.toml")
    (tmp_path / "gate.toml").write_bytes(b'server.host = "\xff"')
    with pytest.raises(GateError, match="is not UTF-8 text"):
        config.load(Schema, file=tmp_path / "gate.toml")


def test_a_byte_order_mark_and_crlf_are_no_failure(tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    loaded = config.load(Schema, file=tmp_path / "gate.toml")
    assert loaded.sources["server.port"] == f"file {tmp_path}/gate.toml:2"


ENVIRONMENTS = [
    (
        {"CODEXGATE_SERVER_PROT": "1"},
        "CODEXGATE_SERVER_PROT is not a setting. Did you mean CODEXGATE_SERVER_PORT?",
    ),
    (
        {"CODEXGATE_PORT": "1"},
        "CODEXGATE_PORT is not a setting. Did you mean CODEXGATE_SERVER_PORT?",
    ),
    (
        {"CODEXGATE_ALIASES": "x"},
        "CODEXGATE_ALIASES is not a setting. `codexgate config` lists every setting.",
    ),
    (
        {"CODEXGATE_SERVER_PORT": "high"},
        "CODEXGATE_SERVER_PORT: server.port must be a whole number from 0 to 65535, got text.",
    ),
    (
        {"CODEXGATE_LOG_FORMAT": "JSON"},
        "CODEXGATE_LOG_FORMAT: log.format must be one of json, text, got 'JSON'. Did you mean json?",
    ),
    (
        {"CODEXGATE_SERVER_DRAIN": "nan"},
        "CODEXGATE_SERVER_DRAIN: server.drain must be a number of at least 0, got text.",
    ),
]


@pytest.mark.parametrize(("environ", "said"), ENVIRONMENTS)
def test_a_wrong_variable_is_told_by_name(environ: dict[str, str], said: str, tmp_path: Path) -> None:
    assert refused(tmp_path, environ=environ) == said


def test_a_wrong_flag_is_told_by_name(tmp_path: Path) -> None:
    said = refused(tmp_path, flags={"server.port": 70000}, flag_names={"server.port": "--port"})
    assert said == "--port: server.port must be a whole number from 0 to 65535, got the number 70000."


def test_a_layer_is_checked_also_when_another_overrides_it(tmp_path: Path) -> None:
    assert "gate.toml:1" in refused(tmp_path, 'server.port = "x"', flags={"server.port": 1})


def test_what_a_cluster_sets_for_a_service_of_our_name_is_no_setting(tmp_path: Path) -> None:
    environ = {
        "CODEXGATE_SERVICE_HOST": "10.0.0.1",
        "CODEXGATE_SERVICE_PORT_HTTP": "80",
        "CODEXGATE_PORT": "tcp://10.0.0.1:80",
        "CODEXGATE_PORT_80_TCP_ADDR": "10.0.0.1",
        "CODEXGATE_SERVER_PORT": "tcp://10.0.0.1:80",
        "CODEXGATE_CONFIG": "somewhere.toml",
        "PATH": "/bin",
    }
    assert load(tmp_path, environ=environ).settings == Schema()


# Other programs' variables


def test_the_first_foreign_variable_that_makes_sense_counts(tmp_path: Path) -> None:
    foreign = {
        "A_PORT": Foreign("server.port", lambda text: None),
        "B_PORT": Foreign("server.port"),
        "C_PORT": Foreign("server.port"),
        "D_PORT": Foreign("server.port"),
    }
    environ = {"A_PORT": "1", "B_PORT": "tcp://10.0.0.1:1", "C_PORT": "3", "D_PORT": "4"}
    loaded = load(tmp_path, environ=environ, foreign=foreign)
    assert loaded.settings.server.port == 3
    assert loaded.sources["server.port"] == "environment C_PORT"
    assert loaded.ignored == ("A_PORT", "B_PORT")


# Telling people


def test_secrets_and_passwords_show_themselves_nowhere(tmp_path: Path) -> None:
    toml = """
        server.api_key = "s3cret"
        server.host = "http://me:s3cret@example.com/"
        [aliases.a]
        model = "m"
        token = "s3cret"
    """
    loaded = load(tmp_path, toml)
    assert loaded.settings.server.api_key.reveal() == "s3cret"
    shown = config.masked(loaded.settings)
    assert shown["server.api_key"] == config.MASK
    assert shown["server.host"] == "http://********@example.com/"
    assert "s3cret" not in json.dumps(shown) + repr(loaded.settings.server.api_key)
    assert "s3cret" not in f"{loaded.settings.server.api_key} {loaded.settings.aliases}"
    with pytest.raises(TypeError):
        msgspec.json.encode(loaded.settings)
    assert config.masked(Schema())["server.api_key"] == ""


@pytest.mark.parametrize(
    "environ", [{}, {"CODEXGATE_LOG_FORMAT": "s3cret"}, {"CODEXGATE_SERVER_PORT": "s3cret"}]
)
def test_a_refusal_does_not_repeat_what_may_be_a_secret(environ: dict[str, str], tmp_path: Path) -> None:
    assert "s3cret" not in refused(tmp_path, '[server]\nport = "s3cret"', environ=environ)


def test_settings_describe_themselves() -> None:
    rows = {row.key: row for row in config.describe(Schema)}
    assert rows["server.port"] == config.Row(
        "server.port", "a whole number from 0 to 65535", "8140", "CODEXGATE_SERVER_PORT", "The TCP port."
    )
    assert [rows[key].default for key in ("server.drain", "server.open", "log.format", "limit")] == [
        "10",
        "false",
        "text",
        "",
    ]
    assert rows["default_model"].environment == "CODEXGATE_DEFAULT_MODEL"
    assert rows["aliases.NAME"].type == "text or a table"
    assert rows["aliases.NAME.model"].environment == ""
    assert rows["boxes.NAME.url"].environment == "CODEXGATE_BOXES_NAME_URL"
