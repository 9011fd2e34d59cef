"""gunicorn configuration written by Dewar: read by gunicorn in its master process.

It runs the project's own gunicorn.conf.py first, puts the settings that
protect the app over it, and reports to Dewar through an inherited pipe: what
was overridden, why the app could not be loaded, what the loaded app is like.
Nothing here may break the app: every report is best effort.
"""

import base64
import json
import mmap
import os
import signal
import struct
import sys
import time

import gunicorn

# gunicorn reads this file again on SIGHUP, when the variable is gone.
if not hasattr(gunicorn, "_dewar"):
    gunicorn._dewar = json.loads(os.environ.pop("DEWAR_GUNICORN"))
_GIVEN = gunicorn._dewar
_PIPE = _GIVEN["pipe"]
_SENT = set()  # (pid, kind): each kind once per process
_WORKER = None  # in a worker, itself
_INITIAL = 1  # workers that gunicorn starts with
# What all workers share: since when new ones cannot be started, or 0.
_WELL = bytes(8)
_BROKEN_SINCE = mmap.mmap(-1, 8)

# A forked worker keeps the pipe, a program that the app executes does not.
os.set_inheritable(_PIPE, False)


def _send(kind, body):
    """Write one report in frames no longer than PIPE_BUF, so that several
    workers cannot mix theirs."""
    try:
        key = (os.getpid(), kind)
        if key in _SENT and kind != "exited":
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


def _late():
    """Whether this is a worker that takes the place of another.

    gunicorn ends, and takes the workers with it that are well, when one cannot
    be started. For those that it begins with that is right. A replacement
    (after max_requests, after a crash) imports whatever is on the disk at that
    moment, half a deployment perhaps: it has to give way, and the others go on
    with the code they have."""
    return _WORKER is not None and _WORKER.age > _INITIAL


def _told_to_end(exc):
    """Whether a replacement was told to end while it started."""
    return isinstance(exc, SystemExit) and _late() and not _WORKER.alive


def _give_way():
    """End this worker, after a pause in which the master sees that it lives.
    The pauses grow with the time for which no new worker could be started; the
    exit status is none that makes the master end."""
    now = time.monotonic()
    (since,) = struct.unpack("d", _BROKEN_SINCE[:8])
    if not since:
        since = now
        _BROKEN_SINCE[:8] = struct.pack("d", now)
    told = []
    # A worker's own handler lets it go on to its loop.
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    until = now + min(max((now - since) / 2, 1), 10)
    while time.monotonic() < until and not told and _WORKER.alive and os.getppid() == _WORKER.ppid:
        _WORKER.notify()
        time.sleep(0.1)
    raise SystemExit(0)


def _or_give_way(hook, *args):
    """Call a hook of the project's in a worker."""
    try:
        return hook(*args)
    except (Exception, SystemExit) as e:
        if not _late() or _told_to_end(e):
            raise
        _report_failure(None, e)
        _give_way()


def _report_failure(uri, exc):
    """Tell why a worker cannot be started: the app behind uri cannot be
    loaded or, without uri, a hook of the project's fails."""
    try:
        if _late():  # otherwise gunicorn shows it
            sys.stderr.write(_traceback(exc))
            sys.stderr.flush()
        if uri is None:
            _send("failed", {
                "phase": "worker-boot", "late": _late(), "type": type(exc).__name__, "message": str(exc)[:4096], "traceback": _traceback(exc),
            })
            return
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
            "late": _late(),
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

    # Read again on SIGHUP, this must not be put around itself.
    original = gunicorn._dewar_load = getattr(gunicorn, "_dewar_load", wsgiapp.WSGIApplication.load)

    def load(self):
        uri = getattr(self, "app_uri", None) or ""
        try:
            if ":" in uri or self.cfg.paste is not None:
                return original(self)
            # The source did not show which name is the app: Flask's rules.
            from flask.cli import locate_app

            return locate_app(uri, None)
        except (Exception, SystemExit) as e:
            if _told_to_end(e):
                raise
            _report_failure(uri, e)
            if _late():
                _give_way()
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


def _converters(rule):
    """What the variable parts of a rule accept, where a converter of the
    project says so: name to regular expression."""
    import werkzeug.routing as routing

    out = {}
    for name, converter in (getattr(rule, "_converters", None) or {}).items():
        if type(converter).__module__ != routing.UnicodeConverter.__module__:
            out[str(name)] = str(getattr(converter, "regex", ""))
    return out


# Methods through which every request to Flask passes. One that is not Flask's
# own may answer whatever it likes.
_FLASK = (
    "wsgi_app", "full_dispatch_request", "dispatch_request", "preprocess_request", "process_response", "finalize_request", "make_response",
    "create_url_adapter", "request_context", "raise_routing_exception",
    "handle_user_exception", "handle_http_exception", "handle_exception", "_find_error_handler",
)


def _elsewhere(wsgi, app):
    """Why a path that no rule has may be answered by something else than
    Flask's own 404: a list of short reasons, empty if nothing can."""
    from flask import Flask
    from werkzeug.middleware.proxy_fix import ProxyFix
    from werkzeug.routing import Map

    out = []

    def through(obj, inner):
        while obj is not inner:
            if type(obj).__name__ == "LocalProxy":
                obj = obj._get_current_object()
            elif type(obj) is ProxyFix:
                if obj.x_prefix:
                    out.append("ProxyFix believes X-Forwarded-Prefix")
                obj = obj.app
            elif getattr(obj, "__func__", None) is Flask.wsgi_app and inner is None:
                return
            else:
                out.append("WSGI middleware %s" % _name(obj))
                return

    through(wsgi, app)
    if "wsgi_app" in vars(app):
        through(vars(app)["wsgi_app"], None)
    for name in _FLASK:
        if name != "wsgi_app" and name in vars(app) or getattr(type(app), name, None) is not getattr(Flask, name, None):
            out.append("%s of the app is not Flask's" % name)
    if type(app.url_map) is not Map:
        out.append("the url_map is a %s" % type(app.url_map).__name__)
    if app.request_class.__module__ != "flask.wrappers":
        out.append("requests are of class %s" % app.request_class.__name__)
    for f in (app.before_request_funcs or {}).get(None, ()):
        if not _silent(f):
            out.append("before_request hook %s may answer" % _name(f))
    for f in (app.after_request_funcs or {}).get(None, ()):
        if not _passes_on(f):
            out.append("after_request hook %s may answer" % _name(f))
    for code, handlers in ((app.error_handler_spec or {}).get(None) or {}).items():
        for cls, f in handlers.items():
            if not (code is None or code in (404, 405)):
                continue
            if code is None and cls.__name__ not in ("HTTPException", "Exception", "BaseException", "NotFound", "MethodNotAllowed", "RequestRedirect", "RoutingException"):
                continue
            if not _not_found(f):
                out.append("error handler %s may answer" % _name(f))
    return out[:20]


def _name(f):
    f = getattr(f, "__func__", f)
    return ("%s.%s" % (getattr(f, "__module__", None) or type(f).__module__, getattr(f, "__qualname__", None) or type(f).__qualname__))[:200]


def _tree(f):
    """The syntax tree of a plain function, or None."""
    import ast
    import inspect
    import textwrap

    f = getattr(f, "__func__", f)
    if not inspect.isfunction(f) or hasattr(f, "__wrapped__") or inspect.iscoroutinefunction(f) or inspect.isgeneratorfunction(f):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(f))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        return None
    return tree if isinstance(tree, ast.FunctionDef) and tree.name == f.__name__ else None


def _own(tree):
    """The nodes of a function without those of functions within it."""
    import ast

    queue = list(tree.body)
    while queue:
        node = queue.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            queue.extend(ast.iter_child_nodes(node))


def _mentions(tree, names):
    import ast

    return any(
        isinstance(n, ast.Name) and n.id in names or isinstance(n, ast.Attribute) and n.attr in names
        for n in _own(tree)
    )


def _silent(f):
    """Whether a before_request hook gives nothing back, so that the request
    goes on. What it raises is an error, which is no answer either."""
    import ast

    tree = _tree(f)
    if tree is None or _mentions(tree, ("redirect", "Response", "make_response", "send_file", "send_from_directory", "RequestRedirect", "url_rule", "url_map")):
        return False
    return all(
        n.value is None or isinstance(n.value, ast.Constant) and n.value.value is None
        for n in _own(tree)
        if isinstance(n, ast.Return)
    )


def _passes_on(f):
    """Whether an after_request hook gives back the answer it was given, with
    its status and body as they were."""
    import ast

    tree = _tree(f)
    if tree is None:
        return False
    args = tree.args.posonlyargs + tree.args.args
    if hasattr(f, "__self__"):
        args = args[1:]
    if len(args) != 1:
        return False
    given = args[0].arg
    for n in _own(tree):
        if isinstance(n, ast.Return) and not (isinstance(n.value, ast.Name) and n.value.id == given):
            return False
        targets = n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, (ast.AugAssign, ast.AnnAssign)) else []
        for t in targets:
            if isinstance(t, ast.Name) and t.id == given:
                return False
            if isinstance(t, ast.Attribute) and isinstance(t.value, ast.Name) and t.value.id == given and t.attr in ("status", "status_code", "response", "data"):
                return False
    return True


def _not_found(f):
    """Whether an error handler always answers with an error of its own: every
    return is (something, 4xx), and nothing is redirected or sent."""
    import ast

    tree = _tree(f)
    if tree is None or _mentions(tree, ("redirect", "send_file", "send_from_directory", "RequestRedirect")):
        return False
    args = [a.arg for a in tree.args.posonlyargs + tree.args.args]
    returns = [n for n in _own(tree) if isinstance(n, ast.Return)]
    for n in returns:
        v = n.value
        if isinstance(v, ast.Name) and v.id in args[-1:]:
            continue  # the exception itself
        if not isinstance(v, ast.Tuple) or len(v.elts) < 2:
            return False
        status = v.elts[1]
        if isinstance(status, ast.Constant) and isinstance(status.value, int) and 400 <= status.value < 500:
            continue
        if isinstance(status, ast.Attribute) and status.attr == "code" and isinstance(status.value, ast.Name) and status.value.id in args[-1:]:
            continue
        return False
    return bool(returns)


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
        routes.append({
            "rule": str(rule.rule), "methods": sorted(rule.methods or ()), "endpoint": str(rule.endpoint),
            "converters": _converters(rule), "folder": _static_folder(app, rule),
        })
    try:
        elsewhere = _elsewhere(wsgi, app)
    except Exception as e:
        elsewhere = ["it could not be looked into (%s)" % type(e).__name__]
    if len(routes) == 20000:
        elsewhere.append("there are more than 20000 rules")
    facts.update({
        "debug": bool(app.debug),
        "testing": bool(app.testing),
        "secret": _secret(app.secret_key),
        "fallbacks": [_secret(f) for f in fallbacks if f],
        "session_cookie": str(config.get("SESSION_COOKIE_NAME") or ""),
        "remember_cookie": str(config.get("REMEMBER_COOKIE_NAME") or "remember_token") if _uses_login(app) else "",
        "sessions": _sessions(app),
        "routes": routes,
        "elsewhere": elsewhere,
    })
    return facts


def _patched():
    """Which library has put its own in place of Python's threads and sockets;
    "" for none."""
    try:
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and (monkey.is_module_patched("threading") or monkey.is_module_patched("select")):
            return "gevent"
        patcher = sys.modules.get("eventlet.patcher")
        if patcher is not None and (patcher.is_monkey_patched("thread") or patcher.is_monkey_patched("select")):
            return "eventlet"
    except Exception:
        pass
    return ""


def _static_folder(app, rule):
    """The folder whose files Flask itself serves under a rule; "" if it is no
    such rule."""
    name, _, last = str(rule.endpoint).rpartition(".")
    owner = app.blueprints.get(name) if name else app
    folder = getattr(owner, "static_folder", None)
    if last != "static" or not folder or not str(rule.rule).endswith("/<path:filename>"):
        return ""
    return os.path.abspath(str(folder))


def _sessions(app):
    """How the app keeps sessions, as far as its session interface shows."""
    try:
        from flask.sessions import SecureCookieSessionInterface

        interface = app.session_interface
        out = {"interface": type(interface).__name__, "kind": "id"}
        out["lifetime"] = app.permanent_session_lifetime.total_seconds()
        out["path"] = str(interface.get_cookie_path(app) or "/")
        out["domain"] = str(interface.get_cookie_domain(app) or "")
        if isinstance(interface, SecureCookieSessionInterface):
            signer = interface.get_signing_serializer(app)
            if signer is None:
                out["kind"] = "none"
            else:
                salt = getattr(signer, "salt", b"")
                out["kind"] = "cookie"
                out["salt"] = salt.decode("latin-1") if isinstance(salt, bytes) else str(salt)
                out["derivation"] = str((getattr(signer, "signer_kwargs", None) or {}).get("key_derivation") or "django-concat")
        else:
            out["tells"] = _make_tell(interface)
        return out
    except Exception as e:
        return {"interface": type(e).__name__}


def _make_tell(interface):
    """Have a session interface that keeps its sessions on the server say in
    an answer's header what the guard asked for in the request's. The guard
    takes both headers away; nothing but the keys that it names is said."""
    save = interface.save_session

    def save_session(app, session, response, *args, **kwargs):
        result = save(app, session, response, *args, **kwargs)
        try:
            from flask import request

            asked = request.environ.get("dewar.session")
            if asked and response is not None:
                word, _, keys = asked.partition(" ")
                get = dict.get if isinstance(session, dict) else type(session).get  # dict's marks nothing as accessed
                held = {}
                for key in keys.split(","):
                    value = get(session, key)
                    if value is not None:
                        held[key] = value
                text = app.json.dumps(held) if hasattr(app, "json") else json.dumps(held, default=str)
                response.headers["X-Dewar-Session"] = word + " " + base64.urlsafe_b64encode(text.encode()).decode()
        except Exception:
            pass
        return result

    try:
        interface.save_session = save_session
    except Exception:  # __slots__
        return False
    return True


class _SessionQuestion:
    """Takes the guard's question out of the request, so that the app neither
    sees nor repeats it."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        asked = environ.pop("HTTP_X_DEWAR_SESSION", None)
        if asked:
            environ["dewar.session"] = asked
        return self.app(environ, start_response)


def _uses_login(app):
    return hasattr(app, "login_manager") or "flask_login" in sys.modules


class _Client:
    """gunicorn leaves REMOTE_ADDR empty behind a unix socket. The guard is the
    only one who can reach the socket and has taken away every forwarding
    header of the client, so the address it wrote is the client's, and the user
    is the one whom it let log in (authn.remote-user)."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        if not environ.get("REMOTE_ADDR"):
            address = environ.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", 1)[-1].strip()
            if address:
                environ["REMOTE_ADDR"] = address
        user = environ.pop("HTTP_X_DEWAR_REMOTE_USER", None)
        environ.pop("REMOTE_USER", None)
        if user:
            environ["REMOTE_USER"] = user
        return self.app(environ, start_response)


def _theirs(user, name):
    """The project's own hook, which may be given as "module.function", or
    gunicorn's."""
    from gunicorn.config import Config

    setting = Config().settings[name]
    if user.get(name) is not None:
        setting.set(user[name])
    return setting.get()


def _hooks(user):
    """gunicorn's hooks that Dewar needs, around the project's own."""
    init, fork, exited, request = (_theirs(user, name) for name in ("post_worker_init", "post_fork", "child_exit", "pre_request"))

    def post_fork(server, worker):
        global _WORKER
        _WORKER = worker
        if _late():
            # Of this process alone: whatever else keeps it from starting is
            # no reason for the master to end.
            server.WORKER_BOOT_ERROR = server.APP_LOAD_ERROR = 1
        _or_give_way(fork, server, worker)

    def post_worker_init(worker):
        wsgi = getattr(worker, "wsgi", None)
        try:
            facts = _collect(wsgi)
        except Exception as e:
            facts = {"known": False, "why": "%s: %s" % (type(e).__name__, e)}
        facts["patched"] = _patched()
        facts["worker_class"] = str(getattr(worker.cfg, "worker_class_str", ""))
        _send("facts", facts)
        if wsgi is not None and _GIVEN["client_address"]:
            worker.wsgi = _Client(wsgi)
        if worker.wsgi is not None and (facts.get("sessions") or {}).get("tells"):
            worker.wsgi = _SessionQuestion(worker.wsgi)
        _or_give_way(init, worker)
        _BROKEN_SINCE[:8] = _WELL
        try:
            os.close(_PIPE)  # the app has no business with it
        except OSError:
            pass

    def child_exit(server, worker):  # in the master
        _send("exited", {"worker": worker.pid})
        exited(server, worker)

    def pre_request(worker, req):
        if _BROKEN_SINCE[:8] != _WELL and worker.nr + 100 > worker.max_requests:
            worker.max_requests = worker.nr + 100  # who ended now would not be replaced
        request(worker, req)

    return {"post_worker_init": post_worker_init, "post_fork": post_fork, "child_exit": child_exit, "pre_request": pre_request}


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
    global _INITIAL
    _INITIAL = int({**user, **ours}.get("workers", 1))
    _send("configured", {"overridden": overridden, "kept": sorted(k for k in user if k not in ours), "workers": _INITIAL})
    settings = {**user, **ours, **_hooks(user)}
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
