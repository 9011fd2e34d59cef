// Package seclang runs the rules of a Coraza instance, compiled.
//
// [Load] reads the compiled rules out of Coraza, decides beforehand what is
// the same for every request (the Core Rule Set's defaults, its paranoia
// levels), and collects what the rules look for into one scanner: the
// transformations they share as a tree, the patterns as one [rxset.Set]. A
// [Transaction] then collects a request's variables as Coraza does, scans each
// value once, and evaluates in Coraza's order the few rules for which anything
// was found, with Coraza's own operators and transformations and the same
// effects: captures, TX variables, chains, skips, ctl, scores.
//
// Coraza stays the reference. Whatever is not modelled exactly, be it an
// operator, a variable, an action, or a rule whose outcome Coraza leaves to
// chance (it keeps arguments in maps, and a chain may look at the last of
// several matches), ends a transaction with [Transaction.Unsure], and the
// caller asks Coraza. [Program.Gaps] lists the rules that do so for every
// request that reaches them.
package seclang
