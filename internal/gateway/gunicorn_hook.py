"""gunicorn configuration written by Dewar: read by gunicorn in its master process.

It runs the project's own gunicorn.conf.py first, puts the settings that
protect the app over it, and reports to Dewar through an inherited pipe: what
was overridden, why the app could not be loaded, what the loaded app is like.
Nothing here may break the app: every report is best effort.
"""

import base64
import json
import os
import sys

import gunicorn

# gunicorn reads this file again on SIGHUP, when the variable is gone.
if not hasattr(gunicorn, "_dewar"):
    gunicorn._dewar = json.loads(os.environ.pop("DEWAR_GUNICORN"))
_GIVEN = gunicorn._dewar
_PIPE = _GIVEN["pipe"]
_SENT = set()  # (pid, kind): each kind once per process

# A forked worker keeps the pipe, a program that the app executes does not.
os.set_inheritable(_PIPE, False)


def _send(kind, body):
    """Write one report in frames no longer than PIPE_BUF, so that several
    workers cannot mix theirs."""
    try:
        key = (os.getpid(), kind)
        if key in _SENT:
            return
        _SENT.add(key)
        data = base64.b64encode(json.dumps({"kind": kind, "pid": os.getpid(), **body}).encode())
        step = 3072
        for i in range(0, len(data), step):
            more = b"+" if i + step < len(data) else b"."
            os.write(_PIPE, b"%d %s %s\n" % (os.getpid(), more, data[i : i + step]))
    except Exception:
        pass


def _traceback(exc):
    """The traceback without gunicorn's, importlib's and our own frames."""
    import traceback

    ours = (os.path.dirname(gunicorn.__file__) + os.sep, "<frozen ", __file__)
    seen = set()

    def trim(t):
        while t is not None and id(t) not in seen:
            seen.add(id(t))
            kept = [f for f in t.stack if not f.filename.startswith(ours) and "/importlib/" not in f.filename]
            t.stack = traceback.StackSummary.from_list(kept)
            trim(t.__cause__)
            t = t.__context__

    t = traceback.TracebackException.from_exception(exc)
    trim(t)
    return "".join(t.format())[-32768:]


def _report_failure(uri, exc):
    try:
        module, _, name = uri.partition(":")
        # A module whose import fails is taken out of sys.modules again.
        if module not in sys.modules:
            phase = "import"
        elif "(" in name or not name:
            phase = "factory"
        else:
            phase = "attribute"
        if isinstance(exc, SyntaxError):
            phase = "import"
        _send("failed", {
            "phase": phase,
            "type": type(exc).__name__,
            "message": str(exc)[:4096],
            # The missing module itself, not something it needs.
            "self": isinstance(exc, ModuleNotFoundError)
            and bool(exc.name) and (module == exc.name or module.startswith(exc.name + ".")),
            "missing": getattr(exc, "name", None) if isinstance(exc, ModuleNotFoundError) else None,
            "traceback": _traceback(exc),
        })
    except Exception:
        pass


def _watch_loading():
    from gunicorn.app import wsgiapp

    original = wsgiapp.WSGIApplication.load

    def load(self):
        uri = getattr(self, "app_uri", None) or ""
        try:
            if ":" in uri or self.cfg.paste is not None:
                return original(self)
            # The source did not show which name is the app: Flask's rules.
            from flask.cli import locate_app

            return locate_app(uri, None)
        except (Exception, SystemExit) as e:
            _report_failure(uri, e)
            raise

    wsgiapp.WSGIApplication.load = load


def _unwrap(root):
    """Find the flask.Flask behind a WSGI callable, through middleware."""
    import types

    try:
        from flask import Flask
    except ImportError:
        return None, []
    found, classes, seen, queue = None, [], set(), [root]
    while queue and len(seen) < 500:
        obj = queue.pop(0)
        if id(obj) in seen or obj is None or isinstance(obj, (str, bytes, int, float, type, types.ModuleType)):
            continue
        seen.add(id(obj))
        classes.append(type(obj).__name__)
        if isinstance(obj, Flask):
            found = found or obj
            queue.append(obj.__dict__.get("wsgi_app"))  # middleware put around it
            continue
        if type(obj).__name__ == "LocalProxy":
            try:
                queue.append(obj._get_current_object())
            except Exception:
                pass
            continue
        try:
            attrs = vars(obj)
        except TypeError:
            attrs = {}
        for name in ("app", "wsgi_app", "application", "wsgi", "_app", "wrapped", "__wrapped__"):
            queue.append(attrs.get(name))
        for name in ("__self__", "__func__", "func"):
            try:
                queue.append(getattr(obj, name, None))
            except Exception:
                pass
        if isinstance(obj, types.FunctionType):
            for cell in obj.__closure__ or ():
                try:
                    queue.append(cell.cell_contents)
                except ValueError:
                    pass
        else:
            for value in list(attrs.values())[:50]:
                if callable(value):
                    queue.append(value)
                elif isinstance(value, dict):  # DispatcherMiddleware.mounts
                    queue.extend(v for v in list(value.values())[:20] if callable(v))
    return found, classes


def _secret(value):
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(bytes(value)).decode()
    return ""


def _version(name):
    try:
        from importlib.metadata import version

        return version(name)
    except Exception:
        return ""


def _collect(wsgi):
    import platform

    facts = {
        "known": True,
        "server": "gunicorn " + _version("gunicorn"),
        "python": platform.python_version(),
        "flask": _version("flask"),
        "werkzeug": _version("werkzeug"),
        "uid": os.getuid(),
    }
    app, classes = _unwrap(wsgi)
    facts["debugger"] = "DebuggedApplication" in classes
    facts["found"] = app is not None
    if app is None:
        return facts
    config = app.config
    fallbacks = config.get("SECRET_KEY_FALLBACKS") or []
    routes = []
    for rule in app.url_map.iter_rules():
        if len(routes) == 20000:
            break
        routes.append({"rule": str(rule.rule), "methods": sorted(rule.methods or ()), "endpoint": str(rule.endpoint)})
    facts.update({
        "debug": bool(app.debug),
        "testing": bool(app.testing),
        "secret": _secret(app.secret_key),
        "fallbacks": [_secret(f) for f in fallbacks if f],
        "session_cookie": str(config.get("SESSION_COOKIE_NAME") or ""),
        "remember_cookie": str(config.get("REMEMBER_COOKIE_NAME") or "remember_token") if _uses_login(app) else "",
        "routes": routes,
    })
    return facts


def _uses_login(app):
    return hasattr(app, "login_manager") or "flask_login" in sys.modules


class _ClientAddress:
    """gunicorn leaves REMOTE_ADDR empty behind a unix socket. The guard is the
    only one who can reach the socket and has taken away every forwarding
    header of the client, so the address it wrote is the client's."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        if not environ.get("REMOTE_ADDR"):
            address = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", 1)[-1].strip()
            if address:
                environ["REMOTE_ADDR"] = address
        return self.app(environ, start_response)


def _hooks(user):
    theirs = user.get("post_worker_init")

    def post_worker_init(worker):
        wsgi = getattr(worker, "wsgi", None)
        try:
            facts = _collect(wsgi)
        except Exception as e:
            facts = {"known": False, "why": "%s: %s" % (type(e).__name__, e)}
        _send("facts", facts)
        try:
            os.close(_PIPE)  # the app has no business with it
        except OSError:
            pass
        if wsgi is not None and _GIVEN["client_address"]:
            worker.wsgi = _ClientAddress(wsgi)
        if callable(theirs):
            theirs(worker)

    return post_worker_init


def _load_user():
    """The settings of the project's gunicorn.conf.py and GUNICORN_CMD_ARGS."""
    from gunicorn.config import Config

    user = {}
    name = _GIVEN["user_config"]
    if name:
        scope = {"__file__": name, "__name__": "__config__"}
        with open(name, "rb") as f:
            code = compile(f.read(), name, "exec")
        exec(code, scope)
        user.update((k, v) for k, v in scope.items() if k in Config().settings)
    if _GIVEN["cmd_args"]:
        import shlex

        parsed = Config().parser().parse_args(shlex.split(_GIVEN["cmd_args"]))
        user.update((k, v) for k, v in vars(parsed).items() if v is not None and k not in ("args", "config"))
    return user


def _configure():
    from gunicorn.config import Config

    known = Config().settings
    user = _load_user()
    ours = {k: v for k, v in _GIVEN["settings"].items() if k in known}
    for name in _GIVEN["defaults"]:  # ours unless the project says otherwise
        if name in user:
            ours.pop(name, None)
    overridden = sorted(k for k in user if k in ours and user[k] != ours[k])
    ours["post_worker_init"] = _hooks(user)
    _send("configured", {"overridden": overridden, "kept": sorted(k for k in user if k not in ours)})
    settings = {**user, **ours}
    # gunicorn applies the umask to its own files only; what the app writes
    # (databases, uploads) is nobody else's business either.
    os.umask(settings["umask"])
    return settings


try:
    globals().update(_configure())
    _watch_loading()
except (Exception, SystemExit) as e:
    _send("failed", {
        "phase": "config",
        "type": type(e).__name__,
        "message": str(e)[:4096],
        "self": False,
        "missing": None,
        "traceback": _traceback(e),
    })
    raise
