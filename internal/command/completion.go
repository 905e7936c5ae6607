package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// The scripts of all shells run the program to complete a line: "cachetrip
// __complete", the words before the cursor, and "=" with the word at the
// cursor. The sign keeps an empty word from being lost. The program writes a
// proposal on each line, with a tab and a description if it has one. If it
// proposes nothing, the shell proposes files.

const (
	completeWord = "__complete"

	// completeTime limits how long the store is searched, because the user waits.
	completeTime = 300 * time.Millisecond

	// mostIDs is how many ids are proposed. More would help nobody.
	mostIDs = 100
)

// completion proposes words for the end of a line.
type completion struct {
	root    *cli.Command
	current string // the word to complete
	lines   []string
	seen    map[string]bool
	values  map[string]string // of the flags before the current word
}

// complete writes the proposals for a line. It has no errors: nobody could read
// them.
func complete(ctx context.Context, root *cli.Command, words []string, w io.Writer) {
	if len(words) == 0 {
		return
	}
	last := len(words) - 1
	c := &completion{root: root, current: strings.TrimPrefix(words[last], "="), seen: make(map[string]bool), values: make(map[string]string)}
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	c.line(ctx, words[:last])
	for _, line := range c.lines {
		fmt.Fprintln(w, line)
	}
}

// propose adds a word if it continues the current one.
func (c *completion) propose(word, description string) {
	if !strings.HasPrefix(word, c.current) || c.seen[word] {
		return
	}
	c.seen[word] = true
	if description = strings.Join(strings.Fields(description), " "); description != "" {
		word += "\t" + description
	}
	c.lines = append(c.lines, word)
}

// line proposes words after those before.
func (c *completion) line(ctx context.Context, before []string) {
	if len(before) == 0 {
		c.commands()
		c.propose("help", cli.UsageCommandHelp)
		c.flags(c.root)
		return
	}
	command := c.root.Command(before[0])
	if command == nil {
		if before[0] == "help" && len(before) == 1 {
			c.commands()
		}
		return
	}
	flag, ended := c.read(&flags{of: command}, before[1:])
	name, value, attached := strings.Cut(c.current, "=")
	switch {
	case flag != "":
		c.value(ctx, flag)
	case ended:
		c.argument(ctx, command.Name)
	case attached && strings.HasPrefix(name, "--"):
		c.current = value
		c.value(ctx, name[2:])
		for i, line := range c.lines {
			c.lines[i] = name + "=" + line
		}
	case strings.HasPrefix(c.current, "-"):
		c.flags(command)
	default:
		c.argument(ctx, command.Name)
	}
}

func (c *completion) commands() {
	for _, command := range c.root.VisibleCommands() {
		c.propose(command.Name, command.Usage)
	}
}

// read reads the values of flags. It returns the flag whose value comes next,
// and whether no flags can follow.
func (c *completion) read(f *flags, words []string) (flag string, ended bool) {
	for _, word := range words {
		switch {
		case flag != "":
			c.values[flag], flag = word, ""
		case word == "--":
			return "", true
		case strings.HasPrefix(word, "--"):
			name, value, attached := strings.Cut(word[2:], "=")
			if _, takesValue := f.find(name); takesValue && !attached {
				flag = name
			}
			c.values[name] = value
		case strings.HasPrefix(word, "-"):
			if _, last, err := f.unbundle(word); err == nil {
				flag = strings.TrimPrefix(last, "-")
			}
		}
	}
	return flag, false
}

// flags proposes the flags of a command: their long names, if they have one.
func (c *completion) flags(of *cli.Command) {
	if !strings.HasPrefix(c.current, "-") {
		return
	}
	for _, flag := range of.VisibleFlags() {
		name := flag.Names()[0]
		for _, other := range flag.Names() {
			if len(name) == 1 {
				name = other
			}
		}
		usage := ""
		if documented, ok := flag.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(documented.GetUsage(), "`", "")
		}
		c.propose(strings.Repeat("-", min(len(name), 2))+name, usage)
	}
	c.propose("--help", "show help")
}

// value proposes values of a flag.
func (c *completion) value(ctx context.Context, flag string) {
	switch flag {
	case "sort":
		for _, key := range sortKeys {
			c.propose(key, "")
		}
	case "max-stale":
		c.propose("any", "")
	case "host":
		c.stored(ctx, false, func(host, _ string) string { return host })
	}
}

// argument proposes arguments of a command.
func (c *completion) argument(ctx context.Context, command string) {
	switch command {
	case "completion":
		for _, script := range completionScripts {
			c.propose(script.shell, "")
		}
	case "ls", "purge":
		c.stored(ctx, true, func(host, _ string) string { return host })
	case "show", "explain", "get":
		// As with directories: first the host, then what it has.
		c.stored(ctx, true, func(host, url string) string {
			if strings.Contains(c.current, "/") || strings.HasPrefix(c.current, "http") {
				return url
			}
			return host + "/"
		})
	}
}

// plainWord matches words that no shell takes for anything else. Origins choose
// URLs, and a shell may insert a proposal as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:/%@,+-]+$`)

// stored proposes what is stored: ids, if the caller wants them, and what word
// returns for the host and the URL of each response. The URL is as short as the
// user may type it.
func (c *completion) stored(ctx context.Context, ids bool, word func(host, url string) string) {
	cache, err := c.openCache()
	if err != nil {
		return
	}
	defer cache.Close()
	prefix := "" // of keys
	if ids && isID(c.current) {
		prefix = c.current[:idKeyDigits]
	}
	urls := make(map[string]string) // by id
	for e, err := range cache.kept.All(ctx, prefix) {
		if err != nil {
			break
		}
		if e.IsNote() {
			continue
		}
		host, url := hostOf(e.URL), e.URL
		if short := strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://"); !strings.HasPrefix(c.current, "http") {
			if u, err := parseURL(short); err == nil && u.String() == url {
				url = short
			}
		}
		if proposal := word(host, url); plainWord.MatchString(proposal) {
			c.propose(proposal, "")
		}
		if id := idOf(e)[:idShown]; ids && strings.HasPrefix(id, c.current) {
			urls[id] = e.Method + " " + printable(redact.URL(e.URL, false))
		}
	}
	if len(urls) <= mostIDs {
		for _, id := range slices.Sorted(maps.Keys(urls)) {
			c.propose(id, urls[id])
		}
	}
}

// openCache opens the cache that the line names.
func (c *completion) openCache() (*cache, error) {
	dir, given := c.values["dir"]
	if !given {
		dir = os.Getenv("CACHETRIP_DIR")
	}
	dir = strings.Trim(dir, `'"`)
	if rest, found := strings.CutPrefix(dir, "~/"); found { // bash has not expanded it
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(home, rest)
	}
	if _, elsewhere := c.values["store"]; elsewhere || openStore != nil && os.Getenv("CACHETRIP_STORE") != "" {
		return nil, usagef("a server may be slow")
	}
	return openDir(dir)
}
