"""Settings in sections, as far as flow is concerned: what is set under a
section and an option is what comes out there."""


class Error(Exception):
    pass


class NoSectionError(Error):
    pass


class NoOptionError(Error):
    pass


class DuplicateSectionError(Error):
    pass


class ParsingError(Error):
    pass


class RawConfigParser:
    def __init__(self, defaults=None, *args, **kwargs):
        self._values = {}
        self._sections = []
        self._defaults = {}
        self._read = None
        if defaults:
            for key, value in dict(defaults).items():
                self._defaults[key.lower()] = value

    def sections(self):
        return self._sections

    def add_section(self, section):
        if section not in self._values:
            self._sections.append(section)
            self._values[section] = {}

    def has_section(self, section):
        if section in self._values:
            return True
        return __unknown__(self._read)

    def options(self, section):
        return list(self._values.get(section, {}))

    def has_option(self, section, option):
        if section in self._values and option.lower() in self._values[section]:
            return True
        return __unknown__(self._read)

    # What a file holds is not known; a text's labels go with all of it.
    def read(self, filenames, encoding=None):
        self._read = __unknown__()
        return __unknown__()

    def read_file(self, f, source=None):
        self._read = __unknown__(f)

    def readfp(self, fp, filename=None):
        self._read = __unknown__(fp)

    def read_string(self, string, source="<string>"):
        self._read = __unknown__(string)

    def read_dict(self, dictionary, source="<dict>"):
        for section, values in dictionary.items():
            self.add_section(section)
            for key, value in values.items():
                self._values[section][key.lower()] = str(value)

    def optionxform(self, optionstr):
        return optionstr.lower()

    def set(self, section, option, value=None):
        if section not in self._values:
            self._values[section] = {}
        self._values[section][option.lower()] = value

    def get(self, section, option, raw=False, vars=None, fallback=None):
        option = option.lower()
        if section in self._values and option in self._values[section]:
            return self._values[section][option]
        if option in self._defaults:
            return self._defaults[option]
        if fallback is not None:
            return fallback
        return __unknown__(self._read)

    def getint(self, section, option, **kwargs):
        return int(self.get(section, option))

    def getfloat(self, section, option, **kwargs):
        return float(self.get(section, option))

    def getboolean(self, section, option, **kwargs):
        return self.get(section, option) in ("1", "yes", "true", "on")

    def items(self, section=None, raw=False, vars=None):
        if section is None:
            return [(name, SectionProxy(self, name)) for name in self._sections]
        return list(self._values.get(section, {}).items())

    def defaults(self):
        return self._defaults

    def remove_option(self, section, option):
        if section in self._values:
            self._values[section].pop(option.lower(), None)
        return True

    def remove_section(self, section):
        self._values.pop(section, None)
        return True

    def write(self, fp, space_around_delimiters=True):
        pass

    def __contains__(self, key):
        return self.has_section(key)

    def __getitem__(self, key):
        return SectionProxy(self, key)

    def __setitem__(self, key, value):
        self._values[key] = {}
        if key not in self._sections:
            self._sections.append(key)
        for option, text in value.items():
            self._values[key][option.lower()] = text

    def __delitem__(self, key):
        self._values.pop(key, None)

    def __iter__(self):
        return iter(self._sections)

    def keys(self):
        return self._sections


class ConfigParser(RawConfigParser):
    pass


class SafeConfigParser(RawConfigParser):
    pass


class SectionProxy:
    def __init__(self, parser, name):
        self._parser = parser
        self._name = name
        self.name = name

    def __getitem__(self, key):
        return self._parser.get(self._name, key)

    def __setitem__(self, key, value):
        self._parser.set(self._name, key, value)

    def __delitem__(self, key):
        self._parser.remove_option(self._name, key)

    def __contains__(self, key):
        return self._parser.has_option(self._name, key)

    def __iter__(self):
        return iter(self._parser.options(self._name))

    def get(self, option, fallback=None, **kwargs):
        return self._parser.get(self._name, option, fallback=fallback)

    def getint(self, option, fallback=None, **kwargs):
        return int(self._parser.get(self._name, option, fallback=fallback))

    def getfloat(self, option, fallback=None, **kwargs):
        return float(self._parser.get(self._name, option, fallback=fallback))

    def getboolean(self, option, fallback=None, **kwargs):
        return self._parser.getboolean(self._name, option)

    def keys(self):
        return self._parser.options(self._name)

    def items(self):
        return self._parser.items(self._name)

    def values(self):
        return [value for name, value in self._parser.items(self._name)]

    def update(self, values):
        for option, text in values.items():
            self._parser.set(self._name, option, text)

    def setdefault(self, option, value=None):
        if option not in self:
            self[option] = value
        return self[option]
