"""Where a server listens, and who may reach it there."""

import ipaddress
import os
import socket
from dataclasses import dataclass

from xqg_pyserini.errors import UserError
from xqg_pyserini.settings import check_values, option


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 for all of this machine", metavar="ADDRESS")
    port: int = option(8081, "0 for any that is free", least=0, most=65535)
    allow_host: tuple[str, ...] = option(
        (), "names by which browsers may ask for it, besides localhost and addresses in numbers", metavar="NAME"
    )

    def __post_init__(self) -> None:
        check_values(self)


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens; raises `UserError` where it cannot, as where another has the port."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family)
        # connections inherit it: an answer's second packet would wait for the first to be acknowledged, 40 ms
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        unknown = isinstance(error, socket.gaierror)
        why = error.strerror if unknown or error.errno is None else os.strerror(error.errno)
        what = f"cannot listen on {host}, port {port}: {why}; give another"
        raise UserError(what, "host" if unknown else "port") from None


def address_of(listening: socket.socket) -> str:
    """Return the address to open in a browser."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def is_open(listening: socket.socket) -> bool:
    """Tell whether other machines may reach it."""
    return not ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback
