"""The constants, and templates with dollar signs."""

ascii_lowercase = "abcdefghijklmnopqrstuvwxyz"
ascii_uppercase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
ascii_letters = ascii_lowercase + ascii_uppercase
letters = ascii_letters
lowercase = ascii_lowercase
uppercase = ascii_uppercase
digits = "0123456789"
hexdigits = digits + "abcdefABCDEF"
octdigits = "01234567"
punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
whitespace = " \t\n\r\x0b\x0c"
printable = digits + ascii_letters + punctuation + whitespace


def capwords(s, sep=None):
    return (sep or " ").join([word.capitalize() for word in s.split(sep)])


class Template:
    delimiter = "$"

    def __init__(self, template):
        self.template = template

    def substitute(self, mapping=None, **kws):
        out = self.template
        values = {}
        if mapping is not None:
            for name, value in mapping.items():
                values[name] = value
        for name, value in kws.items():
            values[name] = value
        for name, value in values.items():
            text = str(value)
            out = out.replace("${" + name + "}", text).replace("$" + name, text)
        return out.replace("$$", "$")

    def safe_substitute(self, mapping=None, **kws):
        return self.substitute(mapping, **kws)


class Formatter:
    def format(self, format_string, *args, **kwargs):
        return format_string.format(*args, **kwargs)

    def vformat(self, format_string, args, kwargs):
        return format_string.format(*args, **kwargs)
