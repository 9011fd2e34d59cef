"""DELIBERATELY VULNERABLE: what gunicorn, flask and python import. Never deploy this."""

import ipaddress
import os
import sys

from leaky import create_app

app = create_app()

if __name__ == "__main__":
    host = os.environ.get("HOST", "127.0.0.1")
    if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        sys.exit(f"leaky is vulnerable on purpose and listens on loopback only, not on {host}")
    app.run(host="127.0.0.1", debug=True)  # LEAK[settings]: Werkzeug's debugger runs any code a visitor sends
