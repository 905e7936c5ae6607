package command

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
)

// namedURL is a URL that get fetches, or an id.
type namedURL struct {
	url  string
	list string // the list of URLs that contains it; empty for an argument
	line int    // in the list, from 1
}

// wrong returns err with the place of the URL, if that is in a list.
func (n namedURL) wrong(err error) error {
	if n.list == "" {
		return err
	}
	return fmt.Errorf("%s, line %d: %w", n.list, n.line, err)
}

// urlsOf returns the URLs among the arguments, in the input file, and in
// standard input.
func urlsOf(c *cli.Command) (urls []namedURL, err error) {
	const stdin = "standard input"
	list := "" // the last that was read
	read := func(name string, r io.Reader) error {
		list = name
		lines := bufio.NewScanner(r)
		for n := 1; lines.Scan(); n++ {
			text := lines.Text()
			if n == 1 {
				text = strings.TrimPrefix(text, "\ufeff") // editors on Windows write it
			}
			if text = strings.TrimSpace(text); text != "" && text[0] != '#' {
				urls = append(urls, namedURL{text, name, n})
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("reading URLs from %s: %w", name, err)
		}
		return nil
	}
	for _, arg := range c.Args().Slice() {
		if arg != "-" {
			urls = append(urls, namedURL{url: arg})
		} else if err := read(stdin, c.Root().Reader); err != nil {
			return nil, err
		}
	}
	switch name := c.String("input-file"); name {
	case "":
	case "-":
		err = read(stdin, c.Root().Reader)
	default:
		file, ferr := os.Open(name)
		if ferr != nil {
			return nil, usagef("--input-file: %w", ferr)
		}
		defer file.Close()
		err = read(name, file)
	}
	if err == nil && len(urls) == 0 && list != "" {
		err = usagef("%s: there are no URLs in it", list)
	}
	return urls, err
}
