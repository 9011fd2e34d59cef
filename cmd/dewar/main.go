// Command dewar audits a Flask app, runs and guards it, probes it, and says
// which security promises hold.
package main

import (
	"os"

	"github.com/dewar-security/dewar/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
