package seclang

import (
	"fmt"
)

// Stats describes the program in one line.
func (p *Program) Stats() string {
	n, sc, as := 0, 0, 0
	for _, ops := range p.phases {
		for _, op := range ops {
			if op.rule == nil {
				as++
				continue
			}
			if op.rule.mark != "" {
				continue
			}
			n++
			if op.rule.scanned {
				sc++
			} else {
				fmt.Print(op.rule.id, " ")
			}
		}
	}
	s := p.scanner
	return fmt.Sprintf("\n%d rules run, %d scanned, %d assigns, %d leaves, %d nodes, %d classes, %d rx, %d funcs", n, sc, as, s.leaves, len(s.nodes), len(s.classes), s.set.Len(), len(s.funcs))
}
