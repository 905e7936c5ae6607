package command

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v3"
)

func headerFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name: "H", Aliases: []string{"header"},
		Usage: "send this `FIELD`, such as 'Accept: text/html'; 'Name;' sends it empty, 'Name:' removes it; may be repeated",
	}
}

// requestKindFlags say what is requested, and how.
func requestKindFlags() []cli.Flag {
	return []cli.Flag{
		headerFlag(),
		&cli.StringFlag{Name: "A", Aliases: []string{"user-agent"}, Usage: "send `NAME` as User-Agent; '' sends none"},
		&cli.BoolFlag{Name: "I", Aliases: []string{"head"}, Usage: "request only the header, by HEAD, and write it to the output"},
		&cli.BoolFlag{Name: "i", Aliases: []string{"include"}, Usage: "write the header before the body, as it came; the headers of redirects come first"},
		&cli.BoolFlag{Name: "k", Aliases: []string{"insecure"}, Usage: "do not verify the server's certificate; implies --no-store: uses nothing that is stored, and stores nothing that a later run could serve"},
		&cli.BoolFlag{Name: "L", Aliases: []string{"location"}, Usage: "follow redirects, which is the default"},
		&cli.BoolFlag{Name: "f", Aliases: []string{"fail"}, Usage: "if the status is 400 or more, write nothing to standard output either"},
		&cli.BoolFlag{Name: "S", Aliases: []string{"show-error"}, Hidden: true, Usage: "the default, as in curl -fsSL"},
		&cli.BoolFlag{Name: "compressed", Hidden: true, Usage: "the default, as in curl --compressed"},
		&cli.StringFlag{Name: "timeout", Usage: "give up if the server sends nothing for `DURATION`, such as 30s; 0 waits for ever"},
		&cli.IntFlag{Name: "retry", Usage: "try up to `N` times more after a broken connection, a timeout, or a 408, 429, 500, 502, 503 or 504; waits 1s, 2s, 4s and so on, or as Retry-After says"},
	}
}

// outputFlags say where the bodies go.
func outputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "o", Aliases: []string{"output"}, TakesFile: true,
			Usage: "write the body to `FILE`, whole or not at all; - is standard output, even for a binary body on a terminal",
		},
		&cli.BoolFlag{
			Name: "O", Aliases: []string{"remote-name"},
			Usage: "write each body to a file named as the last part of its URL",
		},
		&cli.StringFlag{
			Name: "output-dir", TakesFile: true,
			Usage: "with -O, write the files to `DIR`",
		},
		&cli.BoolFlag{Name: "create-dirs", Usage: "make the directories for -o and --output-dir"},
		&cli.StringFlag{
			Name: "input-file", TakesFile: true,
			Usage: "fetch the URLs in `FILE`, one a line; - is standard input",
		},
		&cli.IntFlag{
			Name: "j", Aliases: []string{"parallel"}, Value: 1,
			Usage: "with -O, fetch up to `N` URLs at a time",
		},
		&cli.BoolFlag{
			Name: "q", Aliases: []string{"quiet", "s", "silent"},
			Usage: "write only errors to standard error",
		},
		&cli.BoolFlag{
			Name: "v", Aliases: []string{"verbose"},
			Usage: "show on standard error requests to the origin (>), its responses (<), responses from the cache (=), and reasons (*)",
		},
		showQueryFlag(),
		&cli.StringFlag{
			Name:        "max-size",
			Usage:       "keep the cache within `SIZE`, such as 500MB or 2GiB, by removing the least recently used responses",
			DefaultText: "1GiB",
		},
		dirFlag(),
	}
}

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "fetch URLs through the per-user cache",
		ArgsUsage: "URL|ID...",
		Description: "Writes the bodies to standard output, one after the other, or to files. A file is replaced only when\n" +
			"the whole body has arrived. Standard error says how each response was obtained. Redirects are\n" +
			"followed. A URL without a scheme is https, or http on localhost and loopback addresses. An ID, which\n" +
			"ls prints, is the URL of that response, with the fields that select it. As a URL, - reads URLs from\n" +
			"standard input. Lines that begin with # are skipped.\n\n" +
			"If a transfer breaks off or is interrupted, the same command resumes it if the origin allows that.\n\n" +
			"If an origin allows stale-while-revalidate, a stale response is written at once. The program then\n" +
			"waits for the revalidation for up to 2s. If it takes longer, the next run does it.\n\n" +
			"If a response's status is 400 or more, the exit code is 22 and the file stays as it is. With\n" +
			"--offline, the exit code is 3 if the cache has no usable response.\n\n" +
			"--offline, --force-cache, --no-cache, --reload and --no-store are the cache modes of the Fetch\n" +
			"standard. With --offline, --max-stale limits for how long a response may have been stale.",
		DisableSliceFlagSeparator: true, // a comma is part of the field's value
		Flags:                     slices.Concat(requestKindFlags(), modeFlags(), []cli.Flag{maxAgeFlag()}, outputFlags()),
		Action: func(ctx context.Context, c *cli.Command) error {
			g := &getting{
				quiet: c.Bool("q"), verbose: c.Bool("v"), showQuery: c.Bool("show-query"), parallel: c.Int("j"),
				withHeader: c.Bool("i") || c.Bool("I"), fails: c.Bool("f"), insecure: c.Bool("k"), retries: c.Int("retry"),
				stdout: c.Root().Writer, stderr: newScreen(c.Root().ErrWriter), own: ownOf(ctx),
			}
			if err := g.plan(ctx, c); err != nil {
				return err
			}
			var maxBytes int64
			if text := c.String("max-size"); text != "" {
				var err error
				if maxBytes, err = parseSize(text); err != nil {
					return usagef("--max-size: %w", err)
				}
			}
			return g.run(ctx, c.String("dir"), maxBytes)
		},
	}
}

// plan reads the flags and arguments.
func (g *getting) plan(ctx context.Context, c *cli.Command) error {
	urls, err := urlsOf(c)
	if err != nil {
		return err
	}
	for _, u := range urls {
		g.own.add(u.url)
	}
	if err := g.check(c, len(urls)); err != nil {
		return err
	}
	how, err := useOf(c)
	if err != nil {
		return err
	}
	method := http.MethodGet
	if c.Bool("I") {
		method = http.MethodHead
	}
	fields := c.StringSlice("H")
	if c.IsSet("A") { // to nothing: no User-Agent
		fields = append(fields[:len(fields):len(fields)], "User-Agent: "+c.String("A"))
	}
	var cache *cache // only for ids
	if slices.ContainsFunc(urls, func(u namedURL) bool { return isID(u.url) }) {
		if cache, err = openExisting(c); err != nil {
			return err
		}
		defer cache.Close()
	}
	taken := make(map[string]string)
	for _, named := range urls {
		rawURL, request := named.url, newRequest
		if isID(rawURL) {
			request = cache.requestByID
		}
		req, err := request(how.context(ctx), method, rawURL, fields)
		if err != nil {
			return named.wrong(err)
		}
		how.mark(req)
		to := &target{req: req, output: c.String("o")}
		if c.Bool("O") {
			name, err := remoteName(req.URL)
			if err != nil {
				return named.wrong(err)
			}
			to.output = filepath.Join(c.String("output-dir"), name)
			if other, ok := taken[strings.ToLower(name)]; ok && other != rawURL {
				return usagef("%s and %s would both be written to %s; fetch one of them with -o", other, rawURL, to.output)
			}
			taken[strings.ToLower(name)] = rawURL
		}
		g.targets = append(g.targets, to)
	}
	return g.prepareDir(c)
}

// check checks the flags of get.
func (g *getting) check(c *cli.Command, urls int) (err error) {
	const help = "\nRun 'cachetrip get --help' for its options."
	output, named := c.String("o"), c.Bool("O")
	switch {
	case urls == 0:
		return usagef("get takes one URL or more, not 0" + help)
	case c.Count("o") > 1:
		return usagef("-o is given %d times, but is for one URL; -O names a file for each"+help, c.Count("o"))
	case output != "" && output != "-" && urls > 1:
		return usagef("-o is for one URL, not %d; -O names a file for each"+help, urls)
	case output != "" && named:
		return usagef("-o and -O exclude each other" + help)
	case c.String("output-dir") != "" && !named:
		return usagef("--output-dir needs -O" + help)
	case g.parallel < 1:
		return usagef("-j %d: at least one at a time"+help, g.parallel)
	case g.parallel > 1 && !named:
		return usagef("-j needs -O: on standard output bodies come one after the other" + help)
	case g.retries < 0:
		return usagef("--retry %d: not a number of times"+help, g.retries)
	}
	if text := c.String("timeout"); text != "" {
		if g.timeout, err = parseSeconds(text); err != nil {
			return usagef("--timeout: %w", err)
		}
	}
	return nil
}

// prepareDir makes the directory for the output, if it is missing and the user
// wants that. So a missing directory is one error, and not one for each URL.
func (g *getting) prepareDir(c *cli.Command) error {
	dir := filepath.Dir(g.targets[0].output)
	if out := g.targets[0].output; out == "" || out == "-" {
		return nil
	}
	if c.Bool("create-dirs") {
		return os.MkdirAll(dir, 0o777)
	}
	switch info, err := os.Stat(dir); {
	case os.IsNotExist(err):
		return fmt.Errorf("cannot write a file in %s: there is no such directory; --create-dirs makes it", dir)
	case err != nil:
		return fmt.Errorf("cannot write a file in %s: %w", dir, err)
	case !info.IsDir():
		return usagef("cannot write a file in %s: it is not a directory", dir)
	}
	return nil
}

// remoteName returns a file name for u: the last part of its path.
func remoteName(u *url.URL) (string, error) {
	name := path.Base(u.Path)
	if strings.HasSuffix(u.Path, "/") || u.Path == "" {
		name = "index.html"
	}
	// Origins choose URLs, so the name must not point into another directory.
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, isControl) || strings.HasPrefix(name, ".") {
		return "", usagef("%q is no name for a file; name one with -o", name)
	}
	return name, nil
}
