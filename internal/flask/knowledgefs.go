package flask

import "embed"

// Knowledge holds what is known about Flask and the libraries around it:
// knowledge/*.facts, one line per fact (see pyflow.ParseFacts), and
// knowledge/models/*.py, library modules written in Python that the
// interpreter runs instead of the library, named by their dotted path.
//
//go:embed knowledge
var Knowledge embed.FS
