"""A WSGI app that answers with what its server understood of the request."""
import itertools
import json

count = itertools.count(1)


def application(environ, start_response):
    length = environ.get("CONTENT_LENGTH") or ""
    body = environ["wsgi.input"].read(int(length) if length else 0)
    text = lambda s: s.encode("latin-1").hex()
    answer = json.dumps({
        "n": next(count),
        "method": environ["REQUEST_METHOD"],
        "script": environ.get("SCRIPT_NAME", ""),
        "path": text(environ["PATH_INFO"]),
        "query": text(environ.get("QUERY_STRING", "")),
        "scheme": environ["wsgi.url_scheme"],
        "type": environ.get("CONTENT_TYPE"),
        "length": length,
        "chunked": bool(environ.get("wsgi.input_terminated")),
        "headers": {k[5:]: text(v) for k, v in environ.items() if k.startswith("HTTP_")},
        "body": body.hex(),
    }).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
