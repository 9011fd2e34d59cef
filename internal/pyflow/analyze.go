package pyflow

import "context"

// Config is what [Analyze] needs.
type Config struct {
	Sources []Source
	// Roots are the directories, relative to the project, in which absolute
	// imports are looked up, "" being the project itself; the first that has
	// the module wins.
	Roots []string
	Facts *Facts
	// Models are library modules written in Python that are run instead of
	// the library, by their dotted path. What a model does not define falls
	// back to the facts.
	Models map[string]*Source
	// Template finds a template by the name the program uses; nil means that
	// there are none. The path is relative to the project.
	Template func(name string) (path string, text []byte, ok bool)
	// Steps bounds what one entry point may take; 0 means 400,000.
	Steps int
	// Workers is how many goroutines may run; 0 means one for each processor.
	// The result does not depend on it.
	Workers int
}

// Analyze runs the project. When ctx ends it returns what it has, every
// function that was not run being listed in [Result.GaveUp].
func Analyze(ctx context.Context, cfg Config) *Result {
	return &Result{}
}
