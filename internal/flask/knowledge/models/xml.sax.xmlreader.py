# Whether a reader was told to follow external entities, for the rule on XML
# from outside.


class XMLReader:
    def __init__(self):
        self.external_ges = False

    def setFeature(self, name, state):
        if name == "http://xml.org/sax/features/external-general-entities":
            self.external_ges = state


class IncrementalParser(XMLReader):
    pass
