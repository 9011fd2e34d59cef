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
// and at most four times, the last times widened: a string that grows becomes
// its common beginning and a run of characters. A value has at most eight
// alternatives, a string 32 pieces, a list 64 known elements, a dictionary
// 256 known keys. Calls nest at most 32 deep; a function is run for at most
// 12 different arguments for each entry point. Beyond each bound the value is
// unknown and keeps its labels. An entry point that takes more steps than
// [Config.Steps] is given up and listed in [Result.GaveUp].
//
// The result does not depend on the number of processors.
package pyflow
