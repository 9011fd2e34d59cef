package rxset_test

import (
	"fmt"

	"github.com/dewar-security/dewar/internal/rxset"
)

func Example() {
	set, err := rxset.Compile([]rxset.Pattern{
		{Expr: `(?i)union\s+select`}, // as Coraza's @rx reads it
		{Expr: `^[^/]+$`},
		{Expr: `drop\s+table`},
		rxset.PM("sleep( benchmark("), // @pm
	})
	if err != nil {
		panic(err)
	}
	value := "1 UNION  SELECT sleep(1)"
	found := set.NewBits()
	set.Match(value, nil, found)
	for i := range found.All() {
		at := set.Submatch(i, value)
		fmt.Printf("%d %q\n", i, value[at[0]:at[1]])
	}
	// Output:
	// 0 "UNION  SELECT"
	// 1 "1 UNION  SELECT sleep(1)"
	// 3 "sleep("
}
