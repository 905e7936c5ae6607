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

const completionHelp = `After a shell has read the script, it completes commands and options.

# ~/.bashrc, with the package bash-completion
source <(cachetrip completion bash)

# ~/.zshrc, after compinit
source <(cachetrip completion zsh)

# fish
cachetrip completion fish > ~/.config/fish/completions/cachetrip.fish

# PowerShell: keep it as cachetrip.ps1, and run that in the profile
cachetrip completion pwsh > cachetrip.ps1`

// configureCompletion gives the library's completion command a help text like
// those of the other commands.
func configureCompletion(c *cli.Command) {
	c.Hidden = false
	c.Usage = "print a script for shell completion"
	c.UsageText = "cachetrip completion bash|zsh|fish|pwsh"
	c.Description = completionHelp
	for _, shell := range c.Commands {
		shell.Usage = "print the script for " + shell.Name
		shell.HideHelpCommand = true
	}
}
