import xml.sax.xmlreader


def make_parser(parser_list=()):
    return xml.sax.xmlreader.XMLReader()
