package command

import (
	"cmp"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// screen is where something is written, and what it can show.
type screen struct {
	io.Writer
	terminal bool // somebody looks at it
	moves    bool // the cursor can be moved
	colours  bool
	width    int // in columns; 0 if lines have no end
}

// newScreen looks at w. Everything that is not a terminal gets plain text.
func newScreen(w io.Writer) *screen {
	s := &screen{Writer: w}
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s
	}
	s.terminal = true
	s.width, _, _ = term.GetSize(int(file.Fd()))
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		s.width = columns
	}
	s.width = cmp.Or(s.width, 80)
	s.moves = os.Getenv("TERM") != "dumb" && enableEscapes(file)
	s.colours = s.moves && os.Getenv("NO_COLOR") == ""
	return s
}

const (
	bold   = "1"
	faint  = "2"
	green  = "32"
	yellow = "33"
)

// paint returns text in a colour, if the screen has any.
func (s *screen) paint(colour, text string) string {
	if !s.colours || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// fit cuts text to n columns, if lines have an end.
func (s *screen) fit(text string, n int) string {
	if runes := []rune(text); s.width > 0 && len(runes) > n {
		return string(runes[:max(n-1, 0)]) + "…"
	}
	return text
}

// wrap breaks text into lines that fit the screen, all but the first indented by n columns.
func (s *screen) wrap(text string, n int) string {
	if s.width == 0 {
		return text
	}
	var b strings.Builder
	column := n
	for i, word := range strings.Fields(text) {
		length := len([]rune(word))
		switch {
		case i == 0:
		case column+1+length > s.width:
			b.WriteString("\n" + strings.Repeat(" ", n))
			column = n
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}

// printable returns text without what could make a terminal do something: header fields come from
// anywhere.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}
