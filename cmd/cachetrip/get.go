package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/field"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "fetch a URL through the per-user cache",
		ArgsUsage: "URL",
		Description: "The body goes to standard output, or to a file that is replaced only once the whole body\n" +
			"has arrived. How the response was obtained is said on standard error. Redirects are followed.\n\n" +
			"If the answer's status is 400 or more the exit code is 22, and a file named with -o is left as it is.",
		DisableSliceFlagSeparator: true, // a comma belongs to the field's value
		Flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name: "H", Aliases: []string{"header"},
				Usage: "send this `FIELD`, such as 'Accept: text/html'; may be repeated",
			},
			&cli.StringFlag{
				Name: "o", Aliases: []string{"output"}, TakesFile: true,
				Usage: "write the body to `FILE`, whole or not at all",
			},
			&cli.BoolFlag{
				Name: "v", Aliases: []string{"verbose"},
				Usage: "show on standard error what is sent to the origin (>), what it answers (<), what the cache hands out (=), and why (*)",
			},
			&cli.StringFlag{
				Name: "dir", TakesFile: true, Sources: cli.EnvVars("CACHETRIP_DIR"),
				Usage:       "keep the cache in `DIR`",
				DefaultText: "cachetrip/http in the user's cache directory",
			},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.NArg() != 1 {
				return usagef("get takes one URL, not %d\nRun 'cachetrip get --help' for its options.", c.NArg())
			}
			req, err := newRequest(ctx, c.Args().First(), c.StringSlice("H"))
			if err != nil {
				return err
			}
			return get(req, c.String("dir"), c.String("o"), c.Bool("v"), c.Root().Writer, c.Root().ErrWriter)
		},
	}
}

// newRequest returns a GET request for rawURL that carries fields, each a "Name: value".
func newRequest(ctx context.Context, rawURL string, fields []string) (*http.Request, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, usagef("%w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usagef("%q is not an http or https URL, such as https://example.com/", u.Redacted())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, usagef("%w", err)
	}
	req.Header.Set("User-Agent", "cachetrip/"+strings.Trim(version(), "()"))
	given := make(http.Header)
	for _, line := range fields {
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		// The value is not repeated: it may be a credential.
		if !found || !field.IsToken(name) || strings.ContainsFunc(value, isControl) {
			return nil, usagef("-H %q: not a header field of the form 'Name: value'", name)
		}
		given.Add(name, value)
	}
	for name, values := range given {
		if name == "Host" { // net/http takes it from elsewhere
			req.Host = values[0]
			continue
		}
		req.Header[name] = values
	}
	return req, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// get makes req through the cache in dir, writes the body to the file called output, or to stdout if
// that is empty or "-", and says on stderr what happened.
func get(req *http.Request, dir, output string, verbose bool, stdout, stderr io.Writer) error {
	cache, dir, err := openCache(dir, "http")
	if err != nil {
		return err
	}
	defer func() {
		if err := cache.Close(); err != nil { // the body has arrived all the same
			fmt.Fprintf(stderr, "cachetrip: closing the cache: %v\n", err)
		}
	}()
	client := cache.Client()
	log := &wireLog{}
	if verbose {
		log = &wireLog{w: stderr, base: http.DefaultTransport}
		cache.Base, cache.Logger = log, log.logger()
		client.CheckRedirect = log.checkRedirect
	}
	log.say("* cache directory: %s", dir)

	out, err := createOutput(output, stdout)
	if err != nil {
		return err
	}
	defer out.discard()

	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	log.handedOut(resp)

	refused := resp.StatusCode >= 400
	var w io.Writer = out
	if refused && out.temporary != "" {
		w = io.Discard // an error page is not what the file is for
	}
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return fmt.Errorf("after %s of the body: %w", size(n), err)
	}
	if !refused {
		if err := out.commit(); err != nil {
			return err
		}
	}
	fmt.Fprintf(stderr, "%s, %s; %s\n", resp.Status, size(n), describe(resp))
	if refused {
		return &failure{code: exitHTTP}
	}
	return nil
}
