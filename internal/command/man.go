package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

func manCommand() *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print the manual page",
		Description: "The page has the help of all commands, for man(1):\n\n" +
			"cachetrip man > ~/.local/share/man/man1/cachetrip.1",
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("man takes no arguments")
			}
			_, err := io.WriteString(c.Root().Writer, manPage(c.Root()))
			return err
		},
	}
}

// manPage returns the manual page of a program, in the macros of man(7). It has
// what --help shows: both come from the same definitions.
func manPage(root *cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" %s\n", quoteMan(strings.ToUpper(root.Name)), quoteMan(root.Name+" "+version()))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", escapeMan(root.Name), escapeMan(root.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", escapeMan(root.UsageText))
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", paragraphs(root.Description))
	b.WriteString(".SH COMMANDS\n")
	variables := make(map[string]string) // the flags that they stand for
	for _, c := range root.Commands {
		if c.Hidden || c.Name == "help" {
			continue
		}
		arguments := c.ArgsUsage
		if c.UsageText != "" {
			arguments = strings.TrimPrefix(c.UsageText, root.Name+" "+c.Name+" ")
		} else if len(c.VisibleFlags()) > 0 {
			arguments = strings.TrimSpace("[options] " + arguments)
		}
		fmt.Fprintf(&b, ".SS %s\n", quoteMan(strings.TrimSpace(root.Name+" "+c.Name+" "+arguments)))
		fmt.Fprintf(&b, "%s.\n.PP\n%s", escapeMan(capital(c.Usage)), paragraphs(c.Description))
		for _, f := range c.VisibleFlags() {
			b.WriteString(manFlag(f))
			if documented, ok := f.(cli.DocGenerationFlag); ok {
				for _, name := range documented.GetEnvVars() {
					variables[name] = "--" + f.Names()[0]
				}
			}
		}
	}
	b.WriteString(".SH ENVIRONMENT\n")
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		fmt.Fprintf(&b, ".TP\n.B %s\nstands for %s, in the commands that have that flag.\n", escapeMan(name), escapeMan(variables[name]))
	}
	fmt.Fprintf(&b, ".TP\n.B NO_COLOR\nturns colours off.\n")
	return b.String()
}

// manFlag returns a flag as an item of a list.
func manFlag(f cli.Flag) string {
	names, usage, _ := strings.Cut(cli.FlagStringer(f), "\t")
	return fmt.Sprintf(".TP\n.B %s\n%s\n", escapeMan(strings.TrimSpace(names)), escapeMan(strings.TrimSpace(usage)))
}

// paragraphs returns a description in paragraphs. Indented lines and commands
// to be copied stay as they are.
func paragraphs(text string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if strings.HasPrefix(paragraph, "#") || strings.HasPrefix(paragraph, "cachetrip ") {
			fmt.Fprintf(&b, ".nf\n%s\n.fi\n.PP\n", escapeMan(paragraph))
		} else if paragraph != "" {
			fmt.Fprintf(&b, "%s\n.PP\n", escapeMan(paragraph))
		}
	}
	return b.String()
}

// escapeMan escapes a text for roff.
func escapeMan(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") { // a request of roff
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// quoteMan returns a text as one argument of a macro.
func quoteMan(text string) string {
	return `"` + strings.ReplaceAll(escapeMan(text), `"`, `\(dq`) + `"`
}

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
