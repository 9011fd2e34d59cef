# What a parser was told about entities, for the rule on XML from outside.


class XMLParser:
    def __init__(self, *args, resolve_entities="default", **options):
        self.resolve_entities = resolve_entities


class XMLPullParser(XMLParser):
    pass
