"""gunicorn behind a reverse proxy on the same machine.

The socket belongs to the proxy and to nobody else, so its peer's
X-Forwarded-Proto can be believed: gunicorn trusts every unix socket peer.
"""

import multiprocessing
import os

bind = os.environ.get("SHOP_BIND", "unix:/run/shop/shop.sock")
umask = 0o007
# Not a header of any client may become SCRIPT_NAME, PATH_INFO or REMOTE_USER.
forwarder_headers = ""
forwarded_allow_ips = ""
header_map = "refuse"
proxy_protocol = "off"
# The management socket could stop or rescale the server.
control_socket_disable = True

worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", min(2 * multiprocessing.cpu_count() + 1, 9)))
threads = 4
# The heartbeat file on a disk would block workers whenever the disk does.
worker_tmp_dir = "/dev/shm"
timeout = 30
graceful_timeout = 20
keepalive = 5
max_requests = 10_000
max_requests_jitter = 1_000

limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190

accesslog = "-"
# The path without its query: reset tokens and searches stay out of the log.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'
