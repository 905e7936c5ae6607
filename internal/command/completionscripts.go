package command

import (
	"context"
	_ "embed" // for the scripts
	"io"

	"github.com/urfave/cli/v3"
)

var (
	//go:embed scripts/completion.bash
	scriptBash string
	//go:embed scripts/completion.zsh
	scriptZsh string
	//go:embed scripts/completion.fish
	scriptFish string
	//go:embed scripts/completion.ps1
	scriptPowerShell string
)

// completionScripts are the scripts for the shells.
var completionScripts = []struct{ shell, alias, script string }{
	{"bash", "", scriptBash},
	{"zsh", "", scriptZsh},
	{"fish", "", scriptFish},
	{"powershell", "pwsh", scriptPowerShell},
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script for shell completion",
		UsageText: "cachetrip completion bash|zsh|fish|powershell",
		Description: `After a shell has read the script, it completes commands, options, and what is stored: hosts, ids and URLs.

# ~/.bashrc
source <(cachetrip completion bash)

# ~/.zshrc, after compinit
source <(cachetrip completion zsh)

# fish
cachetrip completion fish > ~/.config/fish/completions/cachetrip.fish

# PowerShell, in the profile
cachetrip completion powershell | Out-String | Invoke-Expression`,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Len() != 1 {
				return usagef("completion takes the name of a shell: bash, zsh, fish or powershell")
			}
			for _, s := range completionScripts {
				if name := c.Args().First(); name == s.shell || name == s.alias {
					_, err := io.WriteString(c.Root().Writer, s.script)
					return err
				}
			}
			return usagef("there is no script for %q; the shells are bash, zsh, fish and powershell", c.Args().First())
		},
	}
}
