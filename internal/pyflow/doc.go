// Package pyflow runs a Python project on hostile input, abstractly.
//
// [Analyze] loads every module as Python would, in the order of its imports,
// then calls every entry point (views, hooks, tasks) and every function that
// nothing else called, over abstract values: constants, strings with known
// parts, containers by key and index, objects by field, functions, classes,
// and what came from outside with a [Label]. A condition on known values
// chooses one branch; on unknown ones both are run and joined. What a
// condition says about a value holds in its branch: that it is one of these,
// begins so, has only such characters.
//
// The package knows Python and no vulnerability. What a library does is told
// by facts, one line each (see [ParseFacts]), and by models in Python (see
// [Config.Models]). Where a fact says that a call is of interest, the result
// has a [Hit] with the values as they may be there.
//
// # Bounds
//
// Loops over known values run at most 64 times, others until nothing changes
// and at most three times (while: four), the last ones widened: a string that
// grows becomes its common beginning and a run of characters. A value has at
// most eight alternatives (24 if all are constant), a string 32 pieces, a
// list 64 known elements, a dictionary 256 known keys. Calls nest at most 32
// deep and a function calls itself at most twice (five times where it counts
// known numbers); it is run for at most 12 different arguments that are
// remembered (one of a model for more, a small one for more up to 30,000
// steps), then with arguments of which only the labels are kept, then no more.
// Beyond each bound the value is unknown and keeps its labels. When an entry
// point has taken a sixteenth of [Config.Steps] (a view a fortieth), calls that
// nothing from outside is given to are no longer entered, unless they are tiny.
// A function that nothing calls has a third of the steps; after a third of
// those, calls with nothing but what the app has stored are not entered, either.
// What takes all its steps is given up and listed in [Result.GaveUp].
//
// # What is guessed
//
// An exception is taken to come from anywhere in a try. What comes back from
// a call of which nothing is known carries the labels of its arguments, with
// "guess" in their [Harmless]. A generator is run to its end when it is
// called. Threads, async tasks and signals run where they are made, threads that
// are started with the program once more when the requests have run. Code that
// eval or exec makes is not run. A file is told from others by the folder that
// its path begins with.
//
// The result does not depend on the number of processors.
package pyflow
