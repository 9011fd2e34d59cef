package flask

import "embed"

// Knowledge holds what is known about Flask and the libraries around it:
// knowledge/*.facts, one line per fact (see pyflow.ParseFacts), and
// knowledge/models/*.py, library modules written in Python that the
// interpreter runs instead of the library, named by their dotted path.
//
// The tests ask the real packages whether every name exists. "#gone REASON"
// before lines, up to the next empty one, says that current releases no
// longer have the names; "#open REASON" that only instances have them.
//
//go:embed knowledge
var Knowledge embed.FS
