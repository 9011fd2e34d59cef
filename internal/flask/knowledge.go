package flask

import (
	"slices"
	"strings"
)

// Known is what the documentation of Flask or an extension says about a
// setting.
type Known struct {
	Key     string
	Owner   string // the package that reads it
	Default Value
	// Since is the version of Owner that brought the setting or this default;
	// empty means for as long as matters.
	Since string
}

func yes() Value             { return BoolValue(true) }
func no() Value              { return BoolValue(false) }
func none() Value            { return NoneValue() }
func text(s string) Value    { return StringValue(s) }
func number(n float64) Value { return NumberValue(n) }
func days(n float64) Value   { return DurationValue(n * 86400) }
func words(w ...string) Value {
	v := Value{Known: true, Kind: List}
	for _, x := range w {
		v.Items = append(v.Items, StringValue(x))
	}
	return v
}

// KnownSettings are the settings with their defaults. Defaults are those of
// Flask 3.1, Flask-Login 0.6, Flask-WTF 1.2 and the current releases of the
// others.
var KnownSettings = []Known{
	// Flask 3.1, https://flask.palletsprojects.com/en/stable/config/
	{"DEBUG", "Flask", no(), ""},
	{"TESTING", "Flask", no(), ""},
	{"PROPAGATE_EXCEPTIONS", "Flask", none(), ""},
	{"TRAP_HTTP_EXCEPTIONS", "Flask", no(), ""},
	{"TRAP_BAD_REQUEST_ERRORS", "Flask", none(), ""},
	{"SECRET_KEY", "Flask", none(), ""},
	{"SECRET_KEY_FALLBACKS", "Flask", none(), "3.1"},
	{"SESSION_COOKIE_NAME", "Flask", text("session"), ""},
	{"SESSION_COOKIE_DOMAIN", "Flask", none(), ""},
	{"SESSION_COOKIE_PATH", "Flask", none(), ""},
	{"SESSION_COOKIE_HTTPONLY", "Flask", yes(), ""},
	{"SESSION_COOKIE_SECURE", "Flask", no(), ""},
	{"SESSION_COOKIE_SAMESITE", "Flask", none(), ""},
	{"SESSION_COOKIE_PARTITIONED", "Flask", no(), "3.1"},
	{"PERMANENT_SESSION_LIFETIME", "Flask", days(31), ""},
	{"SESSION_REFRESH_EACH_REQUEST", "Flask", yes(), ""},
	{"USE_X_SENDFILE", "Flask", no(), ""},
	{"SEND_FILE_MAX_AGE_DEFAULT", "Flask", none(), "2.0"},
	{"TRUSTED_HOSTS", "Flask", none(), "3.1"},
	{"SERVER_NAME", "Flask", none(), ""},
	{"APPLICATION_ROOT", "Flask", text("/"), ""},
	{"PREFERRED_URL_SCHEME", "Flask", text("http"), ""},
	{"MAX_CONTENT_LENGTH", "Flask", none(), ""},
	{"MAX_FORM_MEMORY_SIZE", "Flask", number(500000), "3.1"},
	{"MAX_FORM_PARTS", "Flask", number(1000), "3.1"},
	{"TEMPLATES_AUTO_RELOAD", "Flask", none(), ""},
	{"EXPLAIN_TEMPLATE_LOADING", "Flask", no(), ""},
	{"MAX_COOKIE_SIZE", "Flask", number(4093), ""},
	{"PROVIDE_AUTOMATIC_OPTIONS", "Flask", yes(), "3.1"},
	// removed in Flask 2.3, set by older apps
	{"ENV", "Flask", text("production"), ""},
	{"JSON_AS_ASCII", "Flask", yes(), ""},
	{"JSONIFY_PRETTYPRINT_REGULAR", "Flask", no(), ""},
	// Flask-Login, https://flask-login.readthedocs.io/en/latest/#cookie-settings
	{"REMEMBER_COOKIE_NAME", "Flask-Login", text("remember_token"), ""},
	{"REMEMBER_COOKIE_DURATION", "Flask-Login", days(365), ""},
	{"REMEMBER_COOKIE_DOMAIN", "Flask-Login", none(), ""},
	{"REMEMBER_COOKIE_PATH", "Flask-Login", text("/"), ""},
	{"REMEMBER_COOKIE_SECURE", "Flask-Login", no(), ""},
	{"REMEMBER_COOKIE_HTTPONLY", "Flask-Login", yes(), ""},
	{"REMEMBER_COOKIE_REFRESH_EACH_REQUEST", "Flask-Login", no(), ""},
	{"REMEMBER_COOKIE_SAMESITE", "Flask-Login", none(), "0.5"},
	{"SESSION_PROTECTION", "Flask-Login", text("basic"), ""},
	{"LOGIN_DISABLED", "Flask-Login", no(), ""},
	// Flask-WTF, https://flask-wtf.readthedocs.io/en/latest/config/
	{"WTF_CSRF_ENABLED", "Flask-WTF", yes(), ""},
	{"WTF_CSRF_CHECK_DEFAULT", "Flask-WTF", yes(), ""},
	{"WTF_CSRF_SECRET_KEY", "Flask-WTF", none(), ""},
	{"WTF_CSRF_METHODS", "Flask-WTF", words("POST", "PUT", "PATCH", "DELETE"), ""},
	{"WTF_CSRF_FIELD_NAME", "Flask-WTF", text("csrf_token"), ""},
	{"WTF_CSRF_HEADERS", "Flask-WTF", words("X-CSRFToken", "X-CSRF-Token"), ""},
	{"WTF_CSRF_TIME_LIMIT", "Flask-WTF", number(3600), ""},
	{"WTF_CSRF_SSL_STRICT", "Flask-WTF", yes(), ""},
	{"WTF_I18N_ENABLED", "Flask-WTF", yes(), ""},
	// Flask-Session, https://flask-session.readthedocs.io/en/latest/config.html
	{"SESSION_TYPE", "Flask-Session", none(), ""},
	{"SESSION_PERMANENT", "Flask-Session", yes(), ""},
	{"SESSION_USE_SIGNER", "Flask-Session", no(), ""},
	{"SESSION_KEY_PREFIX", "Flask-Session", text("session:"), ""},
	{"SESSION_ID_LENGTH", "Flask-Session", number(32), "0.6"},
	// Flask-CORS, https://flask-cors.readthedocs.io/en/latest/configuration.html
	{"CORS_ORIGINS", "Flask-CORS", text("*"), ""},
	{"CORS_SUPPORTS_CREDENTIALS", "Flask-CORS", no(), ""},
	{"CORS_SEND_WILDCARD", "Flask-CORS", no(), ""},
	{"CORS_ALLOW_PRIVATE_NETWORK", "Flask-CORS", no(), "5.0"},
	// Flask-Limiter, https://flask-limiter.readthedocs.io/en/stable/configuration.html
	{"RATELIMIT_ENABLED", "Flask-Limiter", yes(), ""},
	{"RATELIMIT_DEFAULT", "Flask-Limiter", none(), ""},
	{"RATELIMIT_STORAGE_URI", "Flask-Limiter", text("memory://"), ""},
	{"RATELIMIT_SWALLOW_ERRORS", "Flask-Limiter", no(), ""},
	// Flask-JWT-Extended, https://flask-jwt-extended.readthedocs.io/en/stable/options.html
	{"JWT_SECRET_KEY", "Flask-JWT-Extended", none(), ""},
	{"JWT_ALGORITHM", "Flask-JWT-Extended", text("HS256"), ""},
	{"JWT_TOKEN_LOCATION", "Flask-JWT-Extended", text("headers"), ""},
	{"JWT_ACCESS_TOKEN_EXPIRES", "Flask-JWT-Extended", DurationValue(15 * 60), ""},
	{"JWT_REFRESH_TOKEN_EXPIRES", "Flask-JWT-Extended", days(30), ""},
	{"JWT_COOKIE_SECURE", "Flask-JWT-Extended", no(), ""},
	{"JWT_COOKIE_CSRF_PROTECT", "Flask-JWT-Extended", yes(), ""},
	{"JWT_COOKIE_SAMESITE", "Flask-JWT-Extended", none(), ""},
	{"JWT_ENCODE_AUDIENCE", "Flask-JWT-Extended", none(), ""},
	// Flask-SQLAlchemy, Flask-DebugToolbar, Flask-Security, Flask-Mail
	{"SQLALCHEMY_DATABASE_URI", "Flask-SQLAlchemy", none(), ""},
	{"SQLALCHEMY_ECHO", "Flask-SQLAlchemy", no(), ""},
	{"SQLALCHEMY_RECORD_QUERIES", "Flask-SQLAlchemy", no(), "3.0"},
	{"DEBUG_TB_ENABLED", "Flask-DebugToolbar", none(), ""},
	{"DEBUG_TB_INTERCEPT_REDIRECTS", "Flask-DebugToolbar", yes(), ""},
	{"SECURITY_PASSWORD_SALT", "Flask-Security", none(), ""},
	{"SECURITY_PASSWORD_HASH", "Flask-Security", text("argon2"), "5.5"},
	{"MAIL_PASSWORD", "Flask-Mail", none(), ""},
	{"MAIL_USE_TLS", "Flask-Mail", no(), ""},
}

// KnownSetting returns the fact about a setting.
func KnownSetting(key string) (Known, bool) {
	i := slices.IndexFunc(KnownSettings, func(k Known) bool { return k.Key == key })
	if i < 0 {
		return Known{}, false
	}
	return KnownSettings[i], true
}

// attributeSettings are the attributes of an app that stand for a setting.
var attributeSettings = map[string]string{
	"secret_key": "SECRET_KEY", "debug": "DEBUG", "testing": "TESTING",
	"permanent_session_lifetime": "PERMANENT_SESSION_LIFETIME", "session_cookie_name": "SESSION_COOKIE_NAME",
	"use_x_sendfile": "USE_X_SENDFILE", "send_file_max_age_default": "SEND_FILE_MAX_AGE_DEFAULT",
	"templates_auto_reload": "TEMPLATES_AUTO_RELOAD", "env": "ENV",
}

// canonical gives the spelling of names that can be imported from several
// places.
var canonical = map[string]string{
	"flask.app.Flask": "flask.Flask", "flask.blueprints.Blueprint": "flask.Blueprint",
	"flask.wrappers.Response": "flask.Response", "flask.wrappers.Request": "flask.Request", "werkzeug.wrappers.Response": "flask.Response",
	"werkzeug.Response": "flask.Response", "flask.globals.request": "flask.request", "flask.globals.session": "flask.session",
	"flask.globals.g": "flask.g", "flask.globals.current_app": "flask.current_app",
	"werkzeug.utils.redirect": "flask.redirect", "flask.helpers.redirect": "flask.redirect", "werkzeug.exceptions.abort": "flask.abort",
	"flask.helpers.abort": "flask.abort", "flask.helpers.url_for": "flask.url_for", "flask.helpers.make_response": "flask.make_response",
	"flask.helpers.send_file": "flask.send_file", "flask.templating.render_template": "flask.render_template",
	"flask.templating.render_template_string": "flask.render_template_string", "flask.json.jsonify": "flask.jsonify",
	"markupsafe.Markup": "markupsafe.Markup", "flask.Markup": "markupsafe.Markup", "jinja2.Markup": "markupsafe.Markup",
	"flask.views.MethodView": "flask.views.MethodView", "flask_wtf.csrf.CSRFProtect": "flask_wtf.CSRFProtect",
	"flask_wtf.csrf.CsrfProtect": "flask_wtf.CSRFProtect", "flask_wtf.CsrfProtect": "flask_wtf.CSRFProtect",
	"flask_wtf.form.FlaskForm": "flask_wtf.FlaskForm", "flask_wtf.Form": "flask_wtf.FlaskForm",
	"flask_login.login_manager.LoginManager": "flask_login.LoginManager", "flask_login.utils.login_required": "flask_login.login_required",
	"flask_login.utils.login_user": "flask_login.login_user", "flask_login.utils.logout_user": "flask_login.logout_user",
	"flask_login.utils.current_user": "flask_login.current_user", "flask_talisman.talisman.Talisman": "flask_talisman.Talisman",
	"flask_cors.extension.CORS": "flask_cors.CORS", "flask_cors.decorator.cross_origin": "flask_cors.cross_origin",
	"flask_security.decorators.auth_required": "flask_security.auth_required", "flask_security.core.Security": "flask_security.Security",
	"flask_jwt_extended.view_decorators.jwt_required": "flask_jwt_extended.jwt_required",
	"distutils.util.strtobool":                        "distutils.util.strtobool", "environ.env": "environs.env",
}

var appClasses = set("flask.Flask quart.Quart apiflask.APIFlask flask_openapi3.OpenAPI connexion.FlaskApp connexion.App connexion.apps.flask_app.FlaskApp")

var blueprintClasses = set("flask.Blueprint flask_smorest.Blueprint flask_openapi3.APIBlueprint apiflask.APIBlueprint flask_rebar.Blueprint quart.Blueprint")

const (
	apiRoot = iota + 1
	apiNamespace
)

var apiClasses = map[string]int{
	"flask_restful.Api": apiRoot, "flask_restx.Api": apiRoot, "flask_restplus.Api": apiRoot,
	"flask_restx.Namespace": apiNamespace, "flask_restplus.Namespace": apiNamespace,
}

// Extensions are the extensions worth knowing by name.
var Extensions = set(`flask_wtf.CSRFProtect flask_seasurf.SeaSurf flask_login.LoginManager flask_security.Security flask_user.UserManager
	flask_principal.Principal flask_httpauth.HTTPBasicAuth flask_httpauth.HTTPTokenAuth flask_httpauth.HTTPDigestAuth flask_httpauth.MultiAuth
	flask_jwt_extended.JWTManager flask_jwt.JWT authlib.integrations.flask_client.OAuth flask_oidc.OpenIDConnect flask_pyoidc.OIDCAuthentication
	flask_talisman.Talisman flask_cors.CORS flask_limiter.Limiter flask_sqlalchemy.SQLAlchemy flask_session.Session flask_mail.Mail flask_mailman.Mail
	flask_caching.Cache flask_migrate.Migrate flask_admin.Admin flask_appbuilder.AppBuilder flask_socketio.SocketIO flask_sock.Sock
	flask_debugtoolbar.DebugToolbarExtension flask_bcrypt.Bcrypt flask_argon2.Argon2 flask_babel.Babel flask_compress.Compress flask_pymongo.PyMongo
	flask_mongoengine.MongoEngine flask_uploads.UploadSet flask_dropzone.Dropzone flask_marshmallow.Marshmallow flask_smorest.Api
	flask_monitoringdashboard.dashboard flask_assets.Environment flask_moment.Moment flask_bootstrap.Bootstrap flask_bootstrap.Bootstrap5
	flask_sslify.SSLify flask_kvsession.KVSessionExtension flask_ckeditor.CKEditor flask_apscheduler.APScheduler sentry_sdk.init
	flask_seasurf.SeaSurf secure.Secure flask_csp.csp.csp_header flask_paranoid.Paranoid flask_simplelogin.SimpleLogin flask_dance.OAuth2ConsumerBlueprint`)

// KnownExtension reports whether the table Extensions has a qualified name.
func KnownExtension(q string) bool { return Extensions[q] }

// notExtensions are classes of flask_… packages that are given no app.
var notExtensions = set(`FlaskForm Form Resource RequestParser FileField FileAllowed FileRequired UserMixin AnonymousUserMixin Namespace Api
	Message Permission RoleNeed UserNeed Identity AnonymousIdentity RoleMixin ModelView BaseView Blueprint`)

var knownModules = set("flask flask_login flask_wtf flask_restful flask_restx wtforms werkzeug")

var formClasses = set("flask_wtf.FlaskForm wtforms.Form wtforms.form.Form flask_security.LoginForm flask_security.forms.LoginForm flask_security.RegisterForm")

var fileFields = set("flask_wtf.file.FileField flask_wtf.file.MultipleFileField wtforms.FileField wtforms.MultipleFileField wtforms.fields.FileField wtforms.fields.MultipleFileField")

// returnTypes says what library functions return.
var returnTypes = map[string]string{
	"flask.make_response": "flask.Response()", "flask.redirect": "flask.Response()", "flask.jsonify": "flask.Response()",
	"flask.send_file": "flask.Response()", "flask.send_from_directory": "flask.Response()", "flask.Flask().make_response": "flask.Response()",
	"flask.request.get_json": "flask.request.json", "flask.request.form.to_dict": "flask.request.form", "flask.request.args.to_dict": "flask.request.args",
	"flask.request.values.to_dict": "flask.request.values", "flask.request.form.copy": "flask.request.form",
	"datetime.datetime.now": "datetime.datetime()", "datetime.datetime.utcnow": "datetime.datetime()",
}

// passThrough are library functions that return their first argument as far
// as names go.
var passThrough = set("werkzeug.local.LocalProxy copy.copy copy.deepcopy functools.wraps()")

var randomCalls = set(`secrets.token_hex secrets.token_urlsafe secrets.token_bytes secrets.choice os.urandom uuid.uuid4 uuid.uuid1
	random.random random.randint random.choice random.getrandbits cryptography.fernet.Fernet.generate_key`)

var readCalls = set(`open open().read open().readline open().read().strip pathlib.Path().read_text pathlib.Path().read_bytes json.load yaml.safe_load yaml.load
	tomllib.load toml.load keyring.get_password hvac.Client().secrets.kv.v2.read_secret_version boto3.client().get_secret_value`)

var builtins = set("bool int str float list tuple set frozenset dict bytes open print hash len sorted getattr eval exec input type id format compile __import__ Exception BaseException ValueError KeyError LookupError TypeError RuntimeError PermissionError")

// runCalls start a development server.
var runCalls = set(`flask.Flask().run flask_socketio.SocketIO().run werkzeug.serving.run_simple werkzeug.run_simple quart.Quart().run connexion.FlaskApp().run connexion.App().run flask_script.Manager().run`)

// Words in a decorator's name, in order of how sure they are.
var loginDecorators = set(`flask_login.login_required flask_login.fresh_login_required flask_security.login_required flask_security.auth_required
	flask_security.auth_token_required flask_security.http_auth_required flask_security.roles_required flask_security.roles_accepted
	flask_security.permissions_required flask_security.permissions_accepted flask_jwt_extended.jwt_required flask_jwt_extended.fresh_jwt_required
	flask_jwt.jwt_required flask_user.login_required flask_user.roles_required flask_simplelogin.login_required
	flask_httpauth.HTTPBasicAuth().login_required flask_httpauth.HTTPTokenAuth().login_required flask_httpauth.HTTPDigestAuth().login_required
	flask_httpauth.MultiAuth().login_required flask_oidc.OpenIDConnect().require_login flask_oidc.OpenIDConnect().accept_token
	flask_pyoidc.OIDCAuthentication().oidc_auth flask_principal.Permission().require flask_appbuilder.security.decorators.has_access
	flask_appbuilder.security.decorators.protect flask_appbuilder.security.decorators.has_access_api
	authlib.integrations.flask_oauth2.ResourceProtector()`)

var roleDecorators = set(`flask_security.roles_required flask_security.roles_accepted flask_security.permissions_required
	flask_security.permissions_accepted flask_user.roles_required flask_principal.Permission().require`)

// exposing are decorators that register a view with an extension whose
// routes are not read: they are listed as unknown.
var exposing = set("flask_appbuilder.expose flask_appbuilder.baseviews.expose flask_appbuilder.api.expose flask_admin.expose flask_admin.base.expose flask_classful.route")

var hookKinds = set(`before_request after_request teardown_request before_first_request errorhandler app_errorhandler register_error_handler
	before_app_request after_app_request teardown_app_request before_app_first_request context_processor app_context_processor
	teardown_appcontext url_value_preprocessor url_defaults record record_once`)

// converterTypes are Werkzeug's converters and what the view gets.
var converterTypes = map[string]string{
	"default": "str", "string": "str", "any": "str", "path": "str", "int": "int", "float": "float", "uuid": "UUID",
}

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}
