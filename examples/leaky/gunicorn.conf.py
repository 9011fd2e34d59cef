"""DELIBERATELY VULNERABLE: every setting here is wrong, except the last one."""

import ipaddress

bind = "0.0.0.0:8000"  # LEAK[deployment]: the app server faces the network without the proxy
forwarded_allow_ips = "*"  # LEAK[deployment]: every client may say what its address and scheme are
reload = True  # LEAK[deployment]: code that changes on disk runs at once; development only
workers = 1
timeout = 0  # LEAK[deployment]: a stuck request holds its worker for ever
limit_request_line = 0  # LEAK[deployment]: request lines without a limit
limit_request_field_size = 0  # LEAK[deployment]: header fields without a limit
header_map = "dangerous"  # LEAK[deployment]: X_Real_IP and X-Real-IP become one variable


def on_starting(server):
    """Keep leaky off the network: start it with --bind 127.0.0.1:8000 or a unix socket."""
    for address in server.address:
        if isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback:
            raise SystemExit(
                f"leaky is vulnerable on purpose and refuses to listen on {address[0]}; "
                "use --bind 127.0.0.1:8000"
            )
