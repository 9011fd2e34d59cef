"""The one thing leaky does right: it answers only to this machine."""

import ipaddress


class LoopbackOnly:
    """WSGI middleware; outermost, so that it sees the real peer and no header's claim."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        peer = environ.get("REMOTE_ADDR", "")
        # A unix socket's peer has no address (Werkzeug calls it <local>).
        if peer not in ("", "<local>") and not ipaddress.ip_address(peer).is_loopback:
            start_response("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"leaky is vulnerable on purpose and answers to this machine only\n"]
        return self.app(environ, start_response)
