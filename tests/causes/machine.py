"""What is wrong with the gate's settings, with this machine, or on the way to servers."""

import datetime
import socket
import sys
from email.utils import format_datetime

from codexgate.doctor import system
from tests.causes.bench import (
    PASSWORD,
    PATIENCE,
    PLENTY,
    Bench,
    Cause,
    Step,
    Usage,
    both,
    doctor,
    environ,
    gate,
    model,
    obey,
    patience,
    take,
    with_other,
)
from tests.servers.certified import DAY, Authority, certified
from tests.servers.faulty import Faulty, only_v1, silent
from tests.servers.faulty import ollama as good
from tests.servers.ports import own_port

TLS = "CODEXGATE_OPENAI_BOX_BASE_URL"
ONE_HOUR = datetime.timedelta(hours=1)

# The gate


async def port_taken(bench: Bench) -> None:
    """By this process."""
    await take(with_other(dict), bench)
    bench.environ["CODEXGATE_SERVER_PORT"] = str(bench.other.port)
    bench.stands_for(bench.other.port, 8140)
    bench.stands_for(bench.other.port + 1, 8141)


def another_port(bench: Bench) -> None:
    bench.environ["CODEXGATE_SERVER_PORT"] = str(own_port())


# Who may come in


def beyond(host: str) -> Step:
    return environ(CODEXGATE_SERVER_HOST=host)


def key(bench: Bench) -> None:
    """A key file that all can read, in a folder that is closed."""
    file = bench.data / "api-key"
    file.write_text("cg-0123456789\n")
    file.chmod(0o644)


def no_key(bench: Bench) -> None:
    bench.environ["CODEXGATE_SERVER_API_KEY_FILE"] = str(bench.folder / "key")


def key_folder(bench: Bench) -> None:
    """A folder where a key file is named; the right one is in it."""
    folder = bench.folder / "key"
    folder.mkdir(mode=0o700)
    bench.environ["CODEXGATE_SERVER_API_KEY_FILE"] = str(folder)
    bench.value = str(folder / "api-key")
    (folder / "api-key").touch(0o600)
    (folder / "api-key").write_text("cg-0123456789\n")


def other_file(bench: Bench) -> None:
    """A file that all may read and that is no key is named as one; the right one lies beside it."""
    key_folder(bench)
    other = bench.folder / "hosts"
    other.write_text("127.0.0.1 localhost\n")
    bench.environ["CODEXGATE_SERVER_API_KEY_FILE"] = str(other)


def unguarded(bench: Bench) -> None:
    beyond("0.0.0.0")(bench)
    bench.environ["CODEXGATE_CODEX_SANDBOX"] = "danger-full-access"
    bench.environ["CODEXGATE_SERVER_API_KEY"] = "cg-0123456789"


def two_words(bench: Bench) -> None:
    bench.environ["CODEXGATE_SERVER_API_KEY"] = "two words"
    bench.value = "one"


def empty_key(bench: Bench) -> None:
    (bench.data / "api-key").touch(0o600)


async def keyless(bench: Bench) -> None:
    """The gate runs, and its key was made after its start."""
    await take(gate, bench)
    await bench.obey("codexgate key make")


async def started_anew(bench: Bench) -> None:
    another_port(bench)
    await take(gate, bench)


def opened(bench: Bench) -> None:
    """A data folder that others can come into, with something that they can read."""
    file = bench.data / "chat.txt"
    file.touch()
    file.chmod(0o644)
    bench.data.chmod(0o755)


def opened_and_empty(bench: Bench) -> None:
    bench.data.chmod(0o755)


def shared(bench: Bench) -> None:
    """As /tmp is."""
    bench.data.chmod(0o1777)


def a_file(bench: Bench) -> None:
    (bench.folder / "file").touch(0o644)
    bench.environ["CODEXGATE_DATA_DIR"] = str(bench.folder / "file")


def a_folder(bench: Bench) -> None:
    bench.environ["CODEXGATE_DATA_DIR"] = str(bench.data)


def own_folder(bench: Bench) -> None:
    """The gate makes it so when it starts."""
    (bench.data / "codexgate").mkdir(mode=0o700)


# Disk, clock, containers


def free(size: int) -> Step:
    def change(bench: Bench) -> None:
        bench.patch.setattr("shutil.disk_usage", lambda _: Usage(size))

    return change


def off(by: datetime.timedelta) -> Step:
    """The Ollama's clock is right, and this machine's differs from it by so much."""

    def change(bench: Bench) -> None:
        then = datetime.datetime.now(datetime.UTC) - by
        bench.server.headers["Date"] = format_datetime(then, usegmt=True)

    return change


async def around(bench: Bench, host: str) -> Faulty:
    """An Ollama on the machine around this one, and no address of another in the settings."""
    outside = await bench.closing.enter_async_context(Faulty(good(), host))
    bench.stands_for(outside.port, 11434)
    del bench.environ["CODEXGATE_OLLAMA_URL"]
    return outside


async def container(bench: Bench) -> None:
    """Docker's name leads to the machine around; here that is 127.0.0.3."""
    (bench.folder / ".dockerenv").touch()
    outside = await around(bench, "127.0.0.3")
    bench.environ["OLLAMA_HOST"] = f"http://127.0.0.1:{outside.port}"
    known = socket.getaddrinfo

    def find(host: object, *rest: object, **more: object) -> object:
        return known(outside.host if host == system.DOCKER_HOST else host, *rest, **more)  # type: ignore[arg-type]

    bench.patch.setattr(socket, "getaddrinfo", find)


async def ours_in_a_container(bench: Bench) -> None:
    await container(bench)
    bench.environ["CODEXGATE_OLLAMA_URL"] = bench.environ["OLLAMA_HOST"]


async def wsl(bench: Bench) -> None:
    """The default route leads to the machine around; here that is 127.0.0.3."""
    table = bench.folder / "proc/net/route"
    table.parent.mkdir(parents=True)
    (bench.folder / "proc/version").write_text("Linux version 5.15.90.1-microsoft-standard-WSL2")
    outside = await around(bench, "127.0.0.3")
    number = int.from_bytes(socket.inet_aton(outside.host), sys.byteorder)
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
    table.write_text(f"{head}\neth0 00000000 {number:08X} 3 0 0 0 0 0 0 0\n")
    bench.environ["OLLAMA_HOST"] = f"http://127.0.0.1:{outside.port}"
    bench.usual[r"127\.0\.0\.3"] = "172.17.0.1"


# The way to servers


def certificate(
    *hosts: str, until: datetime.timedelta = DAY, signed: bool = True, known: bool = True
) -> Step:
    """A server of the settings that has this certificate, at `localhost`; `known`: who signs is trusted."""

    async def start(bench: Bench) -> None:
        authority = Authority(bench.folder)
        (far := bench.folder / "far").mkdir()
        bench.environ["SSL_CERT_FILE"] = str(authority.file if known else Authority(far).file)
        context = authority.context(*hosts, until=until, signed=signed)
        port = await bench.closing.enter_async_context(certified(context))
        bench.environ[TLS] = f"https://user:{PASSWORD}@localhost:{port}/v1"
        bench.stands_for(port, 8443)
        bench.value = f"https://127.0.0.1:{port}/v1" if known else str(authority.file)

        bench.certificates = context

    return start


def renewed(bench: Bench) -> None:
    """The connections to come get another one."""
    authority = Authority(bench.folder)
    bench.environ["SSL_CERT_FILE"] = str(authority.file)
    authority.context("localhost")
    assert bench.certificates is not None
    bench.certificates.load_cert_chain(bench.folder / "server.pem")


async def no_tls(bench: Bench) -> None:
    """The server with TLS is at another port."""
    await take(certificate("localhost"), bench)
    bench.value = bench.environ[TLS]
    port = await bench.closing.enter_async_context(certified(None))
    bench.environ[TLS] = f"https://localhost:{port}/v1"


async def hanging(bench: Bench) -> None:
    """The right server is another one."""
    await take(certificate("localhost"), bench)
    bench.value = bench.environ[TLS]
    port = await bench.closing.enter_async_context(silent())
    bench.environ[TLS] = f"https://localhost:{port}/v1"


def not_there(host: str) -> Step:
    """A server of the settings; the right one would be the Ollama's."""

    def change(bench: Bench) -> None:
        environ(CODEXGATE_OPENAI_BOX_BASE_URL=f"http://{host}/v1")(bench)
        bench.value = f"{bench.server.url}/v1"

    return change


async def hung(bench: Bench) -> None:
    """A server of the settings takes connections and says nothing; the right one would be the Ollama's."""
    port = await bench.closing.enter_async_context(silent())
    not_there(f"127.0.0.1:{port}")(bench)


def at(path: str) -> Step:
    """A base URL of the settings that ends so; the right one ends in /v1."""

    def change(bench: Bench) -> None:
        not_there(f"127.0.0.1:{bench.server.port}")(bench)
        bench.environ[TLS] = bench.server.url + path

    return change


def wants_key(bench: Bench) -> None:
    bench.other.key = PASSWORD


def moved(variable: str) -> Step:
    """A server whose authority nobody knows here is named by this variable, instead of by the settings."""

    async def change(bench: Bench) -> None:
        await take(certificate("localhost", known=False), bench)
        bench.environ[variable] = bench.environ.pop(TLS)

    return change


def no_file(bench: Bench) -> None:
    bench.value = bench.environ["CODEXGATE_CONFIG"]
    bench.environ["CODEXGATE_CONFIG"] = "/nowhere/codexgate.toml"


def misspelled(bench: Bench) -> None:
    (bench.folder / "codexgate.toml").write_text("[server]\nprot = 8141\n")


def spelled(bench: Bench) -> None:
    (bench.folder / "codexgate.toml").write_text("[server]\nport = 0\n")


TRUST = "{} > trusted.new && mv trusted.new trusted.pem && export SSL_CERT_FILE=$PWD/trusted.pem"
SHOW = "openssl s_client -connect localhost:8443 -servername localhost </dev/null"

CAUSES = (
    Cause(
        17,
        "a port that is taken, and by whom",
        "gate.port",
        port_taken,
        "Port 8140 is taken",
        "codexgate serve --port 8141",
        mend=another_port,
    ),
    Cause(
        18,
        "a gate beyond loopback without a key",
        "system.bind",
        beyond("0.0.0.0"),
        "Listening on 0.0.0.0 needs an API key.",
        "codexgate key make",
    ),
    Cause(
        18,
        "a Codex that may write, behind a gate without a key",
        "system.bind",
        environ(CODEXGATE_CODEX_SANDBOX="workspace-write"),
        "Serving Codex with the sandbox workspace-write needs an API key.",
        "codexgate key make",
    ),
    Cause(
        18,
        "a Codex that may do everything, for others than this machine",
        "system.bind",
        unguarded,
        "Codex with danger-full-access is not served on 0.0.0.0.",
        "export CODEXGATE_SERVER_HOST=127.0.0.1",
    ),
    Cause(
        18,
        "a key file that others can read",
        "system.key",
        key,
        "Others can read the key file ~/kept/api-key (mode 0644).",
        "chmod 600 ~/kept/api-key",
    ),
    Cause(
        18,
        "a key file that is not there",
        "system.key",
        no_key,
        "There is no key file",
        "codexgate key make",
    ),
    Cause(
        18,
        "a key file that is empty",
        "system.key",
        empty_key,
        "There is no key in",
        "codexgate key rotate",
    ),
    Cause(
        18,
        "a key file that is a folder",
        "system.key",
        key_folder,
        "cannot be read: Is a directory",
        "export CODEXGATE_SERVER_API_KEY_FILE=FILE",
    ),
    Cause(
        18,
        "a key file that is something else, and stays as it is",
        "system.key",
        other_file,
        "does not hold one word of printable ASCII",
        "export CODEXGATE_SERVER_API_KEY_FILE=FILE",
    ),
    Cause(
        18,
        "a key in the settings that cannot be sent",
        "system.key",
        two_words,
        "server.api_key does not hold one word of printable ASCII",
        "export CODEXGATE_SERVER_API_KEY=KEY",
    ),
    Cause(
        18,
        "a gate that runs without the key that was made since",
        "gate.port",
        keyless,
        "also to who has no key",
        "codexgate serve",
        "Stop it and start it anew.",
        mend=started_anew,
        status="warning",
    ),
    Cause(
        18,
        "a data folder that others can read",
        "system.data",
        opened,
        "Others can come into ~/kept (mode 0755) and read chat.txt.",
        "chmod 700 ~/kept",
    ),
    Cause(
        18,
        "a data folder that others can come into",
        "system.data",
        opened_and_empty,
        "so far they can read no file there",
        "chmod 700 ~/kept",
        status="warning",
    ),
    Cause(
        18,
        "a data folder that is a file",
        "system.data",
        a_file,
        "~/file is no folder.",
        "export CODEXGATE_DATA_DIR=FOLDER",
        mend=a_folder,
    ),
    Cause(
        18,
        "a data folder that is everybody's, as /tmp",
        "system.data",
        shared,
        "Others can come into ~/kept (mode 1777)",
        "export CODEXGATE_DATA_DIR=~/kept/codexgate",
        mend=both(obey, own_folder),
        status="warning",
    ),
    Cause(
        19,
        "a container whose 127.0.0.1 is not the machine's",
        "system.container",
        container,
        "This is a container: http://127.0.0.1:11434 is looked for inside, where no Ollama is.",
        "export OLLAMA_HOST=http://host.docker.internal:11434",
        status="warning",
    ),
    Cause(
        19,
        "WSL, whose 127.0.0.1 is not Windows'",
        "system.container",
        wsl,
        "This is WSL: http://127.0.0.1:11434 is looked for inside, where no Ollama is.",
        "export OLLAMA_HOST=http://172.17.0.1:11434",
        status="warning",
    ),
    Cause(
        19,
        "a container in which our own variable names 127.0.0.1",
        "system.container",
        ours_in_a_container,
        "This is a container: http://127.0.0.1:11434 is looked for inside, where no Ollama is.",
        "export CODEXGATE_OLLAMA_URL=http://host.docker.internal:11434",
        status="warning",
    ),
    Cause(
        20,
        "a certificate that has expired",
        "network.tls",
        certificate("localhost", until=-DAY),
        "has expired",
        f"{SHOW} | openssl x509 -noout -dates",
        "Renew it on that server; this shows until when it was good.",
        mend=renewed,
    ),
    Cause(
        20,
        "a certificate for another host",
        "network.tls",
        certificate("127.0.0.1"),
        "for another host (127.0.0.1)",
        f"export {TLS}=URL",
    ),
    Cause(
        20,
        "a certificate that is signed by itself",
        "network.tls",
        certificate("localhost", signed=False),
        "signed by itself",
        TRUST.format(f"{{ cat ~/authority.pem; {SHOW} | openssl x509; }}"),
    ),
    Cause(
        20,
        "a certificate of an authority that nobody knows here",
        "network.tls",
        certificate("localhost", known=False),
        "not known here",
        TRUST.format("{ cat ~/far/authority.pem; cat FILE; }"),
    ),
    Cause(
        20,
        "a certificate of an unknown authority, where no file has the known ones",
        "network.tls",
        both(certificate("localhost", known=False), environ(SSL_CERT_FILE="/nowhere.pem")),
        "not known here",
        TRUST.format("cat FILE"),
    ),
    Cause(
        20,
        "a server that hangs in the TLS handshake",
        "network.tls",
        both(hanging, patience(1.5)),
        "does not finish a TLS handshake within 1.5 s",
        f"export {TLS}=URL",
        mend=both(obey, patience(PATIENCE)),
    ),
    Cause(
        20,
        "an unknown authority where `codex --oss` is sent to",
        "network.tls",
        moved("CODEX_OSS_BASE_URL"),
        "(CODEX_OSS_BASE_URL) has a certificate from an authority that is not known here",
        TRUST.format("{ cat ~/far/authority.pem; cat FILE; }"),
    ),
    Cause(
        20,
        "an unknown authority where the settings look for Ollama",
        "network.tls",
        moved("CODEXGATE_OLLAMA_URL"),
        "(ollama.url) has a certificate from an authority that is not known here",
        TRUST.format("{ cat ~/far/authority.pem; cat FILE; }"),
    ),
    Cause(
        20,
        "a server without TLS behind `https://`",
        "network.tls",
        no_tls,
        "does not speak TLS",
        f"export {TLS}=URL",
    ),
    Cause(
        4,
        "a server of `[openai.NAME]` that is not there",
        "network.upstream",
        not_there("127.0.0.1:OTHER"),
        "nothing listens there",
        f"export {TLS}=URL",
    ),
    Cause(
        4,
        "a server of `[openai.NAME]` whose name nobody knows",
        "network.upstream",
        not_there("no-such-host.invalid"),
        "nobody knows",
        f"export {TLS}=URL",
    ),
    Cause(
        4,
        "an address of `[openai.NAME]` that is none",
        "network.upstream",
        not_there("127.0.0.1:99999"),
        "openai.box.base_url is no address",
        f"export {TLS}=URL",
    ),
    Cause(
        4,
        "a server of `[openai.NAME]` that takes connections and says nothing",
        "network.upstream",
        both(hung, patience(1.5)),
        "lists no models. It does not answer within 1.5 s.",
        f"export {TLS}=URL",
        mend=both(obey, patience(PATIENCE)),
    ),
    Cause(
        6,
        "a base URL of `[openai.NAME]` without `/v1`",
        "network.upstream",
        at(""),
        "lists no models. box: 404",
        f"export {TLS}=URL",
        "Look at openai.box.base_url; most end in /v1. Or name its models: openai.box.models",
    ),
    Cause(
        6,
        "a base URL of `[openai.NAME]` that is the address of one route",
        "network.upstream",
        at("/v1/chat/completions"),
        "lists no models. box: 404",
        f"export {TLS}=URL",
        "Look at openai.box.base_url; most end in /v1. Or name its models: openai.box.models",
    ),
    Cause(
        0,
        "a server of `[openai.NAME]` that wants another key",
        "network.upstream",
        both(with_other(lambda: only_v1("big")), not_there("127.0.0.1:OTHER"), wants_key),
        "lists no models",
        "export CODEXGATE_OPENAI_BOX_API_KEY=KEY",
        "Set openai.box.api_key.",
        mend=environ(CODEXGATE_OPENAI_BOX_API_KEY=PASSWORD),
    ),
    Cause(
        21,
        "a disk that is nearly full",
        "system.disk",
        free(1 << 30),
        "1.0 GiB are free",
        "du -xh -d 2 ~ | sort -h | tail",
        "Make room; this shows what takes most.",
        mend=free(PLENTY),
        status="warning",
    ),
    Cause(
        21,
        "a disk that is full",
        "system.disk",
        free(50 << 20),
        "0.0 GiB are free",
        "du -xh -d 2 ~ | sort -h | tail",
        "Make room; this shows what takes most.",
        mend=free(PLENTY),
    ),
    Cause(
        22,
        "a clock that is far behind",
        "system.clock",
        off(-5 * ONE_HOUR),
        "5 hours behind that of http://127.0.0.1:11434",
        "timedatectl set-ntp true",
        mend=off(0 * ONE_HOUR),
    ),
    Cause(
        22,
        "a clock that is far ahead",
        "system.clock",
        off(2 * DAY),
        "2 days ahead of that of http://127.0.0.1:11434",
        "timedatectl set-ntp true",
        mend=off(0 * ONE_HOUR),
    ),
    Cause(
        0,
        "a setting that is misspelled",
        "gate.settings",
        misspelled,
        "prot",
        "${EDITOR:-vi} +2 ~/codexgate.toml",
        "Did you mean server.port?",
        mend=spelled,
        look=doctor(),
    ),
    Cause(
        0,
        "a setting that is no number",
        "gate.settings",
        environ(CODEXGATE_LOG_LEVEL="loud"),
        "log.level must be one of",
        "unset CODEXGATE_LOG_LEVEL",
        "Mend its value; docs/settings.md says what each can be.",
        look=doctor(),
    ),
    Cause(
        0,
        "a settings file that is not there",
        "gate.settings",
        no_file,
        "/nowhere/codexgate.toml: the file cannot be read",
        "export CODEXGATE_CONFIG=FILE",
        "Name a settings file that can be read.",
        look=doctor(),
    ),
    Cause(
        0,
        "a backend that there is none of",
        "gate.start",
        environ(CODEXGATE_BACKENDS="nope"),
        "There is no backend 'nope'.",
        "unset CODEXGATE_BACKENDS",
    ),
    Cause(
        0,
        "a base URL of `[openai.NAME]` without a scheme",
        "gate.start",
        environ(CODEXGATE_OPENAI_BOX_BASE_URL="127.0.0.1:OTHER/v1", CODEXGATE_BACKENDS=""),
        "openai.box.base_url or openai.box.api_key cannot be used",
        f"unset {TLS}",
    ),
    Cause(
        0,
        "a folder for Codex that is not there",
        "gate.start",
        environ(CODEXGATE_CODEX_CWD="/nonexistent"),
        "codex.cwd: /nonexistent is no folder.",
        "unset CODEXGATE_CODEX_CWD",
    ),
    Cause(
        0,
        "an address to listen on that is not this machine's",
        "gate.port",
        beyond("no-such-host.invalid"),
        "no-such-host.invalid:8140: ",
        "codexgate serve --host 127.0.0.1",
        mend=beyond("127.0.0.1"),
    ),
    Cause(
        0,
        "a model that Codex has not",
        "gate.model",
        model("codex/nope"),
        "The model 'codex/nope' does not exist here.",
        "codexgate models",
        mend=both(obey, model("codex/scripted-model")),
        look=doctor(),
    ),
    Cause(
        0,
        "a variable of another program that makes no sense",
        "gate.settings",
        environ(HOST="my-laptop"),
        "HOST: set, but not to anything of use here.",
        "unset HOST",
        status="warning",
        look=doctor(),
    ),
    Cause(
        0,
        "a model that its server has not",
        "gate.model",
        both(
            with_other(lambda: only_v1("big")),
            not_there("127.0.0.1:OTHER"),
            environ(CODEXGATE_BACKENDS="ollama,box"),
            model("box/small"),
        ),
        "box/small",
        "codexgate models",
        mend=both(obey, model("box/big")),
    ),
)
