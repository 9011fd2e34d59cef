# What a parser was told about entities, for the rule on XML from outside.


class XMLParser:
    def __init__(self, *args, resolve_entities="default", load_dtd=False, no_network=True, **options):
        self.resolve_entities = resolve_entities
        self.load_dtd = load_dtd
        self.no_network = no_network


class XMLPullParser(XMLParser):
    pass
