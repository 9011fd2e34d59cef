"""Answers: what a response holds and of which type it says it is. All else
of Flask is told by facts."""

import json as _json

import _dewar

from werkzeug.datastructures import Headers as _Headers


class Response:
    default_status = 200
    default_mimetype = "text/html"

    def __init__(self, response=None, status=None, headers=None, mimetype=None, content_type=None, direct_passthrough=False):
        self.response = response
        self.status = status
        self.status_code = status
        self.headers = _Headers(headers)
        if content_type is None:
            if mimetype is None:
                content_type = self.headers.get("Content-Type", self.default_mimetype + "; charset=utf-8")
            elif mimetype.startswith("text/"):
                content_type = mimetype + "; charset=utf-8"
            else:
                content_type = mimetype
        self.content_type = content_type
        self.headers._of(self)

    def _some(value):
        """An answer of which nothing is known but where it comes from."""
        answer = Response(value)
        answer.content_type = _dewar.anything()
        return answer

    @property
    def mimetype(self):
        return self.content_type.split(";")[0]

    @mimetype.setter
    def mimetype(self, value):
        self.content_type = value

    def set_data(self, value):
        self.response = value

    def get_data(self, as_text=False):
        return self.response

    @property
    def data(self):
        return self.response

    @data.setter
    def data(self, value):
        self.response = value

    def get_json(self, force=False, silent=False):
        return _json.loads(self.response)

    @property
    def json(self):
        return _json.loads(self.response)


def make_response(*args):
    if not args:
        return Response()
    if len(args) > 1:
        rv = args
    else:
        rv = args[0]
    status = None
    headers = None
    if isinstance(rv, tuple):
        if len(rv) == 3:
            rv, status, headers = rv
        elif len(rv) == 2:
            if isinstance(rv[1], (dict, list, tuple)):
                rv, headers = rv
            else:
                rv, status = rv
        else:
            rv = rv[0]
    if isinstance(rv, Response):
        if status is not None:
            rv.status_code = status
        if headers:
            rv.headers.update(headers)
        return rv
    if isinstance(rv, (dict, list)):
        return Response(_json.dumps(rv), status, headers, mimetype="application/json")
    return Response(rv, status, headers)


def jsonify(*args, **kwargs):
    if len(args) == 1:
        data = args[0]
    elif args:
        data = list(args)
    else:
        data = kwargs
    return Response(_json.dumps(data), mimetype="application/json")
