"""The server: it listens on the loopback address and opens the browser."""

import logging
import socket
import webbrowser

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import Server

from rljax.lab.bandits import BanditTab
from rljax.lab.cartpole import PoleTab
from rljax.lab.gridworld import GridTab
from rljax.lab.page import Page, Tab
from rljax.lab.rlhf import AlignmentTab

LOOPBACK = "127.0.0.1"
TABS: tuple[type[Tab], ...] = (GridTab, BanditTab, PoleTab, AlignmentTab)


def build(document: Document) -> None:
    """Puts the tabs into a visitor's document."""
    Page(document, TABS)


def start(port: int, address: str = LOOPBACK, origins: tuple[str, ...] = ()) -> Server:
    """A running server at http://address:port; `run_until_shutdown` serves.

    Args:
      port: 0 takes one that is free.
      address: of this machine; the loopback address is reached from nowhere else.
      origins: other host:port whose pages may connect, such as that of a proxy.

    Raises:
      OSError: the port is in use, or the address is not of this machine.
    """
    # Of every frame that a page which was closed in mid-training did not take.
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
    port = port or _free_port(address)
    own = [f"{host}:{port}" for host in {"localhost", LOOPBACK, address}]
    server = Server(
        {"/": Application(FunctionHandler(build))},
        port=port,
        address=address,
        allow_websocket_origin=[*own, *origins],
        # A tab that was closed in mid-training ends soon after.
        check_unused_sessions_milliseconds=2000,
        unused_session_lifetime_milliseconds=5000,
    )
    server.start()
    return server


def _free_port(address: str) -> int:
    # Origins are named with their port, so it has to be known beforehand.
    with socket.socket() as one:
        one.bind((address, 0))
        return one.getsockname()[1]


def open_browser(url: str) -> bool:
    """Opens the page; whether there was a browser to open it in."""
    try:
        return webbrowser.open(url)
    except webbrowser.Error:
        return False
