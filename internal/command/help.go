package command

import (
	"bytes"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// The library takes parts of its help texts from package variables.
func init() {
	cli.UsageCommandHelp = "show all commands, or the help of one"
	cli.HelpPrinter = func(w io.Writer, templ string, data any) {
		var text bytes.Buffer
		cli.HelpPrinterCustom(&text, templ, data, nil)
		io.WriteString(w, newScreen(w).flow(text.String()))
	}
	stringify := cli.FlagStringer
	cli.FlagStringer = func(f cli.Flag) string {
		names, usage, _ := strings.Cut(stringify(f), "\t")
		names, _, _ = strings.Cut(names, " [ ") // the library repeats the flag if it may be given more than once
		return names + "\t" + usage
	}
}
