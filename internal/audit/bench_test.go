package audit_test

import (
	"context"
	"os"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
)

// BenchmarkLoad reads the project that DEWAR_BENCH_PROJECT names, or Flask's
// test apps: files, trees and the Flask model.
func BenchmarkLoad(b *testing.B) {
	dir := os.Getenv("DEWAR_BENCH_PROJECT")
	if dir == "" {
		dir = "../flask/testdata/apps"
	}
	b.ReportAllocs()
	var files, lines int
	for b.Loop() {
		p, err := audit.Load(context.Background(), dir, audit.Options{})
		if err != nil {
			b.Fatal(err)
		}
		files, lines = len(p.Files), audit.Run(context.Background(), p, nil, audit.Options{}).Stats.Lines
	}
	b.ReportMetric(float64(files), "files")
	b.ReportMetric(float64(lines), "lines")
}
