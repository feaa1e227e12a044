// Package lint holds the rules of the tree that a compiler does not check, as
// tests: who may import whom, how long a file and a function may be, what a
// deterministic core may not call. A rule that must be broken is broken in
// testdata/allowed.txt, with its reason, where a reviewer sees it; an entry that
// no longer applies fails too, so the list only shrinks.
package lint
