package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Command is something that an operator can ask a layer of the running guard
// to do: "dewar ban add 203.0.113.9". The layer is an [Operator].
type Command struct {
	// Name is a group and a verb: "ban add". No two layers share one.
	Name string
	// Does says in one sentence what it does.
	Does string
	// Args in their order on the command line; those that may be left out
	// are flags (--for 1h) there.
	Args []Arg
	// Changes is set unless it only looks.
	Changes bool
}

// Arg is one argument of a [Command].
type Arg struct {
	Name     string // "address"
	Does     string // half a sentence
	Optional bool
}

// An Operator is a Layer with commands: those of its [Spec].
type Operator interface {
	Layer
	// Operate runs a command. args holds every argument that is not optional,
	// and those that were given of the others. What it returns is encoded as
	// JSON; a slice of flat structs is shown as a table. An error is shown to
	// the operator.
	Operate(ctx context.Context, command string, args map[string]string) (any, error)
}

// ErrNoCommand says that no layer that is in force knows a command.
var ErrNoCommand = errors.New("no such command")

// Operate runs a command of one of the layers. Arguments that the command does
// not have, or that are missing, are errors that name them; a layer that is
// off has no commands.
func (c *Chain) Operate(ctx context.Context, command string, args map[string]string) (any, error) {
	for i := range c.layers {
		l := &c.layers[i]
		j := slices.IndexFunc(l.Spec.Commands, func(k Command) bool { return k.Name == command })
		if j < 0 {
			continue
		}
		operator, ok := l.Layer.(Operator)
		if !ok {
			return nil, fmt.Errorf("%s: layer %s is off", command, l.Spec.Name)
		}
		for _, a := range l.Spec.Commands[j].Args {
			if args[a.Name] == "" && !a.Optional {
				return nil, fmt.Errorf("%s: %s is missing: %s", command, a.Name, a.Does)
			}
		}
		for name := range args {
			if !slices.ContainsFunc(l.Spec.Commands[j].Args, func(a Arg) bool { return a.Name == name }) {
				return nil, fmt.Errorf("%s: there is no argument %q", command, name)
			}
		}
		return operator.Operate(ctx, command, args)
	}
	return nil, fmt.Errorf("%w: %q", ErrNoCommand, command)
}
