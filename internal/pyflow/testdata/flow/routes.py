from t import App, sink

app = App()


# Converters that make their pattern of what stands in the rule.


class Base:
    def __init__(self, url_map, *args):
        self.map = url_map


class Pattern(Base):
    def __init__(self, url_map, pattern):
        super().__init__(url_map)
        self.regex = pattern


class Upper(Pattern):
    def to_python(self, value):
        return value.upper()


class Fixed(Base):
    regex = "[a-c]+"


app.url_map.converters["pattern"] = Pattern
app.url_map.converters["upper"] = Upper
app.url_map.converters["fixed"] = Fixed
HASH = r"([a-z]+):([0-9]+)"
RULE = '/a/<pattern("{0}"):digest>'.format(HASH)


@app.route(RULE)
def formatted(digest):
    sink(digest)  # want {0-:a-z}


@app.route('/b/<pattern(".+"):digest>')
def anything(digest):
    sink(digest)  # want {^\n}


@app.route('/c/<pattern("(?P<all>[ab>]+)"):digest>/<rest>')
def with_a_bracket(digest, rest):
    sink(digest)  # want {>ab}
    sink(rest)  # want {^/}


@app.route("/d/<upper('[xy]+'):digest>")
def converted(digest):
    sink(digest)  # want {XY}


@app.route("/e/<fixed:digest>")
def fixed(digest):
    sink(digest)  # want {a-c}


@app.route("/f/<pattern(HASH):digest>/<other('[a-z]'):more>")
def unknown_pattern(digest, more):
    sink(digest)  # want {?}
    sink(more)  # want {?}
