// Package rxset answers for many regular expressions over one value at once:
// which of them match, exactly as Go's regexp would say run one by one. It is
// what a web application firewall asks some hundred times for each request.
//
//	set, err := rxset.Compile([]rxset.Pattern{
//		{Expr: `(?i)union\s+select`}, // as Coraza's @rx reads it
//		{Expr: `^[^/]+$`},
//		rxset.PM("sleep( benchmark("), // @pm
//	})
//	found := set.NewBits()
//	set.Match(value, nil, found)
//	for i := range found.All() {
//		fmt.Println(i, set.Submatch(i, value))
//	}
//
// Match takes the numbers of the patterns to ask for, so that one set serves
// all kinds of values, and adds to what has been found already. A negated
// operator is what was asked for without what was found. A Set is safe for
// concurrent use, and what it has seen before costs no memory.
//
// # What is exact
//
// For [Text] the answer is that of regexp.MatchString, for [Bytes] that of
// rsc.io/binaryregexp, for [Rx] that of Coraza 3.8.1's operator @rx, which
// chooses between the two and sets (?sm): a byte of broken UTF-8 is U+FFFD,
// (?i)k is the Kelvin sign, too, ^ and \b see what Go's see. For [Phrases] it
// is whether one of them stands in the value, ASCII letters of either case
// being the same; that is also what Coraza's @pm and @pmFromFile answer,
// unless a phrase is empty (two spaces in a row): its library overlooks the
// empty phrase in some values, this package never does. Tests compare all
// patterns of the Core Rule Set, and patterns made by a grammar, with Go over
// texts made from the patterns' own trees, broken UTF-8 and what fuzzing
// finds, and Rx and PM with Coraza.
//
// # How
//
// A value is read once: as symbols (characters, those beyond ASCII in as few
// classes as the patterns tell apart), with the kinds of symbols noted. The
// filter then rules patterns out: too short a value, no symbol of a set that
// every match has one of, none of the strings that every match has one of. It
// looks for all strings, phrases included, in one pass by four letters of
// each. What is left is run by automata of up to 30 patterns each, made from
// the patterns' programs as values need their states, four side by side. There
// what may be repeated more than 15 times may be repeated for ever; such a
// pattern, if it seems to match, is asked again by an automaton of its own,
// that counts. A pattern that is too long for one, or that tells more
// characters apart than there are symbols, is left to Go's regexp.
//
// # Bounds
//
// Time is linear in the length of the value, whatever the value: a symbol
// costs each automaton a step in its table, or, if nobody has been there
// before, one step of all threads of its programs. Values that lead to states
// that nobody has seen are slower, therefore, but never slower than simulating
// the programs. Memory is bounded: the tables of all automata together take no
// more than 12 MB, of one no more than 1 MB, and are thrown away when full; a
// group of patterns whose table is full within seconds is split in two, for
// ten minutes. The last state of an old table dies with the calls that still
// use it.
//
// For the 316 patterns of the Core Rule Set 4.25 (5,891 phrases), processor
// time on one busy core: browsers' header values 15 ns per byte (470 ns a
// value), form fields 11 ns (500 ns a value), strings of JSON 15 ns (210 ns a
// value), 100 KB of HTML 15 ns, 100 KB of prose 55 ns; a value that the filter
// decides 20 to 40 ns. Go's regexp, run one by one without the phrases, takes
// 11 to 19 µs per byte for the same. Values of pieces of attacks on all
// patterns, none seen before: 3 to 4 µs per byte for 4 KB, 0.4 µs for 100 KB,
// and up to 15 µs per byte for single values of a hundred bytes. Compile takes
// 0.2 s and 7 MB; with full tables the set takes 15 MB.
// [Set.Submatch] keeps Go's regexp of each pattern that it was asked for.
package rxset
